"""From a scan to a prediction: inferers, decision thresholds, out-of-distribution score, postprocessing."""
