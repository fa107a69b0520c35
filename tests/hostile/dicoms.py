"""DICOM: every syntax, and every way to be wrong."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom import Dataset, FileMetaDataset, Sequence, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from .cases import OK, Case, constant, encoded, head
from .lossless import encode_lossless

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
NOT_NUMBERS = ("abc\\1.2", "1e400\\1", "nan\\1.2", "1\\\\\\2")  # for a pixel spacing, eight characters at most
DEFLATED = "1.2.840.10008.1.2.1.99"


def mr_dataset(pixels: np.ndarray, position: float = 0.0, series: str = "1.2.3", **changes: Any) -> Dataset:
    """One axial slice of an MR series, (H, W) or (frames, H, W); None as a change removes an attribute."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = MR_IMAGE, generate_uid(entropy_srcs=[str(position), series])
    dataset.SeriesInstanceUID, dataset.Modality, dataset.PatientName = series, "MR", "CANARY^PATIENT"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    dataset.PixelSpacing, dataset.SliceThickness = [1.5, 1.25], 3.0
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-80.0, -100.0, position]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels.tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def dicom(pixels: np.ndarray | None = None, syntax: str = ExplicitVRLittleEndian, **changes: Any) -> bytes:
    """A DICOM file of one dataset in an uncompressed syntax."""
    return written(mr_dataset(head(64, 56).astype(np.uint16) if pixels is None else pixels, **changes), syntax)


def written(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A dataset as a file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MR_IMAGE)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    buffer = io.BytesIO()
    encoding = {"implicit_vr": False, "little_endian": True} if UID(syntax).is_private else {}
    dcmwrite(buffer, dataset, enforce_file_format=True, **encoding)
    return buffer.getvalue()


def compressed(fragment: bytes, syntax: str, bits: int = 8, **changes: Any) -> bytes:
    """A DICOM file whose one frame is compressed."""
    pixels = head(64, 56).astype(np.uint8 if bits == 8 else np.uint16)
    dataset = mr_dataset(pixels, **changes)
    dataset.PixelData = encapsulate([fragment])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return written(dataset, syntax)


def enhanced(volume: np.ndarray, gap: float = 3.0, order: list[int] | None = None, **changes: Any) -> bytes:
    """An enhanced MR object of (frames, H, W), its frames stored in this order."""
    order = order or list(range(len(volume)))
    dataset = mr_dataset(np.ascontiguousarray(volume[order]), SOPClassUID=ENHANCED_MR, **changes)
    for name in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, name)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 1.25], gap
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for index in order:
        place, group = Dataset(), Dataset()
        place.ImagePositionPatient = [-80.0, -100.0, index * gap]
        group.PlanePositionSequence = Sequence([place])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return written(dataset)


def raw_element(
    group: int, number: int, value: bytes, representation: bytes = b"UN", length: int | None = None
) -> bytes:
    """An element in explicit little endian, whatever it says about its length."""
    return struct.pack("<HH2s2xI", group, number, representation, len(value) if length is None else length) + value


def cases() -> Iterator[Case]:
    """All DICOM cases."""
    for name, data in {**plain(), **packed()}.items():
        yield Case(name, "dicom", constant(data), (OK,))
    for code, files in refused().items():
        for name, data in files.items():
            yield Case(name, "dicom", constant(data), tuple(code.split("|")))
    gray = head(64, 56).astype(np.uint16)
    yield Case("random tail", "dicom", lambda rng: bytes(128) + b"DICM" + rng.bytes(2000), ("damaged", "header"))
    huge = {"rows and columns": {"Rows": 65535, "Columns": 65535}, "frames": {"NumberOfFrames": 2_000_000_000}}
    huge["bits"] = {"Rows": 60000, "Columns": 60000, "BitsAllocated": 32, "BitsStored": 32}
    for name, changes in huge.items():
        yield Case(f"dcm {name}", "declared size", constant(dicom(gray, **changes)), ("declared_size",))


def plain() -> dict[str, bytes]:
    """Uncompressed files that are predicted."""
    gray = head(64, 56)
    signed = gray.astype(np.int16) - 60
    return {
        "explicit little endian": dicom(),
        "implicit little endian": dicom(syntax=ImplicitVRLittleEndian),
        "explicit big endian": dicom(syntax=ExplicitVRBigEndian),
        "8 bits": dicom(gray),
        "32 bits": dicom(gray.astype(np.uint32)),
        "signed": dicom(signed),
        "rescaled": dicom(RescaleSlope=2.5, RescaleIntercept=-10),
        "MONOCHROME1": dicom(255 - gray, PhotometricInterpretation="MONOCHROME1"),
        "frames": dicom(np.stack([gray] * 3).astype(np.uint16), SpacingBetweenSlices=4.0),
        "enhanced": enhanced(np.stack([gray] * 3).astype(np.uint16)),
        "no spacing": dicom(PixelSpacing=None),
        "padding value": dicom(PixelPaddingValue=0),
        "padding range": dicom(signed, PixelPaddingValue=-60, PixelPaddingRangeLimit=-50),
        "all padding": dicom(PixelPaddingValue=0, PixelPaddingRangeLimit=65535),
        "overlay": dicom() + raw_element(0x6000, 0x3000, bytes(448), b"OW"),
        "no orientation": dicom(ImageOrientationPatient=None, ImagePositionPatient=None),
        "padded": dicom(PixelData=gray.astype(np.uint16).tobytes() + bytes(2)),
        "private element": dicom() + raw_element(0x7FE1, 0x0010, b"private "),
    }


