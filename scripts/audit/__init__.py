"""The shortcut audit of a classifier, and the evaluation of its class activation maps (CAM)."""
