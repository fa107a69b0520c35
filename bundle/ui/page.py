"""The page, from top to bottom. Streamlit runs this file again at every interaction."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from bundle import NOTICE, Predictor
from bundle.core import geometry, messages
from bundle.drawing import outside_head, overlay, upright
from bundle.errors import UserError
from bundle.intake.limits import MIB
from bundle.service.access import Allowance
from bundle.ui.launch import settings
from bundle.ui.report_sheet import sheet
from bundle.ui.texts import evidence, limitations
from bundle.views import most_suspicious, size_of, slice_of

SHOWN = {"no_tumor": st.info, "uncertain": st.warning, "tumor": st.error, "no_prediction": st.warning}
WRONG_S = 2.0  # until a wrong token is answered when there were too many
KEPT, KEPT_S = 4, 600  # number of cached predictions, and their lifetime in seconds


@st.cache_resource(show_spinner="Loading the weights ...")
def predictor() -> Predictor:
    """The weights, loaded once for all sessions."""
    return settings().predictor()


@st.cache_resource(show_spinner="Generating examples ...")
def examples() -> dict[str, bytes]:
    """Synthetic phantoms by their description."""
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


@st.cache_data(show_spinner="Predicting ...", max_entries=KEPT, ttl=KEPT_S)
def predicted(content: bytes, include_uncertainty: bool) -> dict[str, Any]:
    """Predict one scan; return the prediction and all planes that are shown."""
    model = predictor()
    image = model.read(content)
    prediction = model.infer(image, include_cam=True, include_uncertainty=include_uncertainty)
    volumes: dict[str, Any] = {
        "scan": image,
        **{name: prediction[name] for name in ("pred", "cam", "mask_deviation") if name in prediction},
    }
    return {
        "result": dict(prediction["result"]),
        "affine": np.asarray(prediction["pred"].meta["original_affine"]),
        "files": model.files(prediction),
        "planes": {name: np.asarray(volume.as_tensor()[:1]) for name, volume in volumes.items()},
    }


def main() -> None:
    """Show the whole page."""
    st.set_page_config(page_title="Brain MRI: tumor segmentation and classification", layout="wide")
    st.title("Brain MRI: tumor segmentation and classification")
    st.warning(f"**{NOTICE}** Do not use it for decisions about a patient.", icon=":material/warning:")
    if not authorized():
        return
    content, include_uncertainty = inputs()
    if content is None:
        st.write(
            "Upload a head scan on the left, or choose an example. The scan is processed on this server only "
            "and stays in memory until the page is closed; nothing of it is written to a file. "
            f"The last {KEPT} predictions stay in memory for {KEPT_S // 60} minutes."
        )
        about_the_model()
        return
    try:
        prediction = predicted(content, include_uncertainty)
    except UserError as error:
        reason = str(error)
        st.error(
            f"This file cannot be predicted: {reason}. Use a NIfTI, NRRD, MetaImage, DICOM or picture file of a head.",
            icon=":material/block:",
        )
        return
    show(prediction)
    about_the_model()


def authorized() -> bool:
    """Ask for the token, if one is set."""
    token = settings().token
    if token is None or st.session_state.get("authorized"):
        return True
    given = st.text_input("Token", type="password")
    if given and hmac.compare_digest(given.encode(), token.encode()):
        st.session_state["authorized"] = True
        st.rerun()
    if given and not wrong_tokens().take(""):
        time.sleep(WRONG_S)
    if given:
        st.error("Wrong token.")
    return False


@st.cache_resource(show_spinner=False)
def wrong_tokens() -> Allowance:
    """Wrong tokens of all sessions that are answered at once; further ones have to wait."""
    return Allowance(settings().wrong_tokens)


def inputs() -> tuple[bytes | None, bool]:
    """The scan, and whether the uncertainty is wanted, chosen in the sidebar."""
    chosen = settings()
    with st.sidebar:
        st.header("Scan")
        allowed = f"At most {chosen.limits.request_bytes / MIB:g} MiB."
        upload = st.file_uploader("A slice or a volume (NIfTI, NRRD, MetaImage, DICOM, pictures)", help=allowed)
        example = st.radio(
            "or an example",
            ["none", *examples()],
            help="Synthetic phantoms: out of distribution for the released weights, which often misclassify them.",
            disabled=upload is not None,
        )
        passes = predictor().parts["mc_samples"]
        include_uncertainty = st.checkbox("Uncertainty (slower)", help=f"Monte-Carlo dropout, {passes} passes.")
        st.caption(NOTICE)
    if upload is not None:
        return upload.getvalue(), include_uncertainty
    return (None if example == "none" else examples()[example]), include_uncertainty


def show(prediction: Mapping[str, Any]) -> None:
    """Show state, image, numbers, limitations, downloads."""
    result = prediction["result"]
    title, sentence = messages.STATES[result["state"]]
    SHOWN[result["state"]](f"### {title}\n{sentence}")
    for text in (flag["text"] for flag in result["flags"]):
        st.warning(f"{text[:1].upper()}{text[1:]}.", icon=":material/search:")
    if result["tumor_probability"] is None:
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        image, limits = view(prediction)
    with right:
        numbers(result)
        st.subheader("Limitations")
        st.markdown("\n".join(f"- {limit}" for limit in limits))
        downloads(prediction, image, limits)


def view(prediction: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Show the image with its sliders; return it with the limitations of the prediction."""
    result, planes = prediction["result"], prediction["planes"]
    index, is_volume = most_suspicious(result), result["kind"] == "volume"
    if is_volume:
        index = chosen_slice(result, index)
    overlays = result["state"] != "no_tumor" or st.checkbox("Show mask and CAM anyway")
    frame, controls = st.container(), st.columns(2)
    mask_opacity = controls[0].slider("Mask: opacity", 0.0, 1.0, 0.2, 0.05) if overlays else 0.0
    cam_opacity = controls[1].slider("CAM: opacity", 0.0, 1.0, 0.4, 0.05) if overlays else 0.0
    axis = int(result.get("slice_axis", 2))
    affine = prediction["affine"]
    turned = {name: upright(slice_of(plane, result, index), affine, axis) for name, plane in planes.items()}
    image = overlay(turned["scan"], turned["pred"], turned["cam"], mask_opacity, cam_opacity)
    where = f"slice {index}, " if is_volume else ""
    shown = "orange: predicted tumor mask; teal: class activation map (CAM)" if overlays else "without mask and CAM"
    frame.image(image, caption=f"{where}{shown}", width="stretch")
    if "mask_deviation" in turned and overlays:
        uncertainty = overlay(turned["scan"], None, 2 * turned["mask_deviation"], 0.0, 1.0)
        st.image(uncertainty, caption="teal: uncertainty of the mask (Monte-Carlo dropout)", width="stretch")
    if is_volume:
        in_three_dimensions(prediction)
    outside = outside_head(turned["cam"], turned["scan"])
    area = float(turned["pred"].sum()) * geometry.pixel_mm2(affine) if is_volume else None
    return image, limitations(result, predictor().describe(), outside, area or None)


