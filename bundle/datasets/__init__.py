"""Data to start from: synthetic phantoms, downloads of the open data sets."""
