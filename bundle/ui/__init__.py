"""The bundle as a web page.

`launch.py` starts it, `page.py` is the page from top to bottom, `scans.py` its uploads and examples, `texts.py` its
texts, `picture.py` a slice, `volume_view.py` and `viewer/` a volume in NiiVue, `report_sheet.py` the PDF. States and
thresholds come from the predictor; the page makes no decisions of its own.
"""
