"""The multi-task U-Net, baseline networks, weights and checkpoints, class activation maps."""
