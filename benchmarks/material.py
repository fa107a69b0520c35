"""What the benchmarks work on: phantoms, which every clone can write, and the released network."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.core import BUNDLE_ROOT
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    from monai.data import MetaTensor
    from torch import Tensor

__all__ = ["BATCH", "ROOT", "Material"]

ROOT = BUNDLE_ROOT
BATCH = 8  # slices
SLICES, SPACING_MM = 64, 2.2  # of a volume


class Material:
    """Phantoms in a folder, the predictor, and the network's input, each made when it is first used.

    Args:
        folder: for all files, which are removed by the caller.
        slices: of a volume.
        side: of a slice, pixels.
    """

    def __init__(self, folder: Path, slices: int = SLICES, side: int = 240) -> None:
        self.folder, self.slices, self.side = folder, slices, side

    def volumes(self, count: int, slices: int = 24) -> Path:
        """A folder with some volumes and their segmentations."""
        folder = self.folder / f"volumes_{count}_{slices}"
        if not folder.is_dir():
            write_volumes(folder, count, slices=slices, side=self.side, spacing_mm=140 / slices)
        return folder

    @cached_property
    def volume(self) -> Path:
        """A FLAIR volume."""
        return next(self.volumes(1, self.slices).rglob("*_flair.nii.gz"))

    @cached_property
    def reference(self) -> np.ndarray:
        """Boolean mask (H, W, D) of the volume's tumor, axes of the file."""
        import nibabel as nib
        import numpy as np

        segmentation = nib.Nifti1Image.from_filename(str(self.volume).replace("_flair", "_seg"))
        return np.asarray(np.asarray(segmentation.dataobj) > 0)

    @cached_property
    def picture(self) -> Path:
        """A picture of a slice."""
        write_images(self.folder / "images", 4)
        return sorted((self.folder / "images" / "yes").iterdir())[0]

    @cached_property
    def weights(self) -> Path:
        """A copy of the released weights with what belongs to them, for exports beside it."""
        copied = self.folder / "models"
        shutil.copytree(ROOT / "models", copied, ignore=shutil.ignore_patterns("*.onnx*", "*.ts*", "*.xml*", "*.bin"))
        return copied / "model.pt"

    @cached_property
    def served(self) -> Predictor:
        """With the released weights, on the CPU, as the config says."""
        return Predictor(device="cpu", batch_size=BATCH)

    @cached_property
    def predictor(self) -> Predictor:
        """The same, with each slice passing the network once, as in what it is compared with."""
        once = copy.copy(self.served)
        once.parts = {**once.parts, "inferer": copy.copy(once.parts["inferer"])}
        once.parts["inferer"].mirrored = False
        return once

    @property
    def network(self) -> Any:
        """The released network: (B, 1, 256, 256) -> packed logits (B, 2, 256, 256)."""
        return self.predictor.network

    @cached_property
    def image(self) -> MetaTensor:
        """The volume as it is read, (1, H, W, D)."""
        return self.predictor.read(self.volume)

    def preprocessed(self) -> dict[str, Any]:
        """The volume as an item of the transforms, its "image" the network's input (1, 256, 256, D)."""
        return dict(self.predictor.parts["preprocessing"]({"image": self.image}, start=1))

    @cached_property
    def brain_slices(self) -> Tensor:
        """The slices of the volume that pass the network, (N, 1, 256, 256)."""
        from scripts.transforms.preprocessing import tissue_of

        slices = self.preprocessed()["image"].as_tensor().permute(3, 0, 1, 2).contiguous()
        least = self.predictor.parts["inferer"].min_brain_pixels
        return slices[tissue_of(slices).sum(dim=(1, 2)) >= least]

    @cached_property
    def batch(self) -> Tensor:
        """`BATCH` slices from the middle of the volume, (BATCH, 1, 256, 256)."""
        middle = max(0, len(self.brain_slices) // 2 - BATCH // 2)
        return self.brain_slices[middle : middle + BATCH].contiguous()

    def raw_forward(self, slices: Tensor) -> Callable[[], list[Tensor]]:
        """The network over slices (N, 1, 256, 256) in batches, and nothing else."""
        import torch

        def run() -> list[Tensor]:
            with torch.inference_mode():
                return [self.network(rows) for rows in slices.split(BATCH)]

        return run

    def decode(self, scan: Path) -> None:
        """Decode a scan in this process.

        A prediction decodes in a short-lived process of its own, whose CPU time the system adds to nobody's: work that
        reads a scan also calls this.
        """
        from bundle.intake.limits import LOCAL
        from bundle.intake.worker import decode

        decode([scan], self._reader, LOCAL)

    @cached_property
    def _reader(self) -> Any:
        from bundle.intake.worker import load_reader

        return load_reader(ROOT, {})
