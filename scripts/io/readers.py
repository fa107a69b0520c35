"""MONAI reader that decodes every file of the bundle to an array.

An image is read as a volume of one slice, so every later step has a single case. Limits of untrusted uploads (bytes,
pixels, time) are in the application. Nothing here imports MONAI or torch: the decoding process of the application needs
neither, and starts in a tenth of the time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ..core.file_types import FORMATS, type_of_file
from ..core.geometry import plane_of, same_grid, shown_affine
from ..dicom.headers import DicomError
from ..dicom.reading import read_dicom
from .case_channels import channels_of_files, spread, wrong_number
from .kaggle_3m import SliceFolderError, is_slice_folder, read_slice_folder, sequences_in
from .told_sequences import sequence_told
from .volumes import UnreadableImageError, code_of, decode_grid_file, decode_nifti, grid_meta

__all__ = ["BrainMriReader", "UnreadableImageError"]

# Index to RAS+ millimeters of a picture as radiology displays it: rows run to posterior, columns to the patient's left.
DISPLAY_AFFINE = np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)

PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and its value
COLORED_LEVELS = 40  # of 255, between a pixel's colors
# A white background: this bright, of the brightest, over this share of the picture, around a head that fills less of
# its box than a rectangle does. Of 1,416 pictures from the web 0 have one, of the same ones inverted 1,393.
WHITE, WHITE_SHARE, RECTANGLE = 0.75, 0.15, 0.9

RASTERS = {known.name: known.pillow for known in FORMATS if known.pillow}  # pictures, by Pillow's names


class BrainMriReader:
    """Read pictures, NIfTI, NRRD, MetaImage and DICOM by content (never by name) into a float32 array (C, H, W, D).

    Rules: pictures are PNG, JPEG, WebP, BMP and TIFF of one page; of several pictures in one JPEG, as phones write
    them, the first is read. Palette and RGB become gray, transparency becomes black, EXIF rotation is applied, 16-bit
    pictures are scaled to 0..255; CMYK and animations are refused. NIfTI is scaled by its header. Of volumes, NaN
    around the head is read as padding; other values that are not finite and empty volumes are refused. A 4-D file is
    taken only when its channels are the configured modalities, or named by the Decathlon's `dataset.json` in the folder
    above. With several modalities, channels of sequences that a case does not have are zero, and named in the metadata
    (`missing_sequences`); a picture, and a volume of unknown sequence, has one channel (`sequence_unknown`). NRRD and
    MetaImage (.mha; .mhd with its file beside) hold their voxels raw or zipped. DICOM is a file, or a folder, one
    series of which is read; another folder is a patient of kaggle_3m. A single sagittal or coronal slice is
    oriented as it is displayed, and gets a flag.

    Args:
        modalities: channels that the network expects, in order (flair, t1, t1ce, t2).
    """

    def __init__(self, modalities: Sequence[str] = ("flair",)) -> None:
        self.modalities = tuple(modalities)
        self.contents: dict[Path, bytes] = {}  # of compressed files that were decompressed before, each used once

    def verify_suffix(self, filename: Any) -> bool:
        """Accept every name: files are recognized by content."""
        return True

    def read(self, data: Any, **kwargs: Any) -> tuple[Path, ...]:
        """Return the paths; `get_data` decodes them, since MONAI tries its other readers when this method fails."""
        return tuple(Path(p) for p in ([data] if isinstance(data, (str, Path)) else data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """Decode the files of a scan into (C, H, W, D) and its metadata.

        Args:
            img: one file; or one per modality, `ABSENT` for a missing one; or some whose names tell their sequences.

        Raises:
            UnreadableImageError: when a file cannot be decoded by the rules above, the files lie on different grids, or
                it is not known which modalities their channels are.
        """
        placed = channels_of_files(img, self.modalities, self._told)
        files = list(placed.values()) or list(img)
        wanted = [self.modalities[number : number + 1] for number in placed] or [self.modalities] * len(img)
        arrays, metas = zip(*map(self._decode, files, wanted), strict=True)
        shape, affine = arrays[0].shape[1:], metas[0]["affine"]
        for path, array, meta in list(zip(files, arrays, metas, strict=True))[1:]:
            if array.shape[1:] != shape:
                reason = f"shape {array.shape[1:]} differs from the first file's {shape}; resample both to one grid"
                raise UnreadableImageError(path, reason, "geometry")
            if not same_grid(affine, meta["affine"], shape):
                reason = "lies elsewhere than the first file (their affines differ); resample both to one grid"
                raise UnreadableImageError(path, reason, "geometry")
        if len(img) > 1:
            metas[0].update(sequence_told="", files=[str(path) for path in img])
        metas[0].setdefault("sequence_told", sequence_told(files[0], self.modalities))
        whole = np.concatenate(arrays)
        held = metas[0].pop("channels", "").split()  # sequences in one file
        numbers = [self.modalities.index(name) for name in held] if held and len(files) == 1 else list(placed)
        count = len(self.modalities)
        if count > 1 and len(whole) == 1 and not numbers:
            metas[0]["sequence_unknown"] = True
        elif len(whole) != len(numbers):
            raise wrong_number(files[0], len(whole), self.modalities)
        elif len(numbers) < count:
            whole = spread(list(whole), numbers, count)
            missing = [name for number, name in enumerate(self.modalities) if number not in numbers]
            metas[0]["missing_sequences"] = " ".join(missing)
        return whole, _shown(metas[0], shape)

    def _told(self, path: Path) -> str:
        """Sequence of a volume by its name or header, "" where nothing tells, and of a picture."""
        with suppress(OSError):  # the decoder gives the reason
            known = not is_slice_folder(path) and (path.is_dir() or type_of_file(path) not in RASTERS)
            return sequence_told(path, self.modalities) if known else ""
        return ""

    def _decode(self, path: Path, wanted: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
        if is_slice_folder(path):
            return decode_slice_folder(path, self.modalities)
        try:
            kind = "dicom" if path.is_dir() else type_of_file(path)
        except OSError as error:
            raise UnreadableImageError(path, error.strerror or "cannot be opened") from None
        if kind == "dicom":
            return decode_dicom(path, wanted)
        if kind in ("nrrd", "metaimage"):
            return decode_grid_file(path, kind)
        return decode_raster(path) if kind in RASTERS else self._decode_nifti(path)

    def _decode_nifti(self, path: Path) -> tuple[np.ndarray, dict[str, Any]]:
        return decode_nifti(path, self.modalities, self.contents.pop(path, None))


if "monai" in sys.modules:  # as in every config
    from monai.data import ImageReader

    ImageReader.register(BrainMriReader)


def _shown(meta: dict[str, Any], shape: Sequence[int]) -> dict[str, Any]:
    """Metadata that orient a single sagittal or coronal slice as it is displayed, with a flag."""
    plane = plane_of(shape, meta["original_affine"]) if meta["spacing_known"] else "axial"
    if plane == "axial":
        return meta
    flags = f"{meta.get('flags', '')} {plane}_slice".strip()
    return {**meta, "affine": shown_affine(shape, meta["original_affine"]), "flags": flags}


def decode_raster(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode a picture of one page into gray levels 0..255, float32 (1, H, W, 1), rows downwards."""
    try:
        with Image.open(path, formats=tuple(RASTERS.values())) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # of a phone's several the first is shown
                raise UnreadableImageError(
                    path, f"has {frames} frames, one is expected; save one as PNG", "unsupported"
                )
            if image.mode in ("CMYK", "YCCK"):
                raise UnreadableImageError(path, "CMYK colors are not supported; save it as gray or RGB", "unsupported")
            is_inverted = image.mode.startswith("I;16") and image.getexif().get(PHOTOMETRIC) == WHITE_IS_ZERO
            upright = ImageOps.exif_transpose(image)
            gray, colors = _gray(upright), _colored_share(upright)
            gray = 255 - gray if is_inverted else gray  # Pillow inverts 8 bits only
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow raises a dozen types for a damaged file
        raise UnreadableImageError(path, f"damaged picture ({type(error).__name__})", code_of(error)) from None
    if not np.isfinite(gray).all():
        raise UnreadableImageError(path, "contains NaN or infinite pixels", "nonfinite")
    meta = grid_meta(DISPLAY_AFFINE, gray.shape, spacing_known=False)
    return gray[None, :, :, None], {**meta, "colored_share": colors, "white_background": has_white_background(gray)}


