"""The evaluation report: results collected from runs, targets, charts, the page's template."""
