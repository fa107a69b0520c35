"""The shortcut audit of a classifier, its class activation maps (CAM), and scores of corrupted or incomplete scans."""
