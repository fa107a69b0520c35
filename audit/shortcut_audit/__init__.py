"""Test an image classifier for shortcuts, from its predictions and the files alone; needs no torch."""

__all__ = ["__version__"]
__version__ = "0.1.0"