def _gray(image: Image.Image) -> np.ndarray:
    """Gray levels 0..255 (H, W) of a decoded picture; color by ITU-R 601 luma."""
    if image.mode == "F":  # whatever the unit
        return np.asarray(image, dtype=np.float32)
    if image.mode.startswith("I"):  # 16 bits a pixel
        return np.asarray(image, dtype=np.float32) * (255.0 / 65535.0)
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("L"), dtype=np.float32)


def _colored_share(image: Image.Image) -> float:
    """Share of a picture's colored pixels; compression alone colors none by so much."""
    if image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I"):
        return 0.0
    levels = np.asarray(image.convert("RGB"))
    return float((levels.max(axis=2) - levels.min(axis=2) > COLORED_LEVELS).mean())


def has_white_background(gray: np.ndarray) -> bool:
    """Whether a head lies on white, gray levels (H, W), as in an inverted picture; a white frame is none."""
    from scipy import ndimage

    bright, _ = ndimage.label(gray >= WHITE * gray.max())
    around = np.isin(bright, np.setdiff1d(np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]]), [0]))
    parts, count = ndimage.label(~around)
    if around.mean() <= WHITE_SHARE or count == 0:
        return False
    sizes = np.bincount(parts.ravel())[1:]
    height, width = (part.stop - part.start for part in ndimage.find_objects(parts)[sizes.argmax()])
    return bool(sizes.max() < RECTANGLE * height * width)


