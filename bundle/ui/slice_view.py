"""A picture, or one slice of a volume, with buttons and sliders for brightness, contrast, mask and CAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from ..core import weights_report
from ..pictures.drawing import legend_of, levels_of, windowed
from .picture import picture_of, upright_planes
from .volume_view import MASKED

__all__ = ["show_slice"]

KEYS = {"mask": "M", "CAM": "A", "reset": "W"}  # as in `viewer/viewer.js`; Streamlit keeps C for itself
OPACITIES = {"mask": 0.2, "CAM": 0.4}
TASKS = {"mask": "segmentation", "CAM": "classification"}  # without which there is none


def show_slice(
    prediction: Mapping[str, Any], index: int | None, frame: Any
) -> tuple[Image.Image, dict[str, np.ndarray]]:
    """Show one slice; below it are its buttons and sliders.

    Args:
        prediction: see `predicted` of the page.
        index: of the slice; None for an image, which has keys, too.
        frame: place of the picture on the page.

    Returns:
        The picture, and the planes that it was drawn from, see `upright_planes`.
    """
    result, scan, keys = prediction["result"], prediction["id"], KEYS if index is None else {}
    buttons = st.container(horizontal=True)
    names = [name for name, task in TASKS.items() if task in weights_report.learned_of(result["model"])]
    shown = {name: switch(buttons, name, scan, result["state"] in MASKED, keys.get(name)) for name in names}
    brightness, contrast, opacity = sliders(buttons, scan, shown, keys.get("reset"))
    planes = upright_planes(prediction, index)
    levels = windowed(levels_of(planes["scan"]), brightness, contrast)
    image = picture_of(prediction, planes, opacity.get("mask", 0.0), opacity.get("CAM", 0.0), levels)
    frame.image(image, caption=caption_of(prediction, index, opacity), width="stretch")
    if "mask_deviation" in planes and any(opacity.values()):
        uncertain = {**planes, "cam": 2 * planes["mask_deviation"]}
        uncertainty = picture_of(prediction, uncertain, 0.0, 1.0, levels)
        st.image(uncertainty, caption="teal: uncertainty of the mask (Monte-Carlo dropout)", width="stretch")
    return image, planes


def switch(place: Any, name: str, scan: str, first: bool, key: str | None) -> bool:
    """Whether mask or CAM is shown, with a button to change it."""
    state = f"{name} of {scan}"
    shown = bool(st.session_state.setdefault(state, first))

    def change() -> None:
        st.session_state[state] = not shown

    place.button(f"{'Hide' if shown else 'Show'} {name}", key=f"switch {name}", shortcut=key, on_click=change)
    return shown


def sliders(
    buttons: Any, scan: str, shown: Mapping[str, bool], key: str | None
) -> tuple[float, float, dict[str, float]]:
    """Brightness, contrast and the opacity of mask and CAM; on a phone one click away, see `STYLE` of the page."""
    opened = bool(st.session_state.get("adjusting"))
    with buttons.container(key="adjust_button", width="content"):
        st.button("Adjust", icon=":material/tune:", on_click=st.session_state.update, args=({"adjusting": not opened},))
    with st.container(key="adjust_opened" if opened else "adjust"):
        *places, last = st.columns(3 + len(shown), vertical_alignment="bottom")
    names = [f"{name} of {scan}" for name in ("Brightness", "Contrast")]
    window = [
        place.slider(name.partition(" ")[0], -100, 100, 0, 5, key=name)
        for place, name in zip(places, names, strict=False)
    ]
    opacity = {}
    for place, (name, on) in zip(places[2:], shown.items(), strict=True):
        label = f"{name[:1].upper()}{name[1:]}: opacity"
        opacity[name] = place.slider(label, 0.05, 1.0, OPACITIES[name], 0.05, disabled=not on) * on
    last.button(
        "Reset",
        help="Brightness and contrast as at first",
        shortcut=key,
        on_click=st.session_state.update,
        args=(dict.fromkeys(names, 0),),
    )
    return window[0], window[1], opacity


def caption_of(prediction: Mapping[str, Any], index: int | None, opacity: Mapping[str, float]) -> str:
    """What is shown, and whether left is known from right."""
    result = prediction["result"]
    colors = {"mask": "orange: predicted tumor mask", "CAM": "teal: class activation map (CAM)"}
    if regions := result.get("regions"):
        colors["mask"] = ", ".join(legend_of(regions))
    words = [colors[name] for name, value in opacity.items() if value] or ["without mask and CAM"]
    if result["kind"] == "volume" and index is not None:
        words.insert(0, f"slice {index}, probability {probability_in(result, index)}")
    return "; ".join([*words, *([] if prediction["edges"] else ["the file does not tell left from right"])])


def probability_in(result: Mapping[str, Any], index: int) -> str:
    """Tumor probability of a slice, in words."""
    probability = result["slice_probabilities"][index]
    return "unknown (too little brain)" if probability is None else f"{probability:.2f}"
