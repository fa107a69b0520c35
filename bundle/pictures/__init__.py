"""Pictures of predictions: outlines, letters and scale bars on slices, and sizes in words."""
