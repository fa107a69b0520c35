"""Write answers as files that stand beside their inputs: NAME.json and NAME_mask.png or NAME_mask.nii.gz."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from PIL import Image

from .datalists import stem
from .files import write_atomic, write_json

__all__ = ["PredictionWriter"]


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
        suffix, content = self.encode(mask)
        target = self.output_dir / (name or stem(Path(source).name))
        files = {
            "json": target.with_name(f"{target.name}.json"),
            "mask": target.with_name(f"{target.name}_mask.{suffix}"),
        }
        for path in files.values():
            if path.exists() and not self.overwrite:
                raise FileExistsError(f"{path}: exists already (--overwrite replaces it)")
        write_atomic(files["mask"], lambda file: file.write(content))
        write_json(files["json"], {"input": Path(source).name, **data["result"]})
        return {kind: str(path) for kind, path in files.items()}

    @staticmethod
    def encode(volume: MetaTensor, steps: int = 1) -> tuple[str, bytes]:
        """Encode a mask or a map on the scan's own grid, with its geometry and nothing else.

        Args:
            volume: (1, H, W, D) in [0, 1].
            steps: between 0 and 1: 1 for a mask, at most 255 for a map.

        Returns:
            Suffix and content: of a picture a PNG of 0 to 255, else a NIfTI of 0 to 1.
        """
        shape = [int(side) for side in volume.meta["spatial_shape"]]
        levels = (volume.as_tensor()[0].cpu() * steps).round().numpy().astype(np.uint8).reshape(shape)
        if not volume.meta.get("spacing_known", True):
            buffer = BytesIO()
            Image.fromarray(levels * np.uint8(255 // steps)).save(buffer, format="PNG")
            return "png", buffer.getvalue()
        values = levels if steps == 1 else levels.astype(np.float32) / steps
        image = nib.Nifti1Image(values, np.asarray(volume.meta["original_affine"], dtype=np.float64))
        image.set_data_dtype(np.uint8)  # nibabel finds the slope
        image.header.set_xyzt_units("mm")
        return "nii.gz", gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)

    def done_before(self, name: str, weights_sha256: str) -> dict[str, str] | None:
        """Files of an answer that the same weights gave before; None where there is none, or it is to be replaced."""
        target = self.output_dir / f"{name}.json"
        masks = [target.with_name(f"{Path(name).name}_mask.{suffix}") for suffix in ("png", "nii.gz")]
        mask = next((path for path in masks if path.is_file()), None)
        if self.overwrite or mask is None or not target.is_file():
            return None
        try:
            same = json.loads(target.read_text())["model"]["sha256"] == weights_sha256
        except (ValueError, KeyError, TypeError):
            same = False
        return {"json": str(target), "mask": str(mask)} if same else None

    def update_index(self, entries: Mapping[str, Any]) -> None:
        """Add entries to `index.json`, which says for every input where its answer is, or why there is none."""
        path = self.output_dir / "index.json"
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError):  # none yet, or a damaged one
            before = {}
        write_json(path, {**before, **entries})
