"""From logits to predictions: temperature, thresholds, states, and the rule from slices to a volume."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from ..core.documents import Kind
from ..core.files import resolve_in_bundle, sha256_of
from ..core.messages import report_note
from ..core.weights_report import TASKS, learned_by, notes_beside, report_beside, require_version

__all__ = ["Calibration", "Decision", "ModelCard", "decision_of", "kind_of", "report_of"]

DESCRIBING = ("fitted_on", "evidence")  # fields of a calibration that do not change predictions

logger = logging.getLogger(__name__)


def kind_of(slice_logits: Sized) -> Kind:
    """The kind of a scan: a single slice is an image in any file format, as it is normalized by its own statistics.

    >>> kind_of([0.3]), kind_of([0.3, 0.5])
    ('image', 'volume')
    """
    return "image" if len(slice_logits) == 1 else "volume"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


@dataclass(frozen=True)
class Calibration:
    """Calibration of one kind of scan.

    Args:
        temperature: divisor of the logits.
        operating_point: smallest probability of a detected tumor.
        fitted_on: data of the fit, in words.
        evidence: n, sensitivity, specificity and intervals on these data.
    """

    temperature: float = 1.0
    operating_point: float = 0.5
    fitted_on: str = "nothing: defaults"
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (_is_number(self.temperature) and self.temperature > 0):
            raise ValueError("a temperature is no number above 0")
        if not (_is_number(self.operating_point) and 0 <= self.operating_point <= 1):
            raise ValueError("an operating_point is no number from 0 to 1")
        if not isinstance(self.fitted_on, str) or not isinstance(self.evidence, Mapping):
            raise ValueError("fitted_on is no text, or evidence no mapping")


@dataclass(frozen=True)
class Decision:
    """All rules from a logit to a prediction.

    Single images and slices of volumes have separate calibrations: their sources and normalization differ.

    Args:
        image: calibration of single images.
        volume: calibration of a volume's slices.
        display_threshold: a probability below this and the operating point is "no tumor", above both "tumor", between
            them "uncertain".
        top_slices: a volume's probability is the mean over this many slices with the highest probability.
        patient: calibration whose operating point is for a volume's probability; None: the slices' is used. It is
            higher than that for slices, since the volume's probability is a mean over the highest of many slices.
        threshold: the user's operating point of every scan, in place of the calibrations'; None: theirs.
    """

    image: Calibration = Calibration()
    volume: Calibration = Calibration()
    display_threshold: float = 0.3
    top_slices: int = 3
    patient: Calibration | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not (_is_number(self.display_threshold) and 0 <= self.display_threshold <= 1):
            raise ValueError("display_threshold is no number from 0 to 1")
        if not isinstance(self.top_slices, int) or self.top_slices < 1:
            raise ValueError("top_slices is no whole number above 0")
        if self.threshold is not None and not (_is_number(self.threshold) and 0 <= self.threshold <= 1):
            raise ValueError("threshold is no number from 0 to 1")

    def unfitted(self) -> Decision:
        """The same rules with default calibrations, for weights that these were not fitted on."""
        return replace(self, image=Calibration(), volume=Calibration(), patient=None)

    def digest(self) -> str:
        """Short hash of all fields but `fitted_on` and `evidence`, which do not change predictions."""
        return hashlib.sha256(json.dumps(_deciding(asdict(self)), sort_keys=True).encode()).hexdigest()[:16]

    def of(self, kind: Kind) -> Calibration:
        """The calibration of one kind of scan."""
        return self.image if kind == "image" else self.volume

    def probability(self, logits: np.ndarray, kind: Kind) -> np.ndarray:
        """Calibrated tumor probabilities of logits of any shape; NaN stays NaN."""
        return np.asarray(expit(np.asarray(logits, dtype=np.float64) / self.of(kind).temperature))

    def volume_probability(self, slice_probabilities: np.ndarray) -> float:
        """Probability of a tumor in a volume, from those of its slices (D,); NaN if no slice has a prediction."""
        known = np.sort(slice_probabilities[np.isfinite(slice_probabilities)])
        return float(known[-self.top_slices :].mean()) if known.size else float("nan")

    def operating_point(self, kind: Kind) -> float:
        """From which probability on a scan counts as one with a tumor."""
        fitted = self.patient if kind == "volume" and self.patient else self.of(kind)
        return fitted.operating_point if self.threshold is None else self.threshold

    def moved_from(self, kind: Kind) -> float | None:
        """The calibration's operating point where the user's is another one, else None."""
        fitted = replace(self, threshold=None).operating_point(kind)
        return None if fitted == self.operating_point(kind) else fitted

    def detected(self, probability: float, kind: Kind) -> bool:
        """Whether the probability of a scan counts as a detected tumor."""
        return probability >= self.operating_point(kind)

    def state(self, probability: float, kind: Kind) -> str:
        """State of a scan's prediction: "no_tumor" (never if detected), "uncertain" or "tumor" (always detected)."""
        lower, upper = sorted((self.display_threshold, self.operating_point(kind)))
        if probability >= upper:
            return "tumor"
        return "uncertain" if probability >= lower else "no_tumor"


