"""Check headers against the limits before decoding. Runs in the decoding process only."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from ..core import file_types, text_headers
from .errors import IntakeError
from .limits import MIB, Limits

__all__ = ["examine", "require_voxels"]

DEFLATE_RATIO = 1032  # no deflate stream inflates by more (zlib's technical notes), and no JPEG scan either
PICTURE_RATIO = 100_000  # an even WebP of 16,383 pixels a side takes some kilobytes
PILLOW = {known.name: known.pillow for known in file_types.FORMATS if known.pillow}
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a frame header
JPEG_BARE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
SCAN, MOST_SCANS, JPEG_START = b"\xff\xda", 64, b"\xff\xd8"
SCANNED_VOXELS = 4  # times the limit of voxels: pixels of all passes over a progressive JPEG
DICOM_SIZE = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated")
PLAIN_DICOM = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
JPEG_DICOM = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70)}
DEFLATED_DICOM = "1.2.840.10008.1.2.1.99"
CUT = "is cut short"


def examine(path: Path, limits: Limits, contents: dict[Path, bytes] | None = None) -> int:
    """Check a file's headers.

    Args:
        path: a file, or a folder with the files of a DICOM series or the TIFF slices of a head.
        limits: for the declared size.
        contents: gets the content of a compressed file, which is decompressed to check it.

    Returns:
        The declared number of voxels.

    Raises:
        IntakeError: when the header is impossible, or declares more than the limits allow or the file contains.
    """
    if path.is_dir():
        voxels = sum(examine_dicom(file, limits) for file in path.iterdir() if _kind(file) == "dicom")
        voxels += sum(examine_tiff(file, limits) for file in path.iterdir() if file.suffix.lower() in (".tif", ".tiff"))
        require_voxels(voxels, limits)
        return voxels
    kind = _kind(path)
    if kind == "gzip":
        content, voxels = examine_gzip(path, limits)
        (contents if contents is not None else {})[path] = content
        return voxels
    if kind == "dicom":
        return examine_dicom(path, limits)
    if kind is None:
        head = path.read_bytes()[: file_types.HEAD_BYTES] if path.is_file() else b""
        raise IntakeError("unsupported", file_types.why_unsupported(head))
    data = path.read_bytes()
    if kind == "nifti":
        return examine_nifti(data[: file_types.HEAD_BYTES], len(data), limits)
    if kind in ("nrrd", "metaimage"):
        return examine_text_header(data, kind, limits)
    if kind in ("png", "jpeg"):
        return examine_png(data, limits) if kind == "png" else examine_jpeg(data, limits)
    return examine_picture(data, PILLOW[kind], limits)


def _kind(path: Path) -> file_types.FileType | None:
    if not path.is_file():
        return None
    return file_types.type_of_file(path)


def require_size(shape: Sequence[int], declared_bytes: int, most_bytes: int, limits: Limits) -> int:
    """Check a declared size against the limits and against the file's size.

    Args:
        shape: length of every axis.
        declared_bytes: bytes of the declared pixels.
        most_bytes: bytes of the file, or the most it can decompress to.
        limits: for sides and voxels.

    Returns:
        The number of voxels.
    """
    absent = declared_bytes > most_bytes
    _require_limits(shape, limits, "declared_size" if absent else "too_large")
    if absent:
        raise IntakeError("truncated", CUT)
    return math.prod(shape)


def _require_limits(shape: Sequence[int], limits: Limits, code: str = "too_large") -> None:
    if max(shape) > limits.side_pixels:
        size = "x".join(str(side) for side in shape)
        raise IntakeError(code, f"{size} pixels, {limits.side_pixels} a side are allowed")
    require_voxels(math.prod(shape), limits, code)


def require_voxels(voxels: int, limits: Limits, code: str = "too_large") -> None:
    """Check the voxels of a whole request against the limit."""
    if voxels > limits.voxels:
        raise IntakeError(code, f"{voxels} voxels, {limits.voxels} are allowed")


def examine_tiff(path: Path, limits: Limits) -> int:
    """Check the size that a TIFF slice of a folder declares."""
    try:
        return examine_picture(path.read_bytes(), "TIFF", limits)
    except IntakeError as error:
        raise IntakeError(error.code, f"{path.name}: {error.reason}") from None


def examine_picture(data: bytes, format_name: str, limits: Limits) -> int:
    """Check the size that a picture declares; Pillow reads its header alone."""
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=(format_name,)) as image:
            height, width, channels = image.height, image.width, len(image.getbands())
            in_jpeg = format_name == "TIFF" and image.info.get("compression") == "jpeg"
    except Exception as error:  # Pillow raises a dozen types for a damaged header
        raise IntakeError("header", f"its {format_name} header is damaged ({type(error).__name__})") from None
    if in_jpeg:  # each strip or tile is a JPEG of its own, of one pass
        require_scans(data.count(SCAN) // max(1, data.count(JPEG_START)), height * width, limits)
    return require_size((height, width), height * width * channels, PICTURE_RATIO * len(data), limits)


def examine_text_header(data: bytes, kind: file_types.FileType, limits: Limits) -> int:
    """Check the size that an NRRD or MetaImage file declares."""
    try:
        header = text_headers.read_text_header(data, kind)
    except ValueError as error:
        raise IntakeError("rank" if "dimensions" in str(error) else "header", str(error)) from None
    declared = header.offset + math.prod(header.shape) * header.dtype.itemsize
    most = len(data) * (DEFLATE_RATIO if header.is_compressed else 1)
    return require_size(header.shape, declared if header.beside is None else 0, most, limits)


def examine_png(data: bytes, limits: Limits) -> int:
    """Check a PNG's size and that its chunks reach its end.

    Reference: W3C, Portable Network Graphics, third edition, 5.3 and 11.2.1.
    """
    if len(data) < 33:
        raise IntakeError("truncated", CUT)
    name, width, height, depth, color = struct.unpack(">4sIIBB", data[12:26])
    if name != b"IHDR" or not width or not height or color not in PNG_CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise IntakeError("header", "its PNG header is impossible")
    line_bytes = math.ceil(width * depth * PNG_CHANNELS[color] / 8)
    voxels = require_size((height, width), height * line_bytes, DEFLATE_RATIO * len(data), limits)
    position, name = 8, b""
    while name != b"IEND":
        if position + 12 > len(data):
            raise IntakeError("truncated", CUT)
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
    if position > len(data):
        raise IntakeError("truncated", CUT)
    return voxels


def examine_jpeg(data: bytes, limits: Limits) -> int:
    """Check a JPEG's size and precision, and that its scans end.

    Reference: ITU-T T.81, annex B.
    """
    position, voxels = 2, 0
    while position + 4 <= len(data):
        mark, marker, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF:
            break
        if marker in JPEG_FRAMES and position + 10 <= len(data):
            precision, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            if not height or not width:
                raise IntakeError("header", "its JPEG header is impossible")
            if precision != 8:
                raise IntakeError("unsupported", f"JPEG of {precision} bits is not supported")
            voxels = require_size((height, width), height * width * channels, DEFLATE_RATIO * len(data), limits)
        if marker == 0xDA:  # in the scans that follow, this marker can only be the end
            require_scans(data.count(SCAN, position), voxels, limits)
            if voxels and data.find(b"\xff\xd9", position) > 0:
                return voxels
            break
        position += 1 if marker == 0xFF else 2 if marker in JPEG_BARE else 2 + length
    raise IntakeError("truncated", CUT)


def require_scans(count: int, pixels: int, limits: Limits, images: int = 1) -> None:
    """Refuse progressive JPEGs of more passes over the image than any program writes: each takes time.

    Args:
        count: of passes.
        pixels: of an image.
        limits: for voxels.
        images: that the passes belong to.
    """
    allowed = min(MOST_SCANS, max(1, SCANNED_VOXELS * limits.voxels // max(1, pixels * images))) * images
    if count > allowed:
        raise IntakeError("too_large", f"{count} passes of a progressive JPEG, {allowed} are allowed")


def examine_gzip(path: Path, limits: Limits) -> tuple[bytes, int]:
    """Decompress a NIfTI to its end; its content and the declared number of voxels."""
    size = path.stat().st_size
    most = min(limits.inflated_bytes, max(limits.inflate_free_bytes, int(limits.inflate_ratio * size)))
    try:
        with gzip.open(path) as file:
            head = file.read(file_types.HEAD_BYTES)
            if file_types.file_type_of(head) != "nifti":
                reason = file_types.why_unsupported(head)
                known = reason != file_types.NOT_A_SCAN
                raise IntakeError("unsupported", reason if known else "the compressed file is not a NIfTI file")
            examine_nifti(head, DEFLATE_RATIO * size, limits)
            blocks, total = [head], len(head)
            while block := file.read(MIB):
                blocks.append(block)
                total += len(block)
                if total > most:
                    raise IntakeError("inflate", f"decompresses to more than {most // MIB} MiB")
    except EOFError:
        raise IntakeError("truncated", CUT) from None
    except (OSError, zlib.error):
        raise IntakeError("damaged", "damaged gzip stream") from None
    return b"".join(blocks), examine_nifti(head, total, limits)


def examine_nifti(head: bytes, most_bytes: int, limits: Limits) -> int:
    """Check a NIfTI header: byte order, axes, number type, offset, and that its numbers are finite.

    Reference: nifti1.h and nifti2.h of the NIfTI Data Format Working Group.
    """
    import nibabel as nib
    import numpy as np

    is_first = struct.pack("<i", 348) == head[:4] or struct.pack(">i", 348) == head[:4]
    kind, size, magic = (nib.Nifti1Header, 348, b"n+1") if is_first else (nib.Nifti2Header, 540, b"n+2")
    if len(head) < size:
        raise IntakeError("truncated", CUT)
    header = kind(head[:size], check=False)  # without its extensions
    rank = int(header["dim"][0])
    shape = [int(side) for side in header["dim"][1 : rank + 1]]
    offset = float(header["vox_offset"])
    used = [header["scl_slope"], header["scl_inter"], *header["pixdim"][:4], offset]
    if header["qform_code"] > 0:
        used += [header[f"quatern_{axis}"] for axis in "bcd"] + [header[f"qoffset_{axis}"] for axis in "xyz"]
    if header["sform_code"] > 0:
        used += [value for axis in "xyz" for value in header[f"srow_{axis}"]]
    if int(header["sizeof_hdr"]) != size or bytes(header["magic"])[:3] != magic:
        pair = "its NIfTI header is inconsistent, or belongs to a pair of files (.hdr, .img); save both as one .nii"
        raise IntakeError("header", pair)
    if not 1 <= rank <= 7 or min(shape) < 1:
        raise IntakeError("header", "its axes are impossible")
    if not np.isfinite(np.array(used, dtype=np.float64)).all():
        raise IntakeError("header", "its header contains numbers that are not finite")
    if not size <= offset < most_bytes:
        raise IntakeError("header" if most_bytes > size else "truncated", "its voxels begin outside the file")
    try:
        voxel_bytes = int(header.get_data_dtype().itemsize)
    except (nib.spatialimages.HeaderDataError, KeyError):
        raise IntakeError("header", "its number type is unknown") from None
    return require_size(shape, int(offset) + math.prod(shape) * voxel_bytes, most_bytes, limits)


def examine_dicom(path: Path, limits: Limits) -> int:
    """Check the size that a DICOM file declares; missing attributes are reported by the reader."""
    try:
        from pydicom import dcmread
        from pydicom.filereader import read_file_meta_info
    except ImportError:  # reported by the reader
        return 0
    try:
        syntax = str(read_file_meta_info(path).get("TransferSyntaxUID"))
        if syntax == DEFLATED_DICOM:
            raise IntakeError("unsupported", "deflated DICOM is not supported")
        data = path.read_bytes()
        dataset = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(DICOM_SIZE))
        rows, columns, frames, bits = (max(int(dataset.get(name) or 1), 1) for name in DICOM_SIZE)
    except IntakeError:
        raise
    except Exception as error:  # pydicom raises a dozen types for a damaged file
        raise IntakeError("damaged", f"damaged DICOM ({type(error).__name__})") from None
    if syntax in JPEG_DICOM:
        require_scans(data.count(SCAN), rows * columns, limits, frames)
    most = len(data) * (1 if syntax in PLAIN_DICOM else DEFLATE_RATIO)
    absent = rows * columns * frames * bits // 8 > most
    _require_limits((rows, columns, frames), limits, "declared_size" if absent else "too_large")
    return rows * columns * frames
