"""MONAI transforms from a decoded scan to what the network sees, and edits of images for audit and training."""
