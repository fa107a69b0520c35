"""Which weights, how their network was trained, and how they are released."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .core import files
from .errors import UserError
from .loading import BUNDLE_ROOT
from .manifest import read_json

__all__ = ["find_weights", "headline", "pins_of", "release", "report_beside", "require_served", "trained_as"]

PINNED = {"monai": "monai", "pytorch": "torch", "numpy": "numpy"}  # by the metadata's own names
IN_DISTRIBUTION_SHARE = 0.99  # of the scans of one kind that were left out: so many are called familiar


def find_weights(model: str | Path | None, root: Path = BUNDLE_ROOT) -> Path:
    """The weights that are named, or the bundle's own.

    Raises:
        UserError: when there are none.
    """
    path = Path(model) if model else root / "models" / "model.pt"
    if not path.is_file():
        raise UserError(f"{path}: no weights here; train some (python -m bundle pipeline) or name a file")
    return path.absolute()  # a relative name may begin with a sign that makes code of it in a config


def report_beside(model_path: Path) -> dict[str, Any]:
    """The report beside weights; empty where there is none, or it is another's."""
    try:
        report: dict[str, Any] = json.loads(model_path.with_name("report.json").read_text())
        return report if report["model"]["sha256"] == files.sha256_of(model_path) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a report without their rows of single cases and curves; those by tumor area stay."""
    kept: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            kept |= {name: inner} if (inner := headline(value)) else {}
        elif not isinstance(value, list) or is_interval(value) or name == "by_tumor_area":
            kept[name] = value
    return kept


def is_interval(value: Sequence[Any]) -> bool:
    """Whether a list of a report is an interval: two numbers, unknown where there were too few cases."""
    return len(value) == 2 and all(end is None or isinstance(end, float) for end in value)


def trained_as(model_path: Path, network: str | None = None) -> dict[str, Any]:
    """Overrides of the inference config that fit the weights.

    Args:
        model_path: the weights; the report beside them tells the network's name and modalities, or else `config.json`,
            the settings that a training leaves beside its weights.
        network: comes first.
    """
    told = {**_told(model_path.with_name("config.json")), **_told(model_path.with_name("report.json"))}
    return {**told, **({"network_name": network} if network else {})}


def _told(file: Path) -> dict[str, Any]:
    """What a file tells of network and modalities, in plain words: anything else could be code to a config."""
    try:
        content = json.loads(file.read_text())
        content = content.get("model", content)
        name, modalities = content.get("network_name"), content.get("modalities")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    told: dict[str, Any] = {"network_name": name} if _is_word(name) else {}
    if isinstance(modalities, list) and modalities and all(_is_word(one) for one in modalities):
        told["modalities"] = modalities
    return told


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier()


def release_ood_detector(learned: Path, left_out: Sequence[Mapping[str, Any]], models: Path) -> None:
    """Put what is familiar to weights beside them, with limits from scans that other weights of their recipe left out.

    Args:
        learned: the detector of the released weights, ood_detector.npz.
        left_out: "kind" and "distance" of each scan.
        models: holds model.pt; gets ood_detector.npz.
    """
    import numpy as np

    by_kind = {kind: [row["distance"] for row in left_out if row["kind"] == kind] for kind in ("image", "volume")}
    by_kind = {kind: rows for kind, rows in by_kind.items() if rows}
    limits = {
        f"limit_{kind}": np.quantile(rows, IN_DISTRIBUTION_SHARE, method="inverted_cdf")
        for kind, rows in by_kind.items()
    }
    counts = ", ".join(f"{len(rows)} {kind}s" for kind, rows in by_kind.items())
    fitted_on = f"limits: at least {IN_DISTRIBUTION_SHARE:.0%} of {counts} that were left out are no farther"
    words = {"fitted_on": np.str_(fitted_on), "weights_sha256": np.str_(files.sha256_of(models / "model.pt"))}
    with np.load(learned, allow_pickle=False) as content:
        arrays = {**content, **limits, **words}
    files.write_atomic(models / "ood_detector.npz", lambda file: np.savez_compressed(file, **arrays))


def release(trained: Path, report: Mapping[str, Any], models: Path) -> None:
    """Put weights and their report side by side, with what they were trained on.

    Args:
        trained: folder of a finished training.
        report: what is known of the weights: scores, decision.
        models: gets model.pt and report.json; a bundle's own folder has its metadata beside, which get the hash.

    Raises:
        UserError: when the bundle's own configs serve another network: everybody but `Predictor` would fail on them.
    """
    config, notes = read_json(trained / "config.json"), read_json(trained / "model.json")
    require_served(config, models)
    models.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trained / "model.pt", models / ".model.pt.tmp")
    (models / ".model.pt.tmp").replace(models / "model.pt")
    model = {
        "version": __version__,
        "sha256": files.sha256_of(models / "model.pt"),
        "network_name": config["network_name"],
        "modalities": config["modalities"],
        **{name: notes[name] for name in ("unknown_lineage", "trained_on") if name in notes},
    }
    files.write_json(models / "report.json", {**report, "model": model})
    metadata = models.resolve().parent / "configs" / "metadata.json"
    if metadata.is_file():
        noted = {**read_json(metadata), "weights_sha256": {"models/model.pt": model["sha256"]}}
        files.write_json(metadata, with_installed_versions(noted), indent=4)


def require_served(config: Mapping[str, Any], models: Path) -> None:
    """Refuse weights for a bundle whose own config serves another network, or other modalities.

    Args:
        config: "network_name" and "modalities" of the weights, as far as they are known.
        models: where they would be released.

    Raises:
        UserError: naming the config and the key.
    """
    import yaml

    inference = models.resolve().parent / "configs" / "inference.yaml"
    served = yaml.safe_load(inference.read_text()) if inference.is_file() else {}
    for name in {"network_name", "modalities"} & served.keys() & config.keys():
        if config[name] != served[name]:
            raise UserError(f"{inference}: serves {name} {served[name]}, not {config[name]}; change it there first")


def pins_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The version of every package that a bundle's metadata name."""
    fixed = {package: metadata[f"{name}_version"] for name, package in PINNED.items()}
    return fixed | metadata["required_packages_version"]


def with_installed_versions(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle's metadata with the versions that are installed here, which are those that were tested together."""
    from importlib.metadata import version

    def installed(package: str) -> str:
        return version(package).partition("+")[0]

    fixed = {f"{name}_version": installed(package) for name, package in PINNED.items()}
    required = {package: installed(package) for package in metadata["required_packages_version"]}
    return {**metadata, **fixed, "required_packages_version": required}
