"""Scores of predictions against the truth: metrics, intervals, calibration, reports, overlay pictures."""