def report_of(model_path: str | Path) -> dict[str, Any] | None:
    """The report beside a weights file, if it belongs to these weights."""
    return report_beside(resolve_in_bundle(model_path))[0]


def decision_of(model_path: str | Path, **settings: Any) -> Decision:
    """The decision of these weights: calibrations from their report, rules from the config.

    Args:
        model_path: the weights; `report.json` beside them has temperature and operating point of each kind of scan.
        settings: fields of `Decision` from the config. `image` and `volume` are used only without a report of these
            weights; otherwise a warning is logged.

    Raises:
        ValueError: when the report is of another version of the bundle, or its decision is damaged.
    """
    report = report_of(model_path)
    require_version(report, resolve_in_bundle(model_path))
    fitted = (report or {}).get("decision") or {}
    try:
        return _decision(fitted, settings)
    except (TypeError, ValueError, AttributeError) as error:
        if not fitted:
            raise
        _decision({}, settings)  # an error of the config is not the report's
        file, reason = (
            resolve_in_bundle(model_path).with_name("report.json"),
            str(error) if isinstance(error, ValueError) else "of unknown fields or types",
        )
        raise ValueError(
            f"{file}: its decision is damaged ({reason}); fit it again, or remove it: then no scores are known"
        ) from None


def _decision(fitted: Mapping[str, Any], settings: Mapping[str, Any]) -> Decision:
    """The decision of a report's and a config's fields, see `decision_of`."""
    for kind in {"image", "volume"} & settings.keys() & fitted.keys():
        if Calibration(**settings[kind]) != Calibration():
            logger.warning("decision#%s of the config is not used: the report beside the weights has its own", kind)
    for rule in {"display_threshold", "top_slices"} & settings.keys() & fitted.keys():
        if settings[rule] != fitted[rule]:
            text = "%s is %s, the report's evidence was measured with %s"
            logger.warning(text, rule, settings[rule], fitted[rule])
    values = {**fitted, **settings}
    for kind in ("image", "volume"):
        values[kind] = Calibration(**fitted.get(kind, settings.get(kind, {})))
    if patient := fitted.get("patient", settings.get("patient")):
        values["patient"] = Calibration(**patient)
    return Decision(**values)


def _deciding(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without those in `DESCRIBING` and unset ones, numbers as floats, at both depths."""
    kept = {name: value for name, value in fields.items() if name not in DESCRIBING and value is not None}
    return {name: _deciding(v) if isinstance(v, Mapping) else float(v) for name, v in kept.items()}


class ModelCard(Mapping[str, Any]):
    """Description of the weights in every prediction: version, hash, whether a report belongs to them, learned task.

    `trained_with` tells of weights that read several sequences whether some were left out in their training
    ("missing_sequences"), and whether images of unknown sequence were in it ("unknown_sequences").

    Args:
        model_path: the weights.
        metadata_path: of the bundle.
        follow: read again when the file changes, for MONAI Label, which trains while it serves; False for a network
            that is loaded once.
        strip: whether brains are cut out of volumes with a skull before the network sees them.
    """

    def __init__(
        self, model_path: str | Path, metadata_path: str | Path, follow: bool = True, strip: bool = False
    ) -> None:
        self.model_path, self.follow, self.strip = resolve_in_bundle(model_path), follow, strip
        self.version = json.loads(resolve_in_bundle(metadata_path).read_text())["version"]
        self._stamp: tuple[int, int] | None = None
        self._content: dict[str, Any] = {}
        self.content()

    def content(self) -> dict[str, Any]:
        """The description as JSON."""
        if self._stamp is not None and not self.follow:
            return dict(self._content)
        try:
            found = self.model_path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = (0, 0)
        if stamp != self._stamp:
            report = report_note(report_beside(self.model_path)[1])
            sha256 = sha256_of(self.model_path) if stamp != (0, 0) else None
            self._stamp, self._content = stamp, {"version": self.version, "sha256": sha256, "report": report}
            self._content |= {"strip": True} if self.strip else {}
            self.trained_with: Mapping[str, bool] = notes_beside(self.model_path).get("trained_with", {})
            learned = list(learned_by(self.model_path))
            self._content |= {"learned": learned} if len(learned) < len(TASKS) else {}
        return dict(self._content)

    def __getitem__(self, key: str) -> Any:
        return self.content()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content())

    def __len__(self) -> int:
        return len(self.content())
