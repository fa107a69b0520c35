"""The files that this bundle writes as JSON, as types; docs/schemas holds the JSON schemas that are made from them.

`schema_version` is the version of a file's layout; incompatible layouts get the next number.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from .messages import Message, NoTumorBound
from .regions import RegionScores, TumorRegion
from .tumor_types import ScoresOfTypes

__all__ = [
    "SCHEMA_VERSION",
    "ChosenSeries",
    "Kind",
    "Prediction",
    "PredictionIndex",
    "Report",
    "SkullState",
    "StoreIndex",
    "TakenFor",
]

SCHEMA_VERSION = 1

Kind = Literal["image", "volume"]
Interval = list[float] | None  # [low, high], 95 %; None where there are too few cases


class PredictingModel(TypedDict):
    """The weights that predicted."""

    version: str  # of the bundle
    sha256: str | None
    report: Message  # whether the report beside the weights is theirs
    decision: str  # short hash of temperatures, thresholds and rules
    strip: NotRequired[bool]  # True: brains are cut out of volumes with a skull first
    learned: NotRequired[list[str]]  # the one task that they were trained for: segmentation or classification


class TakenFor(TypedDict):
    """Which sequence a scan is taken for."""

    sequence: str | None  # flair, t1, t1ce, t2, seg, ct, none, other
    by: Literal["name", "look"] | None  # name or header, or else the look
    looks_like: NotRequired[str]
    probability: NotRequired[float]  # of that look


class SkullState(TypedDict):
    """Whether a head has its skull as the network sees it."""

    state: Literal["on", "off", "unknown"]
    score: float  # from 0, certainly off, to 1, certainly on
    extracted: NotRequired[bool]  # True: `strip` cut the brain out


class ChosenSeries(TypedDict):
    """Which series of a folder with several was read."""

    number: int | None  # SeriesNumber
    uid: str | None  # SeriesInstanceUID
    echo_ms: float | None
    slices: int
    of: int  # series, echoes and orientations in the folder
    rule: Literal["sequence", "original", "slices", "plane", "echo", "number"]  # that decided


class Lesion(TypedDict):
    """A connected part of the mask; millimeters and volumes only where the file tells its spacing."""

    number: int  # from 1, the largest
    voxels: int
    volume_ml: NotRequired[float]
    slices: list[int]  # first and last along the slice axis, from 0
    widest_slice: int  # the one with the longest diameter, of which the next three are
    area_mm2: NotRequired[float]
    longest_mm: NotRequired[float]
    perpendicular_mm: NotRequired[float]
    centroid: list[float]  # in indices of the file
    centroid_mm: NotRequired[list[float]]  # to the right, to the front, upwards
    probability: float | None  # mean of the mask's over the voxels; not calibrated


class Prediction(TypedDict):
    """NAME.json: what is predicted for one scan. Keys that may be absent are of some scans only."""

    schema_version: int
    kind: Kind  # by which calibration; a volume of one slice is an image
    tumor_probability: float | None  # calibrated; None where no brain is seen
    tumor_detected: bool | None
    threshold: float  # the operating point
    threshold_moved_from: NotRequired[float]  # that of the weights, where the user named another one
    display_threshold: float
    state: Literal["no_tumor", "uncertain", "tumor", "no_prediction"]
    flags: list[Message]
    model: PredictingModel
    notice: str
    input: NotRequired[str]  # name of the scan's file
    input_sha256: NotRequired[str | None]
    sequence: NotRequired[TakenFor]
    missing_sequences: NotRequired[list[str]]  # of those that the weights read
    skull: NotRequired[SkullState]
    series: NotRequired[ChosenSeries]  # where a folder holds several
    slice_axis: NotRequired[int]  # of the file, along which a volume's slices run
    slice_probabilities: NotRequired[list[float | None]]
    slice_deviations: NotRequired[list[float | None]]  # Monte-Carlo dropout
    tumor_deviation: NotRequired[float | None]  # the same, of an image
    volume_ml: NotRequired[float]  # of the mask
    area_mm2: NotRequired[float]  # of the mask of a single slice
    regions: NotRequired[list[TumorRegion]]  # from the outermost, of weights that segment several
    tumor_type: NotRequired[dict[str, float]]  # of a state "tumor": probability of each type, given a tumor
    no_tumor_bound: NotRequired[NoTumorBound]  # of a state "no_tumor" by weights that have such bounds
    lesions: NotRequired[list[Lesion]]  # from the largest; absent for weights that were not trained on masks


class PredictedScan(TypedDict):
    """Where the prediction of a scan is, relative to the folder."""

    state: str
    json: str
    mask: NotRequired[str]  # absent for weights that were not trained on masks
    overlay: NotRequired[str]
    probability: NotRequired[str]
    seg: NotRequired[str]
    sr: NotRequired[str]
    rtstruct: NotRequired[str]


class FailedScan(TypedDict):
    """Why there is no prediction."""

    error: str


class SkippedFile(TypedDict):
    """Why a file is not predicted."""

    skipped: str


class PredictionIndex(TypedDict):
    """index.json: every input of a folder of predictions."""

    schema_version: int
    scans: dict[str, PredictedScan | FailedScan | SkippedFile]


class UnreadableCase(TypedDict):
    """A case that is not in the store."""

    id: str
    reason: str


class StoreIndex(TypedDict):
    """store.json: how a slice store was made, and what is in it."""

    schema_version: int
    fingerprint: str  # of settings and code
    settings: dict[str, Any]
    counts: dict[str, dict[str, Any]]  # by source
    cases: list[str]
    problems: list[UnreadableCase]


class CalibrationOfKind(TypedDict):
    """Calibration of one kind of scan."""

    temperature: float
    operating_point: float
    fitted_on: str
    evidence: dict[str, Any]


class DecisionRules(TypedDict):
    """The rules from logits to predictions."""

    image: CalibrationOfKind
    volume: CalibrationOfKind
    display_threshold: float
    top_slices: int
    patient: NotRequired[CalibrationOfKind | None]
    threshold: NotRequired[float | None]


class VolumeScores(TypedDict):
    """Of one volume's mask; None where the reference is empty."""

    id: str
    source: str
    patient: str
    dice: float | None
    iou: float | None
    hd95_mm: float | None
    surface_dice_1mm: float | None
    surface_dice_2mm: float | None
    boundary_f_1mm: float | None
    boundary_f_2mm: float | None
    lesion_dice: float | None
    lesion_hd95_mm: float | None
    lesions: int
    lesions_found: int
    lesions_false: int
    reference_ml: float
    predicted_ml: float
    reference_lesions: NotRequired[list[dict[str, float]]]  # of each: ml, and iou with the best predicted one
    predicted_lesions: NotRequired[int]
    regions: NotRequired[dict[str, dict[str, float | None]]]  # by name: dice, reference_ml, predicted_ml


