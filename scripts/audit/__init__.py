"""Tests of whether a classifier uses shortcuts, and of whether its Grad-CAM maps point at the tumor."""
