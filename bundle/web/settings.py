"""The inference config as plain JSON for the browser, which has neither MONAI nor YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import messages
from ..loading import load_workflow

if TYPE_CHECKING:
    from ..predictor import Predictor

__all__ = ["settings_of"]

KNOWN = {"@decision": "@decision", "@model_card": "@model", "@ood_detector": "@ood_detector"}  # made in the browser


def settings_of(predictor: Predictor) -> dict[str, Any]:
    """The transforms and rules of loaded weights.

    Returns:
        "preprocessing" and "postprocessing" (lists of transforms), "inferer": each with `_target_` and its arguments,
        "@name" for a component that the browser makes; "decision", "model", "notice".
    """
    workflow = load_workflow(["inference.yaml"], predictor.root, **predictor.settings)
    workflow.initialize()
    parser = workflow.parser

    def plain(value: Any, place: str) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(part, f"{place}::{name}") for name, part in value.items()}
        if isinstance(value, list):
            return [plain(part, f"{place}::{index}") for index, part in enumerate(value)]
        if value in KNOWN or value == "@preprocessing":
            return KNOWN.get(value, value)
        if isinstance(value, str) and value.startswith(("@", "$")) and not value.startswith("$lambda"):
            found = parser.get_parsed_content(place)
            return Path(found).relative_to(predictor.root).as_posix() if isinstance(found, (str, Path)) else found
        return value

    def transforms(id: str) -> list[Any]:
        listed = plain(parser.get(f"{id}::transforms"), f"{id}::transforms")
        used = [spec for spec in listed if not spec.get("_disabled_")]
        return [{name: value for name, value in spec.items() if name != "_disabled_"} for spec in used]

    return {
        "preprocessing": transforms("preprocessing"),
        "inferer": plain(parser.get("inferer"), "inferer"),
        "postprocessing": transforms("postprocessing"),
        "decision": asdict(predictor.parts["decision"]),
        "model": dict(predictor.parts["model_card"]),
        "notice": messages.NOTICE,
    }
