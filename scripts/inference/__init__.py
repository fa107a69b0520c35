"""From a scan to a prediction: inferers, thresholds, out-of-distribution score, postprocessing."""
