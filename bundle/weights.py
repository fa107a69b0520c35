"""Find weights, read how their network was trained, and release them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .core import filenames, files, weights_report
from .core.regions import REGIONS, WHOLE_TUMOR, parts_of
from .errors import UserError
from .loading import BUNDLE_ROOT
from .manifest import read_json

__all__ = [
    "OF_NETWORK",
    "OF_STORE",
    "find_weights",
    "headline",
    "pins_of",
    "release",
    "report_beside",
    "require_served",
    "trained_as",
]

PINNED = {"monai": "monai", "pytorch": "torch", "numpy": "numpy"}  # name in the metadata: name of the package
OF_STORE = ("modalities", "regions")  # what a network reads, and what it segments: its slice store is made for both
OF_NETWORK = (*OF_STORE, "tumor_types")  # and which types of tumors it tells apart
IN_DISTRIBUTION_SHARE = 0.99  # of the held-out scans of a kind that count as in distribution


def find_weights(model: str | Path | None, root: Path = BUNDLE_ROOT) -> Path:
    """Path of the named weights, or of the bundle's own.

    Raises:
        UserError: when there is no such file.
    """
    path = Path(model) if model else root / "models" / "model.pt"
    if not path.is_file():
        raise UserError(f"{path}: no weights here; train some (python -m bundle pipeline) or name a file")
    return path.absolute()  # a relative path could begin with a character that a config evaluates


def report_beside(model_path: Path) -> dict[str, Any]:
    """The report beside weights; empty if there is none or it belongs to other weights."""
    return weights_report.report_beside(model_path)[0] or {}


def headline(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a report with those by tumor area, without rows of single cases and curves."""
    kept: dict[str, Any] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            kept |= {name: inner} if (inner := headline(value)) else {}
        elif not isinstance(value, list) or is_interval(value) or name == "by_tumor_area":
            kept[name] = value
    return kept


def is_interval(value: Sequence[Any]) -> bool:
    """Whether a list of a report is an interval: two numbers, or None where there were too few cases."""
    return len(value) == 2 and all(end is None or isinstance(end, float) for end in value)


def trained_as(model_path: Path, network: str | None = None) -> dict[str, Any]:
    """Overrides of the inference config that fit the weights.

    Args:
        model_path: the weights; network name, modalities, regions and tumor types are read from the report beside them,
            or else from `config.json`, which a training writes beside its weights.
        network: name of the network, instead of the one in these files.
    """
    settings = {**_network_settings(model_path.with_name("config.json"))}
    settings |= _network_settings(model_path.with_name("report.json"))
    return {**settings, **({"network_name": network} if network else {})}


def _network_settings(file: Path) -> dict[str, Any]:
    """Network name and the lists of `OF_NETWORK` in a file, identifiers only: a config would evaluate other text."""
    try:
        content = json.loads(file.read_text())
        content = content.get("model", content)
        name, lists = content.get("network_name"), {key: content.get(key) for key in OF_NETWORK}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    settings: dict[str, Any] = {"network_name": name} if _is_identifier(name) else {}
    for key, names in lists.items():
        if isinstance(names, list) and names and all(_is_identifier(one) for one in names):
            settings[key] = names
    return settings


