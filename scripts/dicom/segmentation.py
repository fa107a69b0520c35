"""A mask as DICOM Segmentation that refers to its series, written by highdicom.

Reference: DICOM PS3.3, A.51 (Segmentation IOD) and C.8.20 (its modules).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.regions import masks_of
from .headers import DicomError
from .reading import Series, read_series

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MAKER", "PRODUCT", "identifier", "make_referable", "segmentation_of"]

MAKER, PRODUCT = "Research use only", "Brain MRI tumor segmentation and classification"
REMEDY = "the mask can be had as NIfTI only"
REFERRED = ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
COPIED = (  # of the patient and study modules, which a series without names may lack
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def segmentation_of(
    source: Path | bytes,
    mask: np.ndarray,
    model: Mapping[str, Any],
    wanted: Sequence[str] = ("flair",),
    regions: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """Encode a mask of the whole tumor, or of its regions.

    The same mask on the same series by the same weights has the same identifiers.

    Args:
        source: file, folder of one series, or content of a file.
        mask: (H, W, D) of 0 and 1, or of the regions' codes, on the grid that `read_dicom` gives.
        model: "version" and "sha256" of the weights.
        wanted: names of the sequences to read, as in `read_dicom`.
        regions: "regions" of the prediction, see `masks_of`; empty for the whole tumor alone.

    Returns:
        A DICOM file with one binary segment, "Tumor" (SCT 108369006, neoplasm, of the brain), or one for each region,
        which overlap: "Whole tumor", "Tumor core", "Enhancing tumor".

    Raises:
        DicomError: when highdicom is missing, or the series lacks what a segmentation must refer to.
    """
    try:
        import highdicom
    except ImportError:
        raise DicomError("a DICOM SEG needs the package highdicom; pip install '.[dicom]'", "unsupported") from None
    sources, labels = _in_order_of_the_files(read_series(source, wanted), mask)
    planes = np.stack([*masks_of(labels, regions).values()], axis=-1).astype(np.uint8) if regions else labels
    titles = [region["title"].capitalize() for region in regions] or ["Tumor"]
    for dataset in sources:
        make_referable(dataset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values in the file
        made = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=planes,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_tumor(model, number, title) for number, title in enumerate(titles, start=1)],
            series_instance_uid=identifier(sources, model, b"series"),
            series_number=1000 + int(sources[0].get("SeriesNumber") or 0),
            sop_instance_uid=identifier(sources, model, planes.tobytes()),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=PRODUCT,
            software_versions=str(model["version"]),
            device_serial_number=str(model["sha256"])[:16],
            omit_empty_frames=bool(planes.any()),
            content_label="TUMOR",
            content_description="Whole tumor, drawn by a network; research use only",
        )
        made.SeriesDescription = "Tumor segmentation, research use only"
        buffer = BytesIO()
        made.save_as(buffer)
    return buffer.getvalue()


def _in_order_of_the_files(series: Series, mask: np.ndarray) -> tuple[list[Dataset], np.ndarray]:
    """Files to refer to, and planes (D, H, W) in their order: by position, or by frame where there is but one file."""
    datasets, frames = series.datasets, series.frames
    if mask.shape != (*frames[0].pixels.shape, len(frames)):
        raise DicomError(f"a mask of shape {mask.shape} does not fit its {len(frames)} slices", "geometry")
    planes = np.ascontiguousarray(np.moveaxis(mask, -1, 0)).astype(np.uint8)
    if "position_missing" in series.flags or not all(frame.is_located for frame in frames):
        raise DicomError(f"its slices have no positions that a DICOM SEG could refer to; {REMEDY}", "unsupported")
    if len(datasets) == len(frames) and not any("PerFrameFunctionalGroupsSequence" in one for one in datasets):
        return [datasets[frame.instance] for frame in frames], planes
    if len(datasets) > 1 or "PerFrameFunctionalGroupsSequence" not in datasets[0]:
        raise DicomError(
            f"its frames have no positions of their own that a DICOM SEG could refer to; {REMEDY}", "unsupported"
        )
    if len(frames) != int(datasets[0].NumberOfFrames):
        raise DicomError(f"only some of its frames were read, and a DICOM SEG refers to all; {REMEDY}", "unsupported")
    return datasets, planes[np.argsort([frame.number for frame in frames])]


def make_referable(dataset: Dataset) -> None:
    """Refuse a file that cannot be referred to; add empty what may be empty.

    Raises:
        DicomError: naming what is missing.
    """
    absent = [keyword for keyword in REFERRED if not dataset.get(keyword)]
    if absent:
        raise DicomError(f"no DICOM object can refer to it: {absent[0]} is missing; {REMEDY}")
    for keyword in COPIED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def _tumor(model: Mapping[str, Any], number: int, title: str) -> Any:
    """A segment, in SNOMED CT's terms."""
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=title,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        anatomic_regions=[codes.SCT.Brain],
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=PRODUCT,
            version=str(model["version"]),
            family=codes.cid7162.ArtificialIntelligence,
            parameters={"weights": str(model["sha256"])},
        ),
    )


def identifier(sources: Sequence[Dataset], model: Mapping[str, Any], content: bytes) -> str:
    """A UID from the series, the weights and their prediction."""
    from pydicom.uid import generate_uid

    said = hashlib.sha256(content).hexdigest()
    return str(
        generate_uid(
            entropy_srcs=[*(str(dataset.SeriesInstanceUID) for dataset in sources[:1]), str(model["sha256"]), said]
        )
    )
