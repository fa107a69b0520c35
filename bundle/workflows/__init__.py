"""Workflows of several steps: training stages, pipeline, cross-validation and ablation plans, evaluation."""
