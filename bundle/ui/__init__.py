"""The bundle as a web page.

`launch.py` starts it, `page.py` is the page from top to bottom, `texts.py` its texts, `drawing.py` its images,
`report_sheet.py` the PDF. States and thresholds come from the predictor; the page makes no decisions of its own.
"""
