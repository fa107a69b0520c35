"""Compare two dates of one patient: registration, change of volume, and how much of it may be noise."""