def decode_dicom(path: Path, wanted: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode a DICOM file, or one series of a folder, into float32 (1, H, W, D), rows and columns as stored."""
    try:
        found = read_dicom(path, wanted)
    except DicomError as error:
        raise UnreadableImageError(path, str(error), error.code) from None
    except Exception as error:  # pydicom and Pillow raise a dozen types for a damaged file
        raise UnreadableImageError(path, f"damaged DICOM ({type(error).__name__})", code_of(error)) from None
    if not np.isfinite(found.voxels).all():
        raise UnreadableImageError(path, "contains NaN or infinite voxels", "nonfinite")
    shape = found.voxels.shape if found.spacing_known else found.voxels.shape[:2]
    meta = grid_meta(found.affine, shape, found.spacing_known, found.spacing_known and found.thickness_known)
    told = {"sequence_told": found.sequence, "series": found.chosen, "flags": " ".join(found.flags)}
    return found.voxels[None], {**meta, **told}


def decode_slice_folder(path: Path, modalities: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode a patient's folder of kaggle_3m into float32 (C, H, W, D); its spacing is estimated."""
    try:
        held = [name for name in modalities if len(modalities) > 1 and name in sequences_in(path)] or list(modalities)
        volume, affine = read_slice_folder(path, held)
    except SliceFolderError as error:
        raise UnreadableImageError(path, str(error), "geometry") from None
    except Exception as error:  # Pillow raises a dozen types for a damaged file
        raise UnreadableImageError(path, f"damaged slice ({type(error).__name__})", code_of(error)) from None
    meta = grid_meta(affine, volume.shape[1:], spacing_known=True, thickness_known=True)
    told = {"sequence_told": modalities[0]} if len(modalities) == 1 else {}
    return volume, {**meta, **told, "channels": " ".join(held), "flags": "spacing_estimated"}
