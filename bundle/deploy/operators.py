"""Operators around the components of the bundle's inference config."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.deploy.core import Fragment, Operator, OperatorSpec

__all__ = ["BundleOperator", "WriteFilesOperator", "bundle_folder", "modalities_of"]

COMPONENTS = ("series_read", "preprocessing", "inferer", "postprocessing", "dicom_segmentation", "dicom_report")


class BundleOperator(Operator):
    """Predict the selected series, one or, for a network of several sequences, the first of each sequence.

    The SDK's operators cannot read a series of one instance and swap the two spacings of non-square pixels, so the
    series is read with the bundle's reader.

    Args:
        fragment: the application.
        model: a packed bundle, a folder that contains one, or a model.ts in its models/.

    Named input:
        study_selected_series_list: from the series selector. A network of one sequence predicts the first series; the
            sequences of several are told by the headers.

    Named output:
        files: name -> content: tumor_seg.dcm, tumor_sr.dcm, prediction.json.
    """

    def __init__(self, fragment: Fragment, *args: Any, model: Path, **kwargs: Any) -> None:
        self.model, self.root = model, bundle_folder(model)
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the ports."""
        spec.input("study_selected_series_list")
        spec.output("files")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Predict the selected series.

        Raises:
            ValueError: when there is none, none of them is of a sequence that the network reads, or one cannot be read.
        """
        selected = [one for study in op_input.receive("study_selected_series_list") for one in study.selected_series]
        if not selected:
            raise ValueError("the study has no MR series whose description matches SERIES_DESCRIPTION")
        with tempfile.TemporaryDirectory() as place:
            folders = [Path(place) / str(number) for number in range(len(selected))]
            for one, folder in zip(selected, folders, strict=True):
                instances = [instance.get_native_sop_instance() for instance in one.series.get_sop_instances()]
                folder.mkdir()
                link_all((Path(instance.filename) for instance in instances), folder)
            op_output.emit(self.prediction(folders), "files")

    def prediction(self, folders: Sequence[Path]) -> dict[str, bytes]:
        """Predict folders of one series each; return the files by name."""
        import torch

        parts = self.parse()
        files = parts["series_read"](folders)
        series = Path(next(file for file in files if Path(file).is_dir()))  # the grid is that of the first
        network = (self.exported() if self.model.suffix == ".ts" else parts["loaded"]).eval()
        try:
            data = parts["preprocessing"]({"image": files if len(files) > 1 else str(series)})
        except RuntimeError as error:  # MONAI's "applying transform ..." around the reason
            said = str(reason_of(error))
            for folder in folders:
                said = said.replace(str(folder), "the series")
            raise ValueError(said) from None
        with torch.inference_mode():
            device = next(network.parameters()).device
            data["pred"] = parts["inferer"](data["image"].as_tensor()[None].to(device), network)[0]
        prediction = parts["postprocessing"](data)
        mask, result = prediction["pred"].as_tensor()[0].cpu().numpy(), prediction["result"]
        segmentation = parts["dicom_segmentation"](series, mask, result["model"], regions=result.get("regions", ()))
        return {
            "tumor_seg.dcm": segmentation,
            "tumor_sr.dcm": parts["dicom_report"](series, segmentation, result),
            "prediction.json": json.dumps(result, indent=1).encode(),
        }

    def exported(self) -> Any:
        """The network of model.ts.

        Raises:
            ValueError: when it was exported from other weights than the bundle's.
        """
        import torch

        network = torch.jit.load(str(self.model), map_location="cpu")
        weights = torch.load(self.root / "models" / "model.pt", map_location="cpu", weights_only=True)
        found = network.state_dict()
        if found.keys() != weights.keys() or not all(torch.equal(found[name], weights[name]) for name in weights):
            raise ValueError(
                f"{self.model.name}: exported from other weights than the bundle's model.pt; export it again"
            )
        return network

    def parse(self) -> dict[str, Any]:
        """Instantiate the components of the bundle's inference config."""
        from monai.bundle import ConfigParser

        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
        parser = ConfigParser()
        parser.read_meta(str(self.root / "configs" / "metadata.json"))
        parser.read_config(str(self.root / "configs" / "inference.yaml"))
        # escaped, since `#` in a config's string would name a nested id
        parser["bundle_root"] = "$" + ascii(str(self.root)).replace("#", r"\x23").replace("@", r"\x40")
        names = COMPONENTS if self.model.suffix == ".ts" else (*COMPONENTS, "loaded")
        return {name: parser.get_parsed_content(name) for name in names}


class WriteFilesOperator(Operator):
    """Write files atomically.

    Args:
        fragment: the application.
        folder: for the files.

    Named input:
        files: name -> content.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, **kwargs: Any) -> None:
        self.folder = folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Name the port."""
        spec.input("files")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Write the received files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, content in op_input.receive("files").items():
            temporary = self.folder / f".{name}.tmp"
            temporary.write_bytes(content)
            temporary.replace(self.folder / name)


def bundle_folder(model: Path) -> Path:
    """The bundle of a model path: the path itself, one of its parents, or a folder in it.

    Raises:
        ValueError: when none of them is a bundle.
    """
    nearby = [model, *model.parents[:2], *(sorted(model.glob("*/")) if model.is_dir() else [])]
    for folder in nearby:
        if (folder / "configs" / "metadata.json").is_file():
            return folder.resolve()
    raise ValueError(f"{model}: no bundle here (configs/metadata.json)")


def modalities_of(model: Path) -> list[str]:
    """Sequences that the bundle's network reads, from its inference config."""
    from monai.bundle import ConfigParser

    config = ConfigParser.load_config_file(str(bundle_folder(model) / "configs" / "inference.yaml"))
    return list(config["modalities"])


def link_all(files: Iterable[Path], folder: Path) -> None:
    """Link files into a folder, with numbers as names."""
    for number, file in enumerate(files):
        (folder / f"{number:06d}.dcm").symlink_to(file.resolve())


def reason_of(error: BaseException) -> BaseException:
    """The first error of a chain."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
