"""Encode predictions: JSON with images in base64, or a zip of files."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

from ..intake import MemoryFile
from ..pictures.views import most_suspicious, png, slice_of
from ..predictor import Predictor, Turn

__all__ = ["PredictionResponse", "response_of"]

PICTURES = {"pred": "mask", "cam": "cam", "mask_deviation": "mask_deviation"}  # by item of the prediction
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the same prediction gives the same bytes


@dataclass(frozen=True)
class PredictionResponse:
    """The prediction of one scan.

    Args:
        result: JSON, see `scripts/inference/postprocessing.py`.
        files: contents by name, see `Predictor.files`.
        pictures: PNGs by name; of a volume, of its slice with the highest probability.
        shown_slice: index of this slice along the file's slice axis; None for an image.
        dicom: the mask as DICOM SEG, if requested.
    """

    result: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    shown_slice: int | None = None
    dicom: bytes | None = None

    def json(self) -> dict[str, Any]:
        """The service's JSON, with images in base64."""
        pictures = {name: base64.b64encode(content).decode() for name, content in self.pictures.items()}
        return {**self.result, "shown_slice": self.shown_slice, "pictures": pictures}

    def zip(self) -> bytes:
        """A zip of prediction.json and the files."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            text = json.dumps({**self.result, "shown_slice": self.shown_slice}, indent=1).encode()
            for name, content in sorted({"prediction.json": text, **self.files}.items()):
                archive.writestr(zipfile.ZipInfo(name, FIXED_TIME), content)
        return buffer.getvalue()


def response_of(
    predictor: Predictor,
    image: Any,
    include_cam: bool,
    include_uncertainty: bool,
    dicom_source: bytes | MemoryFile | None = None,
    turn: Turn | None = None,
) -> PredictionResponse:
    """Predict an image and encode the prediction; see `Predictor.infer`.

    Args:
        predictor: the network.
        image: from `Predictor.read`.
        include_cam: add the class activation map (CAM).
        include_uncertainty: add Monte-Carlo dropout deviations.
        dicom_source: the scan's DICOM file, for the mask as DICOM SEG.
        turn: at the network, see `Predictor.infer`.
    """
    prediction = predictor.infer(image, include_cam, include_uncertainty, turn)
    result = dict(prediction["result"])
    index = most_suspicious(result)
    shown = [name for name in PICTURES if name in prediction and (predictor.segments or name != "pred")]
    planes = {PICTURES[name]: prediction[name] for name in shown}
    pictures = {name: png(slice_of(plane, result, index)) for name, plane in planes.items()}
    dicom = None if dicom_source is None else predictor.dicom_seg(prediction, dicom_source)
    return PredictionResponse(result, predictor.files(prediction), pictures, index, dicom)
