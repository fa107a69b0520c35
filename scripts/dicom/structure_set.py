"""A mask as DICOM RT Structure Set: the outline of the tumor in every slice, in millimeters of the patient.

Outlines run half a pixel outside the centers of the mask's pixels, so that the centers within them are the mask. Holes
are outlines of their own; the whole is then of the type CLOSEDPLANAR_XOR.

Reference: DICOM PS3.3, A.19 (RT Structure Set IOD), C.8.8.5 and C.8.8.6 (its modules).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.regions import REGIONS, masks_of
from .frames import Frame
from .headers import DicomError
from .reading import Series, read_series
from .segmentation import COPIED, MAKER, PRODUCT, REMEDY, identifier, make_referable

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["structure_set_of"]

RT_STRUCTURE_SET, STUDY_COMPONENT = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.3.1.2.3.1"
COLOR = ["255", "128", "0"]
UNKNOWN = datetime(1970, 1, 1)


def structure_set_of(
    source: Path | bytes,
    mask: np.ndarray,
    model: Mapping[str, Any],
    wanted: Sequence[str] = ("flair",),
    regions: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """Encode a mask of the whole tumor, or of its regions, as outlines.

    The same mask on the same series by the same weights has the same identifiers.

    Args:
        source: file, folder of one series, or content of a file.
        mask: (H, W, D) of 0 and 1, or of the regions' codes, on the grid that `read_dicom` gives.
        model: "version" and "sha256" of the weights.
        wanted: names of the sequences to read, as in `read_dicom`.
        regions: "regions" of the prediction, see `masks_of`; empty for the whole tumor alone.

    Returns:
        A DICOM file with one region of interest, "Tumor", or one for each region; without outlines where it is empty.

    Raises:
        DicomError: when pydicom or contourpy is missing, or the series lacks what it must refer to.
    """
    try:
        import contourpy  # noqa: F401 - used below
        from pydicom import Dataset
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian
    except ImportError as error:
        raise DicomError(f"an RTSTRUCT needs the package {error.name}; pip install '.[dicom]'", "unsupported") from None
    series = read_series(source, wanted)
    _require_places(series, mask)
    for dataset in series.datasets:
        make_referable(dataset)
    first = series.datasets[0]
    made = Dataset()
    for keyword in COPIED:
        setattr(made, keyword, first.get(keyword, ""))
    made.SOPClassUID = RT_STRUCTURE_SET
    drawn = mask if regions else mask > 0
    made.SOPInstanceUID = identifier(series.datasets, model, b"outlines" + np.ascontiguousarray(drawn).tobytes())
    made.StudyInstanceUID = first.StudyInstanceUID
    made.SeriesInstanceUID = identifier(series.datasets, model, b"outlines series")
    made.Modality, made.SeriesDescription = "RTSTRUCT", "Tumor outlines, research use only"
    made.SeriesNumber, made.InstanceNumber = 3000 + int(first.get("SeriesNumber") or 0), 1
    made.OperatorsName, made.Manufacturer, made.ManufacturerModelName = "", MAKER, PRODUCT
    made.SoftwareVersions, made.DeviceSerialNumber = str(model["version"]), str(model["sha256"])[:16]
    made.PositionReferenceIndicator = ""
    made.FrameOfReferenceUID = first.FrameOfReferenceUID
    made.StructureSetLabel, made.StructureSetName = "TUMOR", "Whole tumor, drawn by a network"
    made.StructureSetDate = str(first.get("StudyDate") or UNKNOWN.strftime("%Y%m%d"))
    made.StructureSetTime = str(first.get("StudyTime") or UNKNOWN.strftime("%H%M%S"))
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_referenced(series)]
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    titles = [region["title"].capitalize() for region in regions] or ["Tumor"]
    for title, (name, of_region) in zip(titles, masks_of(mask, regions).items(), strict=True):
        _add_region(
            made, series, of_region, model, title, COLOR if not regions else list(map(str, REGIONS[name].color))
        )
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        made.SOPClassUID,
        made.SOPInstanceUID,
    )
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _require_places(series: Series, mask: np.ndarray) -> None:
    """Refuse a mask of another grid, and slices whose place in the patient is unknown."""
    frames = series.frames
    if mask.shape != (*frames[0].pixels.shape, len(frames)):
        raise DicomError(f"a mask of shape {mask.shape} does not fit its {len(frames)} slices", "geometry")
    if "position_missing" in series.flags or not all(frame.is_located and frame.spacing for frame in frames):
        raise DicomError(f"its slices have no positions that an RTSTRUCT could refer to; {REMEDY}", "unsupported")


def _referenced(series: Series) -> Dataset:
    """Frame of reference, study and images that the outlines are drawn on."""
    first = series.datasets[0]
    images = [_image(dataset) for dataset in series.datasets]
    of_series = _dataset(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study = _dataset(
        ReferencedSOPClassUID=STUDY_COMPONENT,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[of_series],
    )
    return _dataset(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _add_region(
    made: Dataset, series: Series, mask: np.ndarray, model: Mapping[str, Any], title: str, color: list[str]
) -> None:
    """Add a region of interest with its outlines."""
    number = len(made.StructureSetROISequence) + 1
    outlines = [
        (frame, list(_outlines(mask[..., index] > 0)))
        for index, frame in enumerate(series.frames)
        if mask[..., index].any()
    ]
    hollow = any(_has_hole(mask[..., index] > 0) for index in range(mask.shape[-1]))
    contours: list[Dataset] = []
    for frame, lines in outlines:
        dataset = series.datasets[frame.instance]
        for line in lines:
            image = _image(dataset)
            if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
                image.ReferencedFrameNumber = frame.number + 1
            contours.append(
                _dataset(
                    ContourNumber=len(contours) + 1,
                    ContourImageSequence=[image],
                    ContourGeometricType="CLOSEDPLANAR_XOR" if hollow else "CLOSED_PLANAR",
                    NumberOfContourPoints=len(line),
                    ContourData=[f"{value:.4f}".rstrip("0").rstrip(".") for value in _in_patient(line, frame).ravel()],
                )
            )
    made.StructureSetROISequence.append(
        _dataset(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=made.FrameOfReferenceUID,
            ROIName=title,
            ROIDescription=f"weights {str(model['sha256'])[:16]}; research use only",
            ROIGenerationAlgorithm="AUTOMATIC",
        )
    )
    region = _dataset(ROIDisplayColor=color, ReferencedROINumber=number)
    if contours:
        region.ContourSequence = contours
    made.ROIContourSequence.append(region)
    made.RTROIObservationsSequence.append(
        _dataset(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
    )


def _outlines(plane: np.ndarray) -> Iterator[np.ndarray]:
    """Closed lines around a mask (H, W) and its holes: (N, 2) of column and row, the first point not repeated."""
    from contourpy import contour_generator

    for line in contour_generator(z=np.pad(plane, 1).astype(np.float64), line_type="Separate").lines(0.5):
        yield np.asarray(line)[:-1] - 1.0


def _has_hole(plane: np.ndarray) -> bool:
    from scipy.ndimage import binary_fill_holes

    return bool(binary_fill_holes(plane).sum() > plane.sum())


def _in_patient(line: np.ndarray, frame: Frame) -> np.ndarray:
    """Columns and rows (N, 2) of a frame as points (N, 3) in the patient's LPS millimeters."""
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    steps = np.stack([frame.right * between_columns, frame.down * between_rows])
    return np.asarray(frame.position + line @ steps)


def _image(dataset: Dataset) -> Dataset:
    return _dataset(ReferencedSOPClassUID=dataset.SOPClassUID, ReferencedSOPInstanceUID=dataset.SOPInstanceUID)


def _dataset(**values: Any) -> Dataset:
    from pydicom import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made
