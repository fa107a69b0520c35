"""The bundle as a web page.

`launch.py` starts it, `page.py` is the page from top to bottom, `scans.py` its uploads and examples, `texts.py` its
texts, `slice_view.py` shows a slice, which `picture.py` draws, `volume_view.py` and `viewer/` a volume in NiiVue,
`report_sheet.py` makes the PDF. States and thresholds come from the predictor; the page makes no decisions of its own.
"""
