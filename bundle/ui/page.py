"""The page, from top to bottom. Streamlit runs this file anew whenever a person touches something."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from bundle import NOTICE, Predictor
from bundle.core import geometry, messages
from bundle.errors import UserError
from bundle.intake.limits import MIB
from bundle.ui.drawing import outside_head, overlay, upright
from bundle.ui.launch import settings
from bundle.ui.report_sheet import sheet
from bundle.ui.texts import evidence, reasons_for_doubt, size_of
from bundle.views import most_suspicious, slice_of

SHOWN = {"no_tumor": st.info, "uncertain": st.warning, "tumor": st.error, "no_prediction": st.warning}
KEPT, KEPT_S = 4, 600  # predictions that are remembered, and no longer than so many seconds


@st.cache_resource(show_spinner="Loading the weights ...")
def predictor() -> Predictor:
    """The weights, loaded once for everybody."""
    return settings().predictor()


@st.cache_resource(show_spinner="Making examples ...")
def examples() -> dict[str, bytes]:
    """Synthetic phantoms by what they show; they belong to nobody."""
    from bundle.datasets.phantoms import write_images, write_volumes

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_volumes(root / "brats", 1, slices=24)
        write_images(root / "kaggle", 8)
        picked: dict[str, Path] = {"Phantom volume with a tumor": next(root.glob("brats/*/*_flair.nii.gz"))}
        for label, words in (("yes", "with a tumor"), ("no", "without a tumor")):
            for number, path in enumerate(sorted((root / "kaggle" / label).iterdir())[:2], start=1):
                picked[f"Phantom image {number} {words}"] = path
        return {name: path.read_bytes() for name, path in picked.items()}


@st.cache_data(show_spinner="Looking at the scan ...", max_entries=KEPT, ttl=KEPT_S)
def predicted(content: bytes, include_uncertainty: bool) -> dict[str, Any]:
    """Prediction and everything that is drawn, of one scan."""
    asked = predictor()
    image = asked.read(content)
    found = asked.infer(image, include_cam=True, include_uncertainty=include_uncertainty)
    volumes: dict[str, Any] = {
        "scan": image,
        **{name: found[name] for name in ("pred", "cam", "mask_deviation") if name in found},
    }
    return {
        "result": dict(found["result"]),
        "affine": np.asarray(found["pred"].meta["original_affine"]),
        "files": asked.files(found),
        "planes": {name: np.asarray(volume.as_tensor()[:1]) for name, volume in volumes.items()},
    }


def main() -> None:
    """Everything that is seen."""
    st.set_page_config(page_title="Brain MRI: tumor segmentation and classification", layout="wide")
    st.title("Is there a tumor, and where?")
    st.warning(f"**{NOTICE}** Do not use any of it to decide about a person.", icon=":material/warning:")
    if not admitted():
        return
    content, include_uncertainty = asked_for()
    if content is None:
        st.write(
            "Upload a scan of a head on the left, or choose an example. Nothing is sent elsewhere. While the scan is "
            "decoded it lies in a temporary file on this server, which is then removed; in its memory the scan stays "
            f"until the page is closed, and of all predictions the last {KEPT}."
        )
        about_the_model()
        return
    try:
        found = predicted(content, include_uncertainty)
    except UserError as error:
        reason = str(error)
        st.error(
            f"This file cannot be predicted: {reason}. Take a PNG, JPEG, NIfTI or DICOM file of a head.",
            icon=":material/block:",
        )
        return
    show(found)
    about_the_model()


def admitted() -> bool:
    """Ask for the token, where there is one."""
    token = settings().token
    if token is None or st.session_state.get("admitted"):
        return True
    given = st.text_input("Token", type="password")
    if given and hmac.compare_digest(given.encode(), token.encode()):
        st.session_state["admitted"] = True
        st.rerun()
    if given:
        st.error("That is not the token.")
    return False


def asked_for() -> tuple[bytes | None, bool]:
    """The scan, and whether the uncertainty is wanted; all on the left."""
    chosen = settings()
    with st.sidebar:
        st.header("Scan")
        allowed = f"At most {chosen.limits.request_bytes / MIB:g} MiB."
        upload = st.file_uploader("A slice or a volume (PNG, JPEG, NIfTI, DICOM)", help=allowed)
        example = st.radio(
            "or an example",
            ["none", *examples()],
            help="Synthetic: unlike what the released weights learned from, and often called wrong.",
            disabled=upload is not None,
        )
        samples = predictor().parts["mc_samples"]
        include_uncertainty = st.checkbox("How sure? (slower)", help=f"Monte-Carlo dropout over {samples} networks.")
        st.caption(NOTICE)
    if upload is not None:
        return upload.getvalue(), include_uncertainty
    return (None if example == "none" else examples()[example]), include_uncertainty


def show(found: Mapping[str, Any]) -> None:
    """State, picture, numbers, doubts, downloads."""
    result = found["result"]
    title, sentence = messages.STATES[result["state"]]
    SHOWN[result["state"]](f"### {title}\n{sentence}")
    for text in (flag["text"] for flag in result["flags"]):
        st.warning(f"{text[:1].upper()}{text[1:]}.", icon=":material/search:")
    if result["tumor_probability"] is None:
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        picture, doubts = look(found)
    with right:
        numbers(result)
        st.subheader("Why not to trust this")
        st.markdown("\n".join(f"- {doubt}" for doubt in doubts))
        downloads(found, picture, doubts)


def look(found: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """The picture with its sliders; returned with the doubts that it raises."""
    result, planes = found["result"], found["planes"]
    index, is_volume = most_suspicious(result), result["kind"] == "volume"
    if is_volume:
        index = chosen_slice(result, index)
    draw = result["state"] != "no_tumor" or st.checkbox("Show outline and map all the same")
    frame, controls = st.container(), st.columns(2)
    mask_opacity = controls[0].slider("Outline: opacity of its area", 0.0, 1.0, 0.2, 0.05) if draw else 0.0
    cam_opacity = controls[1].slider("Map: opacity", 0.0, 1.0, 0.4, 0.05) if draw else 0.0
    axis = int(result.get("slice_axis", 2))
    turned = {name: upright(slice_of(plane, result, index), found["affine"], axis) for name, plane in planes.items()}
    picture = overlay(turned["scan"], turned["pred"], turned["cam"], mask_opacity, cam_opacity)
    where = f"slice {index}, " if is_volume else ""
    drawn = "orange: outlined as tumor; teal: where the probability comes from" if draw else "nothing is drawn"
    frame.image(picture, caption=f"{where}{drawn}", width="stretch")
    if "mask_deviation" in turned and draw:
        unsure = overlay(turned["scan"], None, 2 * turned["mask_deviation"], 0.0, 1.0)
        st.image(unsure, caption="teal: where the networks differ about the outline", width="stretch")
    if is_volume:
        in_three_dimensions(found)
    outside = outside_head(turned["cam"], turned["scan"])
    area = float(turned["pred"].sum()) * geometry.pixel_mm2(found["affine"]) if is_volume else None
    return picture, reasons_for_doubt(result, predictor().describe(), outside, area or None)


def chosen_slice(result: Mapping[str, Any], suspicious: int | None) -> int:
    """The slice that is shown, with the curve of all of them."""
    import altair as alt
    import pandas as pd

    probabilities = result["slice_probabilities"]
    if "slice" not in st.session_state or st.session_state.get("of") != id_of(result):
        st.session_state["slice"], st.session_state["of"] = suspicious or 0, id_of(result)
    if st.button(f"Jump to the most suspicious slice ({suspicious})"):
        st.session_state["slice"] = suspicious or 0
    index = st.slider("Slice", 0, len(probabilities) - 1, key="slice")
    table = pd.DataFrame({"slice": range(len(probabilities)), "probability": probabilities})
    across = alt.X("slice:Q", title="slice", axis=alt.Axis(tickMinStep=1))
    upwards = alt.Y("probability:Q", title="probability", scale=alt.Scale(domain=[0, 1]))
    line = alt.Chart(table).mark_line(point=True).encode(x=across, y=upwards)
    point, here = pd.DataFrame({"probability": [result["threshold"]]}), pd.DataFrame({"slice": [index]})
    line += alt.Chart(point).mark_rule(strokeDash=[4, 4]).encode(y=upwards)
    line += alt.Chart(here).mark_rule(color="#ff9f1c").encode(x=across)
    st.altair_chart(line.properties(height=160), width="stretch")
    st.caption("Probability of each slice; dashed: the operating point. Slices without a point show too little brain.")
    return int(index)


def id_of(result: Mapping[str, Any]) -> str:
    """Something that differs from scan to scan."""
    return hashlib.sha256(json.dumps(result["slice_probabilities"]).encode()).hexdigest()


def in_three_dimensions(found: Mapping[str, Any]) -> None:
    """The whole volume in NiiVue, on request: it sends the volume to the browser."""
    if not st.toggle("View the volume in three planes (NiiVue)"):
        return
    import nibabel as nib
    from niivue_component import niivue_viewer

    scan = nib.Nifti1Image(found["planes"]["scan"][0].astype(np.float32), found["affine"])
    overlays = [{"data": found["files"]["mask.nii.gz"], "name": "mask.nii.gz", "colormap": "red", "opacity": 0.4}]
    niivue_viewer(scan.to_bytes(), "scan.nii", overlays=overlays, height=480, styled=False, update_interval_ms=None)


def numbers(result: Mapping[str, Any]) -> None:
    """Probability, threshold and size."""
    columns = st.columns(3)
    columns[0].metric("Probability", f"{result['tumor_probability']:.2f}", help="Calibrated, see below.")
    columns[1].metric("Operating point", f"{result['threshold']:.2f}")
    columns[2].metric("Outlined", size_of(result) or "?", help="Where the file tells its spacing.")
    if "tumor_deviation" in result:
        st.write(f"Over the networks the probability varies by ± {result['tumor_deviation']:.2f}.")


def downloads(found: Mapping[str, Any], picture: Any, doubts: list[str]) -> None:
    """Files to take away."""
    st.subheader("Take away")
    mask = next(name for name in found["files"] if name.startswith("mask."))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    files = {
        f"Mask ({mask})": (mask, found["files"][mask]),
        "Picture (PNG)": ("view.png", buffer.getvalue()),
        "Prediction (JSON)": ("prediction.json", json.dumps(found["result"], indent=1).encode()),
        "One page (PDF)": ("prediction.pdf", sheet(found["result"], picture, doubts)),
    }
    for label, (name, content) in files.items():
        st.download_button(label, content, name, on_click="ignore")


def about_the_model() -> None:
    """Metric cards, from the loaded weights' own report and from nowhere else."""
    described = predictor().describe()
    st.divider()
    st.subheader("These weights")
    model = described["model"]
    st.caption(f"bundle {model['version']}, weights with SHA-256 {model['sha256']}; {model['report']['text']}")
    scores = described["scores"]
    if not scores:
        st.write("No scores of these weights are known, so there is nothing to say of how good they are.")
        return
    cards = st.columns(4)
    segmentation = scores["segmentation"]
    if segmentation.get("mean", {}).get("dice") is not None:
        cards[0].metric(f"Dice, mean of {segmentation['patients_n']} patients", f"{segmentation['mean']['dice']:.2f}")
    for card, (name, found) in zip(cards[1:], scores["classification"].items(), strict=False):
        auc = found.get("within_folds", found)["roc_auc"]
        card.metric(f"ROC-AUC within {name}, n = {found['n']}", "?" if auc is None else f"{auc:.2f}")
    for kind in ("image", "volume"):
        st.markdown(f"**{kind.capitalize()}s.** " + " ".join(evidence(kind, described)))


main()
