"""Scores of predictions against references: metrics, intervals, calibration, reports, overlay figures."""
