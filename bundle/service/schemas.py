"""The predictions' types, for the OpenAPI description; and how files come in."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .. import NOTICE
from ..core import messages

__all__ = ["MANY_FILES", "ONE_FILE", "Batch", "JobStatus", "ModelInfo", "Prediction", "ProblemResponse", "Status"]

BINARY = {"type": "string", "format": "binary"}
RAW = {
    "application/octet-stream": {"schema": BINARY},
    "image/png": {"schema": BINARY},
    "image/jpeg": {"schema": BINARY},
}


def _form(properties: dict[str, Any], required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [required]}
    return {"multipart/form-data": {"schema": schema}}


FLAGS = {"include_cam": {"type": "boolean"}, "include_uncertainty": {"type": "boolean"}}
ONE_FILE = {"requestBody": {"required": True, "content": {**_form({"file": BINARY, **FLAGS}, "file"), **RAW}}}
MANY_FILES = {
    "requestBody": {"required": True, "content": _form({"files": {"type": "array", "items": BINARY}}, "files")}
}


class Status(BaseModel):
    """Of the service."""

    status: str = Field(examples=["ready"])


class Message(BaseModel):
    """A stable code, and its sentence."""

    code: str
    text: str


class Model(BaseModel):
    """What predicted."""

    version: str = Field(description="of the bundle", examples=["0.5.1"])
    sha256: str | None = Field(description="of the weights")
    report: Message = Field(examples=[messages.report_note("matching")])


class ModelInfo(BaseModel):
    """Weights, thresholds and their report's scores."""

    model: Model
    modalities: list[str] = Field(examples=[["flair"]])
    decision: dict[str, Any] = Field(description="temperature and operating point of images and of volumes' slices")
    scored: str | None = Field(description="which cases the scores are of, in words")
    scores: dict[str, Any] = Field(description="from the report that belongs to these weights; empty without")
    notice: str = NOTICE


class Prediction(BaseModel):
    """A prediction about one scan."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["image", "volume"] = Field(description="which calibration holds; a volume of one slice is an image")
    tumor_probability: float | None = Field(ge=0, le=1, description="calibrated; null where no brain is seen")
    tumor_detected: bool | None = Field(description="whether the probability reaches the operating point")
    threshold: float = Field(description="the operating point")
    display_threshold: float = Field(examples=[0.3])
    state: str = Field(examples=["no_tumor", "uncertain", "tumor", "no_prediction"])
    flags: list[Message] = Field(description="what to know before believing the prediction")
    slice_axis: int | None = Field(default=None, description="of the file, along which a volume's slices run")
    slice_probabilities: list[float | None] | None = None
    volume_ml: float | None = Field(
        default=None, description="of the mask, if there is a prediction, spacing and thickness"
    )
    area_mm2: float | None = Field(default=None, description="of the mask of a single slice with known spacing")
    shown_slice: int | None = Field(default=None, description="of a volume, which slice the pictures show")
    pictures: dict[str, str] = Field(description="PNG in base64: mask, and where asked for cam and mask_deviation")
    model: Model
    notice: str = NOTICE


class JobStatus(BaseModel):
    """A scan that is still worked on."""

    status: str = Field(examples=["working"])
    job: str
    address: str = Field(description="where to ask for the prediction")
    notice: str = NOTICE


class ProblemResponse(BaseModel):
    """Why there is no prediction (RFC 9457)."""

    type: str = Field(examples=["urn:bundle:problem:unsupported"])
    title: str = Field(examples=["not a PNG, JPEG, NIfTI or DICOM file"])
    status: int = Field(examples=[415])
    code: str = Field(examples=["unsupported"])
    request_id: str
    notice: str = NOTICE


class Batch(BaseModel):
    """Predictions in the order of the files; a problem or a job stands in its file's place."""

    predictions: list[Prediction | JobStatus | ProblemResponse]
    notice: str = NOTICE