def chosen_slice(result: Mapping[str, Any], suspicious: int | None) -> int:
    """Show a slider and the probability curve of all slices; return the chosen slice."""
    import altair as alt
    import pandas as pd

    probabilities = result["slice_probabilities"]
    if "slice" not in st.session_state or st.session_state.get("of") != id_of(result):
        st.session_state["slice"], st.session_state["of"] = suspicious or 0, id_of(result)
    if st.button(f"Go to the slice with the highest probability ({suspicious})"):
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
    st.caption("Probability of each slice; dashed: operating point. Slices without a point show too little brain.")
    return int(index)


def id_of(result: Mapping[str, Any]) -> str:
    """An id of the scan."""
    return hashlib.sha256(json.dumps(result["slice_probabilities"]).encode()).hexdigest()


def in_three_dimensions(prediction: Mapping[str, Any]) -> None:
    """Show the whole volume in NiiVue, on request, since the volume is sent to the browser."""
    if not st.toggle("View the volume in three planes (NiiVue)"):
        return
    import nibabel as nib
    from niivue_component import niivue_viewer

    scan = nib.Nifti1Image(prediction["planes"]["scan"][0].astype(np.float32), prediction["affine"])
    overlays = [{"data": prediction["files"]["mask.nii.gz"], "name": "mask.nii.gz", "colormap": "red", "opacity": 0.4}]
    niivue_viewer(scan.to_bytes(), "scan.nii", overlays=overlays, height=480, styled=False, update_interval_ms=None)


def numbers(result: Mapping[str, Any]) -> None:
    """Show probability, threshold and size."""
    columns = st.columns(3)
    columns[0].metric("Probability", f"{result['tumor_probability']:.2f}", help="Calibrated, see Limitations.")
    columns[1].metric("Operating point", f"{result['threshold']:.2f}")
    columns[2].metric("Mask", size_of(result) or "?", help="Known if the file contains its pixel spacing.")
    if "tumor_deviation" in result:
        st.write(f"Monte-Carlo dropout: standard deviation of the probability {result['tumor_deviation']:.2f}.")


def downloads(prediction: Mapping[str, Any], image: Any, limits: list[str]) -> None:
    """Show the download buttons."""
    st.subheader("Downloads")
    mask = next(name for name in prediction["files"] if name.startswith("mask."))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    files = {
        f"Mask ({mask})": (mask, prediction["files"][mask]),
        "Image (PNG)": ("view.png", buffer.getvalue()),
        "Prediction (JSON)": ("prediction.json", json.dumps(prediction["result"], indent=1).encode()),
        "One page (PDF)": ("prediction.pdf", sheet(prediction["result"], image, limits)),
    }
    for label, (name, content) in files.items():
        st.download_button(label, content, name, on_click="ignore")


def about_the_model() -> None:
    """Show the scores of the loaded weights, from their report."""
    described = predictor().describe()
    st.divider()
    st.subheader("Evaluation of these weights")
    model = described["model"]
    st.caption(f"bundle {model['version']}, weights with SHA-256 {model['sha256']}; {model['report']['text']}")
    scores = described["scores"]
    if not scores:
        st.write("There is no report for these weights: their accuracy is unknown.")
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
