"""The evaluation report: collected results, targets, charts, template, and the README's table of scores."""
