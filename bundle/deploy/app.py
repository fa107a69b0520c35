"""A MONAI Deploy application: reads a study, writes DICOM SEG and DICOM SR for its FLAIR series.

For a network of several sequences every MR series of the study is selected, and the first of each sequence is read.

    python bundle/deploy/app.py -i STUDY -o PREDICTIONS -m BUNDLE            # the packed folder
    python bundle/deploy/app.py -i STUDY -o PREDICTIONS -m BUNDLE/models/model.ts

It imports nothing of `bundle`: MONAI Deploy packs only this folder and a MONAI bundle. See docs/how-to/other_tools.md.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application
from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator
from operators import BundleOperator, WriteFilesOperator, modalities_of

SERIES = os.environ.get("SERIES_DESCRIPTION")  # pattern that selects series of the study


def rules(pattern: str) -> str:
    """Rules of the series selector, JSON."""
    conditions = {"Modality": "(?i)MR", "SeriesDescription": pattern}
    return json.dumps({"selections": [{"name": "series to predict", "conditions": conditions}]})


class BrainTumorApp(Application):
    """Load a study, select a series, predict, write."""

    def compose(self) -> None:
        """Connect the operators."""
        context = Application.init_app_context(self.argv)
        model, inputs, outputs = Path(context.model_path), Path(context.input_path), Path(context.output_path)
        load = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=inputs, name="load")
        several = len(modalities_of(model)) > 1
        pattern = SERIES or (".*" if several else "(?i).*flair.*")
        select = DICOMSeriesSelectorOperator(self, rules=rules(pattern), all_matched=several, name="select")
        prediction = BundleOperator(self, model=model, name="prediction")
        write = WriteFilesOperator(self, folder=outputs, name="write")
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, prediction, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(prediction, write, {("files", "files")})


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    try:
        BrainTumorApp().run()
    except (ValueError, OSError) as error:  # bad input, in one line
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
