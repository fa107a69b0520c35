"""Data sets: synthetic phantoms, downloads of the open data sets."""
