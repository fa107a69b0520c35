"""The bundle as a web page for a person with a scan.

`launch.py` starts it, `page.py` is what is seen from top to bottom, `words.py` what is said, `drawing.py` what is
drawn, `paper.py` the sheet to take away. The page decides nothing: states and thresholds come from the predictor.
"""