def _is_identifier(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier()


def release_ood_detector(fitted: Path, held_out: Sequence[Mapping[str, Any]], models: Path) -> None:
    """Write the OOD detector beside the weights, with limits from held-out scans of the cross-validation.

    Args:
        fitted: the detector of the released weights, ood_detector.npz.
        held_out: "kind" and "distance" of each held-out scan.
        models: folder of model.pt; ood_detector.npz is written there.
    """
    import numpy as np

    by_kind = {kind: [row["distance"] for row in held_out if row["kind"] == kind] for kind in ("image", "volume")}
    by_kind = {kind: rows for kind, rows in by_kind.items() if rows}
    limits = {
        f"limit_{kind}": np.quantile(rows, IN_DISTRIBUTION_SHARE, method="inverted_cdf")
        for kind, rows in by_kind.items()
    }
    counts = ", ".join(f"{len(rows)} {kind}s" for kind, rows in by_kind.items())
    fitted_on = f"limits: at least {IN_DISTRIBUTION_SHARE:.0%} of {counts} that were left out are no farther"
    words = {"fitted_on": np.str_(fitted_on), "weights_sha256": np.str_(files.sha256_of(models / "model.pt"))}
    with np.load(fitted, allow_pickle=False) as content:
        arrays = {**content, **limits, **words}
    files.write_atomic(models / "ood_detector.npz", lambda file: np.savez_compressed(file, **arrays))


def release(trained: Path, report: Mapping[str, Any], models: Path) -> None:
    """Write weights and their report side by side, with the training cases.

    Args:
        trained: folder of a finished training.
        report: scores and decision of the weights.
        models: folder for model.pt and report.json; the hash is also written to the bundle's metadata.

    Raises:
        UserError: when the bundle's configs name another network: only `Predictor` could load the weights.
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
        **({"regions": config["regions"]} if len(config.get("regions", ())) > 1 else {}),
        **({"tumor_types": config["tumor_types"]} if config.get("tumor_types") else {}),
        **{name: notes[name] for name in ("learned", "trained_with", "unknown_lineage", "trained_on") if name in notes},
    }
    files.write_json(models / "report.json", {**report, "model": model})
    metadata = models.resolve().parent / "configs" / "metadata.json"
    if metadata.is_file():
        noted = {**read_json(metadata), "weights_sha256": {"models/model.pt": model["sha256"]}}
        _describe_channels(noted["network_data_format"]["inputs"]["image"], model["modalities"])
        _describe_output(noted, model.get("regions", WHOLE_TUMOR), model.get("tumor_types", ()))
        files.write_json(metadata, with_installed_versions(noted), indent=4)


def _describe_channels(image: dict[str, Any], modalities: Sequence[str]) -> None:
    """Name the channels in the metadata's description of the network's input; that of the first stays as it is."""
    if image["num_channels"] != len(modalities):
        unit = str(image["channel_def"]["0"]).partition(",")[2]
        titles = [filenames.SEQUENCES.get(name, name) for name in modalities]
        image["num_channels"] = len(modalities)
        image["channel_def"] = {str(number): f"{title},{unit}" for number, title in enumerate(titles)}


def _describe_output(metadata: dict[str, Any], regions: Sequence[str], types: Sequence[str]) -> None:
    """Name the codes of the mask and the types in the metadata; of the same channels the words stay as they are."""
    packed, channels = metadata["network_data_format"]["outputs"]["pred"], len(regions) + 1 + len(types)
    if packed["num_channels"] != channels:
        parts, titles = parts_of(regions), [REGIONS[name].title for name in regions]
        packed["num_channels"] = channels
        packed["channel_def"] = {"0": "background", **{str(code): parts[code] for code in sorted(parts)}}
        words = ", ".join(f"{code} {parts[code]}" for code in sorted(parts))
        metadata["label_classes"] = f"single-channel mask: {words}, 0 everything else"
        metadata["pred_classes"] = (
            f"{channels} channels: logits of the masks of {', '.join(titles)},"
            " logit of the slice's class broadcast over the plane"
            + (f", logits of the tumor's types {', '.join(types)}, given a tumor, likewise" if types else "")
        )


def require_served(config: Mapping[str, Any], models: Path) -> None:
    """Refuse weights if the bundle's inference config names another network, modalities, regions or tumor types.

    Args:
        config: "network_name" and those of `OF_NETWORK` of the weights, if known.
        models: folder of the release.

    Raises:
        UserError: naming the config and the key.
    """
    import yaml

    inference = models.resolve().parent / "configs" / "inference.yaml"
    served = yaml.safe_load(inference.read_text()) if inference.is_file() else {}
    for name in {"network_name", *OF_NETWORK} & served.keys() & config.keys():
        if config[name] != served[name]:
            raise UserError(f"{inference}: serves {name} {served[name]}, not {config[name]}; change it there first")


def pins_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The version of every package that a bundle's metadata names."""
    fixed = {package: metadata[f"{name}_version"] for name, package in PINNED.items()}
    return fixed | metadata["required_packages_version"]


def with_installed_versions(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle's metadata with the installed versions, which were tested together."""
    from importlib.metadata import version

    def installed(package: str) -> str:
        return version(package).partition("+")[0]

    fixed = {f"{name}_version": installed(package) for name, package in PINNED.items()}
    required = {package: installed(package) for package in metadata["required_packages_version"]}
    return {**metadata, **fixed, "required_packages_version": required}
