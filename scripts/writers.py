"""Write answers as files that stand beside their inputs: NAME.json and NAME_mask.png or NAME_mask.nii.gz."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from .files import write_atomic, write_json

__all__ = ["PredictionWriter"]

SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg")


class PredictionWriter:
    """Write one scan's answer and mask, never over an existing file unless told to.

    Args:
        output_dir: folder for the files.
        overwrite: replace what is there.
    """

    def __init__(self, output_dir: str | Path, overwrite: bool = False) -> None:
        self.output_dir, self.overwrite = Path(output_dir), overwrite

    def __call__(self, data: Mapping[str, Any], name: str | None = None) -> dict[str, str]:
        """Write.

        Args:
            data: postprocessed: "pred" (1, H, W, D) of 0 and 1 on the input's grid, and "result".
            name: name of the files without suffix, may hold folders; the input's stem if absent.

        Returns:
            {"json": path, "mask": path}.

        Raises:
            FileExistsError: when a file is there and must not be overwritten.
        """
        mask = data["pred"]
        source = str(mask.meta["filename_or_obj"])
        is_picture = not mask.meta.get("spacing_known", True)
        target = self.output_dir / (name or self.stem(Path(source).name))
        files = {
            "json": target.with_name(f"{target.name}.json"),
            "mask": target.with_name(f"{target.name}_mask.{'png' if is_picture else 'nii.gz'}"),
        }
        for path in files.values():
            if path.exists() and not self.overwrite:
                raise FileExistsError(f"{path}: exists already (--overwrite replaces it)")
        voxels = (
            mask.as_tensor()[0].cpu().numpy().astype(np.uint8).reshape([int(n) for n in mask.meta["spatial_shape"]])
        )
        if is_picture:
            write_atomic(files["mask"], lambda file: Image.fromarray(voxels * 255).save(file, format="PNG"))
        else:
            write_atomic(files["mask"], lambda file: file.write(_nifti_bytes(voxels, mask.meta["original_affine"])))
        write_json(files["json"], {"input": Path(source).name, **data["result"]})
        return {kind: str(path) for kind, path in files.items()}

    def update_index(self, entries: Mapping[str, Any]) -> None:
        """Add entries to `index.json`, which says for every input where its answer is, or why there is none."""
        path = self.output_dir / "index.json"
        before = json.loads(path.read_text()) if path.is_file() else {}
        write_json(path, {**before, **entries})

    @staticmethod
    def stem(path: str | Path) -> Path:
        """A path without the suffix of an image.

        >>> [str(PredictionWriter.stem(p)) for p in ("a/scan.nii.gz", "Y1.JPG", "none")]
        ['a/scan', 'Y1', 'none']
        """
        path = Path(path)
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s) and path.name.lower() != s), "")
        return path.with_name(path.name[: len(path.name) - len(suffix)])


def _nifti_bytes(voxels: np.ndarray, affine: np.ndarray) -> bytes:
    """A compressed NIfTI with geometry and nothing else."""
    image = nib.Nifti1Image(voxels, np.asarray(affine, dtype=np.float64))
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
