"""MONAI transforms from a decoded scan to the network's input, and edits of images for audit and training."""
