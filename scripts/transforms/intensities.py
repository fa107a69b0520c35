"""The intensities of the network's input: standard deviations of the foreground in a range, one value for all else."""

__all__ = ["BACKGROUND", "BRIGHTEST", "DARKEST", "TISSUE"]

BACKGROUND, DARKEST, BRIGHTEST = -4.0, -3.9, 5.0
TISSUE = (BACKGROUND + DARKEST) / 2  # tissue is above, background below
