"""The multi-task U-Net, the networks that it is compared with, loading and saving of weights, Grad-CAM."""
