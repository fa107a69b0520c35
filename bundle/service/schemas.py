"""Types of requests and responses, for the OpenAPI description."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .. import NOTICE
from ..core import documents, messages
from ..core import regions as tumor_regions

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
    """Status of the service."""

    status: str = Field(examples=["ready"])


class Model(BaseModel):
    """The weights of a prediction."""

    version: str = Field(description="of the bundle", examples=["0.8.0"])
    sha256: str | None = Field(description="of the weights")
    report: messages.Message = Field(examples=[messages.report_note("matching")])
    learned: list[str] | None = Field(default=None, description="the one task that they learned; null: both tasks")


class ModelInfo(BaseModel):
    """Weights, thresholds and the scores of their report."""

    model: Model
    modalities: list[str] = Field(examples=[["flair"]])
    decision: dict[str, Any] = Field(description="temperature and operating point of images and of volumes' slices")
    scored: str | None = Field(description="how the scores were obtained")
    scores: dict[str, Any] = Field(description="from the report of these weights; empty without one")
    notice: str = NOTICE


class Prediction(BaseModel):
    """The prediction of one scan."""

    model_config = ConfigDict(extra="allow")

    schema_version: int = Field(examples=[documents.SCHEMA_VERSION])
    kind: documents.Kind = Field(description="selects the calibration; a volume of one slice is an image")
    tumor_probability: float | None = Field(ge=0, le=1, description="calibrated; null if too little brain is visible")
    tumor_detected: bool | None = Field(description="whether the probability reaches the operating point")
    threshold: float = Field(description="the operating point")
    display_threshold: float = Field(examples=[0.3])
    state: str = Field(examples=["no_tumor", "uncertain", "tumor", "no_prediction"])
    flags: list[messages.Message] = Field(description="warnings about this prediction")
    sequence: dict[str, Any] | None = Field(
        default=None, description="what the scan is taken for, by its name or header, or by its look"
    )
    series: dict[str, Any] | None = Field(default=None, description="which of several DICOM series was read")
    slice_axis: int | None = Field(default=None, description="axis of the file along which a volume's slices run")
    slice_probabilities: list[float | None] | None = None
    volume_ml: float | None = Field(
        default=None, description="of the mask; if prediction, spacing and thickness are known"
    )
    area_mm2: float | None = Field(default=None, description="of the mask of a single slice with known spacing")
    regions: list[tumor_regions.TumorRegion] | None = Field(
        default=None, description="codes and size of each region, for weights that segment several; from the outermost"
    )
    tumor_type: dict[str, float] | None = Field(
        default=None,
        description="probability of each type, given a tumor, for a state tumor and weights that tell types apart",
    )
    lesions: list[documents.Lesion] | None = Field(default=None, description="of the mask, from the largest")
    shown_slice: int | None = Field(default=None, description="index of a volume's slice in the pictures")
    pictures: dict[str, str] = Field(
        description="PNG in base64: mask (the whole tumor), on request cam and mask_deviation"
    )
    model: Model
    notice: str = NOTICE


class JobStatus(BaseModel):
    """A scan that is still processed."""

    status: str = Field(examples=["working"])
    job: str
    address: str = Field(description="where to get the prediction")
    notice: str = NOTICE


class ProblemResponse(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["urn:bundle:problem:unsupported"])
    title: str = Field(examples=["not a PNG, JPEG, TIFF, WebP, BMP, NIfTI, NRRD, MetaImage or DICOM file"])
    status: int = Field(examples=[415])
    code: str = Field(examples=["unsupported"])
    request_id: str
    notice: str = NOTICE


class Batch(BaseModel):
    """Predictions in the order of the files; a file without prediction has a problem or a job."""

    predictions: list[Prediction | JobStatus | ProblemResponse]
    notice: str = NOTICE
