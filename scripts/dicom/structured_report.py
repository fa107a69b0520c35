"""A prediction as DICOM Structured Report: probability, state and volume, after TID 1500, written by highdicom.

Reference: DICOM PS3.16, TID 1500 (measurement report), TID 1411 (volumetric ROI), TID 1501 (measurement group).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.messages import STATES
from .headers import DicomError
from .reading import read_series
from .segmentation import MAKER, PRODUCT, identifier, make_referable

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["report_of"]

OWN = "99BRAINMRI"  # coding scheme of concepts without a standard code


def report_of(
    source: Path, segmentation: bytes, result: Mapping[str, Any], wanted: Sequence[str] = ("flair",)
) -> bytes:
    """Encode a prediction; where a tumor is segmented, its volume refers to the segmentation.

    Args:
        source: file, or folder of the series.
        segmentation: of the same prediction, see `segmentation_of`.
        result: with tumor_probability, state, threshold, volume_ml and model.
        wanted: names of the sequences to read, as in `read_dicom`.

    Returns:
        A DICOM file: a Comprehensive 3D SR that names the weights.

    Raises:
        DicomError: when highdicom is missing, or the series lacks what a report must refer to.
    """
    try:
        import highdicom
        from pydicom.sr.codedict import codes
    except ImportError:
        raise DicomError("a DICOM SR needs the package highdicom; pip install '.[dicom]'", "unsupported") from None
    sources = read_series(source, wanted).datasets
    for dataset in sources:
        make_referable(dataset)
    model, said = result["model"], json.dumps(result, sort_keys=True).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values in the file
        drawn = highdicom.seg.segread(BytesIO(segmentation))
        groups = [_whole(sources, result), *(_outlines(drawn, result) if drawn.pixel_array.any() else [])]
        content = highdicom.sr.MeasurementReport(
            observation_context=_observer(sources, model),
            procedure_reported=codes.LN.BrainMRI,
            imaging_measurements=groups,
            referenced_images=sources,
        )
        made = highdicom.sr.Comprehensive3DSR(
            evidence=[*sources, drawn],
            content=content,
            series_instance_uid=identifier(sources, model, b"report series"),
            series_number=2000 + int(sources[0].get("SeriesNumber") or 0),
            sop_instance_uid=identifier(sources, model, said),
            instance_number=1,
            manufacturer=MAKER,
            is_complete=True,
            is_verified=False,
        )
        made.SeriesDescription = "Tumor report, research use only"
        buffer = BytesIO()
        made.save_as(buffer)
    return buffer.getvalue()


def _whole(sources: list[Dataset], result: Mapping[str, Any]) -> Any:
    """Findings of the series: probability, state and volume of the mask in ml."""
    import highdicom
    from pydicom.sr.codedict import codes

    found, unit = [], codes.UCUM.NoUnits
    if result["tumor_probability"] is not None:
        named = _coded("TUMOR-PROBABILITY", OWN, "Probability that a tumor is shown")
        found.append(_measured(named, result["tumor_probability"], unit, result))
        threshold = _coded("OPERATING-POINT", OWN, "Probability from which a tumor counts as detected")
        found.append(_measured(threshold, result["threshold"], unit, result))
    state = _coded(result["state"].upper().replace("_", "-"), OWN, STATES[result["state"]].title)
    return highdicom.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=highdicom.sr.TrackingIdentifier(
            uid=identifier(sources, result["model"], b"whole"), identifier="whole series"
        ),
        measurements=found,
        qualitative_evaluations=[
            highdicom.sr.QualitativeEvaluation(name=_coded("STATE", OWN, "Prediction of the network"), value=state)
        ],
    )


def _outlines(drawn: Any, result: Mapping[str, Any]) -> list[Any]:
    """Measurements of the segmented tumor, and of each region within it."""
    whole, *inner = result.get("regions") or [{**result, "title": "whole tumor"}]
    regions = [whole, *(region for region in inner if region.get("volume_ml") != 0)]  # an empty one has no frame
    return [_outline(drawn, result, region, number) for number, region in enumerate(regions, start=1)]


def _outline(drawn: Any, result: Mapping[str, Any], region: Mapping[str, Any], number: int) -> Any:
    """Measurements of one segment."""
    import highdicom
    from pydicom.sr.codedict import codes

    series = drawn.ReferencedSeriesSequence[0].SeriesInstanceUID
    volume = [region["volume_ml"]] if region.get("volume_ml") is not None else []
    named = b"outline" if number == 1 else f"outline {number}".encode()
    milliliter = _coded("mL", "UCUM", "milliliter")
    return highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=highdicom.sr.TrackingIdentifier(
            uid=identifier([drawn], result["model"], named), identifier=region["title"]
        ),
        referenced_segment=highdicom.sr.ReferencedSegment(
            sop_class_uid=drawn.SOPClassUID,
            sop_instance_uid=drawn.SOPInstanceUID,
            segment_number=number,
            source_series=highdicom.sr.SourceSeriesForSegmentation(series),
        ),
        finding_type=codes.SCT.Neoplasm,
        finding_sites=[highdicom.sr.FindingSite(codes.SCT.Brain)],
        measurements=[_measured(codes.SCT.Volume, value, milliliter, result) for value in volume],
    )


def _measured(name: Any, value: float, unit: Any, result: Mapping[str, Any]) -> Any:
    """One measurement, with the weights that made it."""
    import highdicom

    model = result["model"]
    algorithm = highdicom.sr.AlgorithmIdentification(
        name=PRODUCT, version=str(model["version"]), parameters=[f"weights SHA-256 {model['sha256']}"]
    )
    return highdicom.sr.Measurement(name=name, value=value, unit=unit, algorithm_id=algorithm)


def _observer(sources: list[Dataset], model: Mapping[str, Any]) -> Any:
    """A device, not a person."""
    import highdicom
    from pydicom.sr.codedict import codes

    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=identifier([], model, b"device"), name=PRODUCT, manufacturer_name=MAKER, serial_number=model["sha256"][:16]
    )
    observer = highdicom.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return highdicom.sr.ObservationContext(observer_device_context=observer)


def _coded(value: str, scheme: str, meaning: str) -> Any:
    import highdicom

    return highdicom.sr.CodedConcept(value, scheme, meaning)