def packed() -> dict[str, bytes]:
    """Compressed files that are predicted."""
    from pydicom.pixels.encoders import RLELosslessEncoder

    gray = head(64, 56)
    runs = RLELosslessEncoder.encode(
        gray,
        rows=64,
        columns=56,
        samples_per_pixel=1,
        bits_allocated=8,
        bits_stored=8,
        photometric_interpretation="MONOCHROME2",
        pixel_representation=0,
        number_of_frames=1,
        encoding_plugin="pydicom",
    )
    return {
        "RLE": compressed(runs, RLELossless),
        "JPEG": compressed(encoded(gray, "JPEG"), JPEGBaseline8Bit),
        "JPEG lossless": compressed(encode_lossless(gray, precision=8), JPEGLosslessSV1),
        "JPEG-LS": compressed(_jpeg_ls(gray), JPEGLSLossless),
        "JPEG 2000": compressed(encoded(gray, "JPEG2000", no_jp2=True), JPEG2000Lossless),
    }


def _jpeg_ls(gray: np.ndarray) -> bytes:
    import jpeg_ls

    return bytes(jpeg_ls.encode_array(gray))


def refused() -> dict[str, dict[str, bytes]]:
    """Files that are not predicted, by the codes that are right."""
    gray, good = head(64, 56).astype(np.uint16), dicom()
    jpeg, lossless = encoded(head(64, 56), "JPEG"), encode_lossless(head(64, 56), precision=8)
    nested = b"".join(
        raw_element(8, 0x1140, b"", b"SQ", 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" for _ in range(1000)
    )
    meta_end = 132 + 12 + struct.unpack_from("<I", good, 140)[0]
    headless = dicom()[:132] + good[meta_end:]
    text = {f"spacing {value}": good.replace(b"1.5\\1.25", value.ljust(8).encode()) for value in NOT_NUMBERS}
    return {
        "unsupported": {
            **{f"syntax {uid.name}": compressed(jpeg, uid) for uid in (HTJ2KLossless, MPEG2MPML)},
            "private syntax": compressed(jpeg, "1.2.3.4"),
            "deflated": written(mr_dataset(gray), DEFLATED),
            "RGB": dicom(np.zeros((64, 56), np.uint8), SamplesPerPixel=3, PhotometricInterpretation="RGB"),
            "palette": dicom(PhotometricInterpretation="PALETTE COLOR"),
            "DICOMDIR": written(mr_dataset(gray, SOPClassUID="1.2.840.10008.1.3.10")),
            "no preamble": good[132:],
            "mosaic": dicom(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
            "localizer": dicom(SeriesDescription="3-plane localizer"),
        },
        "header": {
            "no pixel data": dicom(PixelData=None),
            "twice the pixel data": dicom(PixelData=gray.tobytes() * 2),
            "no rows": dicom(Rows=None),
            "rows 0": dicom(Rows=0),
            "12 bits allocated": dicom(BitsAllocated=12),
            "0 bits stored": dicom(BitsStored=0),
            "slope 0": dicom(RescaleSlope=0),
            "spacing 0": dicom(PixelSpacing=[0, 0]),
            "spacing -1": dicom(PixelSpacing=[-1, -1]),
            "one spacing": dicom(PixelSpacing=[1.0]),
            "orientation of zeros": dicom(ImageOrientationPatient=[0] * 6),
            "skew orientation": dicom(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
        },
        "header|damaged": {**text, "no meta information": headless, "frames -1": dicom(NumberOfFrames=-1)},
        "truncated": {"short pixel data": dicom(PixelData=gray.tobytes()[:-200]), "empty": dicom(PixelData=b"")},
        "truncated|damaged|header": {
            "cut in the header": good[:400],
            "cut in the pixels": good[:-1000],
            "nested sequences": good[:meta_end] + nested,
            "JPEG of noise": compressed(bytes(range(256)), JPEGBaseline8Bit),
            "cut JPEG": compressed(jpeg[: len(jpeg) // 2], JPEGBaseline8Bit),
            "RLE of noise": compressed(bytes(range(256)), RLELossless),
            "JPEG lossless of noise": compressed(bytes(range(256)), JPEGLosslessSV1),
            "cut JPEG lossless": compressed(lossless[: len(lossless) // 2], JPEGLosslessSV1),
            "JPEG lossless of another size": compressed(encode_lossless(head(64, 60), precision=8), JPEGLosslessSV1),
            "JPEG lossless that is lossy": compressed(jpeg, JPEGLosslessSV1),
            "JPEG-LS of noise": compressed(bytes(range(256)), JPEGLSLossless),
            "cut JPEG-LS": compressed(_jpeg_ls(head(64, 56))[:200], JPEGLSLossless),
            "JPEG 2000 of noise": compressed(bytes(range(256)), JPEG2000Lossless),
        },
        "damaged|header|ok": {
            "4 GB element": good + raw_element(0x7FE1, 0x0010, b"x", length=0xFFFFFFF0),
            "unknown value representation": good + raw_element(0x7FE1, 0x0010, b"xx", b"ZZ"),
        },
        "nonfinite": {"slope 1e300": dicom(RescaleSlope="1e300")},
        "geometry": {"frames without positions": dicom(np.stack([gray] * 3), SliceThickness=None)},
    }
