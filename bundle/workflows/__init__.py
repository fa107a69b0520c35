"""Runs of several steps: the three training stages, the pipeline, cross-validation and ablation plans, scoring."""
