"""Training on MONAI Label's list of studies: pairs of image and label files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.configs import components_of, raw_sections
from ..core.filenames import stem
from ..core.regions import WHOLE_TUMOR
from ..io.datalists import Case
from .slice_records import SliceRecords
from .slice_store import SliceStore, build_store

__all__ = ["Studies"]

Pair = Mapping[str, Any]  # {"image": file, "label": file}


class Studies:
    """Slices of labeled studies, with the preprocessing of `configs/preprocess.yaml`.

    Each study is a case of its own, since MONAI Label does not name the patient. A slice's class comes from its mask.

    Args:
        bundle_root: the bundle's folder.
        folder: of the slice store; studies that are already in it are not read again.
        modalities: of the network.
        min_tumor_pixels: see `SliceRecords`.
        regions: of the network.
    """

    def __init__(
        self,
        bundle_root: str | Path,
        folder: str | Path,
        modalities: Sequence[str],
        min_tumor_pixels: int,
        regions: Sequence[str] = WHOLE_TUMOR,
    ) -> None:
        self.root, self.folder, self.min_tumor_pixels = Path(bundle_root), Path(folder), min_tumor_pixels
        self.read = {"modalities": list(modalities), "regions": list(regions)}

    @staticmethod
    def are_given(data: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a list contains pairs of files instead of records of a slice store."""
        return bool(data) and "label" in data[0] and "case" not in data[0]

    @property
    def weights_path(self) -> Path:
        """Path of the weights that MONAI Label loads before a training, and expects after it."""
        return self.root / "models" / "model.pt"

    def records(self, pairs: Sequence[Pair]) -> SliceRecords:
        """Records of the studies' slices, in the store at `folder`; unreadable studies are logged.

        Raises:
            ValueError: when no study can be read, or two studies have the same name.
        """
        cases = [self._case(pair) for pair in pairs]
        file_of: dict[str, str] = {}
        for case in cases:
            if file_of.setdefault(case["id"], case["image"]) != case["image"]:
                raise ValueError(f"{file_of[case['id']]} and {case['image']}: two studies of the same name")
        components = components_of(self.root, "preprocess.yaml", ["transform", "serving"], **self.read)
        settings = {**self.read, "image": raw_sections(self.root, "inference.yaml", ["preprocessing"])}
        settings["label"] = raw_sections(self.root, "preprocess.yaml", ["transform"])
        smallest = components["serving"]["min_brain_pixels"]
        build_store(cases, components["transform"], self.folder, smallest, settings, skip_unreadable=True)
        stored = [{"group": case["id"], **case} for case in SliceStore(self.folder).cases()]
        return SliceRecords(stored, self.min_tumor_pixels)

    def _case(self, pair: Pair) -> Case:
        image = str(pair["image"])
        case: Case = {"id": f"studies/{stem(Path(image).name)}", "source": "studies", "kind": "volume"}
        return case | {"group": case["id"], "image": image, "label": str(pair["label"])}