class ManualMasks(TypedDict):
    """Dice of the patients with manual masks."""

    n: int
    dice: float | None
    ci95: Interval
    worst_dice: float | None


class EmptySlices(TypedDict):
    """Predicted masks on slices without tumor."""

    n: int
    false_positive_rate: float | None
    mean_false_positive_mm2: float | None


class SegmentationScores(TypedDict):
    """Of all volumes; means are over patients."""

    n: int
    patients_n: int
    units: dict[str, Literal["1", "mm"]]  # of each score
    mean: dict[str, float | dict[str, Interval] | None]  # by score; "ci95": their intervals
    patients: list[VolumeScores]
    manual: NotRequired[ManualMasks]
    regions: NotRequired[dict[str, RegionScores]]  # by name, of weights that segment several
    lesions: NotRequired[dict[str, Any]]  # recall by size, panoptic quality; see `lesion_recall.py`
    empty_slices: EmptySlices


class TumorAreaScores(TypedDict):
    """Of slices whose tumor is at least `low_mm2` and below `high_mm2`; None: no upper end."""

    low_mm2: float
    high_mm2: float | None
    positives: int
    roc_auc: float | None  # against all slices without tumor
    sensitivity: float | None


class SourceScores(TypedDict):
    """Of one source's slices or images; absent scores could not be computed."""

    kind: Kind
    n: int
    positives: int
    left_out: int
    prevalence: NotRequired[float | None]
    roc_auc: NotRequired[float | None]
    pr_auc: NotRequired[float | None]
    threshold: NotRequired[float | None]
    sensitivity: NotRequired[float | None]
    specificity: NotRequired[float | None]
    confusion: NotRequired[dict[str, int]]
    mcc: NotRequired[float | None]
    brier: NotRequired[float | None]
    ece: NotRequired[float | None]
    at_display_threshold: NotRequired[dict[str, float | None]]
    specificity_at_95_sensitivity: NotRequired[float | None]
    brier_before: NotRequired[float | None]
    ece_before: NotRequired[float | None]
    ci95: NotRequired[dict[str, Interval]]
    groups: NotRequired[int]
    unpredicted_tumor: NotRequired[int]
    curves: NotRequired[dict[str, list[list[float]] | None]]
    reliability: NotRequired[list[dict[str, float]]]
    within_folds: NotRequired[dict[str, float | Interval]]
    nonempty_masks: NotRequired[dict[str, dict[str, float | None]]]  # of images, by class: n and share
    patients: NotRequired[dict[str, dict[str, float | None]]]
    mean_patient_roc_auc: NotRequired[dict[str, float | Interval]]
    by_tumor_area: NotRequired[list[TumorAreaScores]]
    hard_negatives: NotRequired[dict[str, float | None]]
    cases: NotRequired[list[dict[str, Any]]]


class Report(TypedDict):
    """report.json: the scores of weights, and the decision that was fitted for them; each part may come alone."""

    schema_version: int
    decision: DecisionRules
    notice: NotRequired[str]
    model: NotRequired[dict[str, Any]]
    decision_out_of_fold: NotRequired[DecisionRules]
    no_tumor_bounds: NotRequired[dict[str, Any]]  # miss_rate, confidence and populations
    rules: NotRequired[dict[str, str]]
    segmentation: NotRequired[SegmentationScores]
    patients: NotRequired[dict[str, Any]]  # volumes as a whole
    classification: NotRequired[dict[str, SourceScores]]
    tumor_types: NotRequired[dict[str, ScoresOfTypes]]  # by source, of weights that tell types apart
    provenance: NotRequired[str]  # what is known of the training cases
    subset: NotRequired[str]
    fold: NotRequired[int | None]
    without_reference: NotRequired[int]
    scored: NotRequired[str]  # which cases by which weights
