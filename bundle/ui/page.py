"""The page: the scan first, its prediction beside it, the rest one click away.

Streamlit runs this file again at every interaction.
"""

from __future__ import annotations

import hmac
import io
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from bundle import NOTICE, Predictor
from bundle.core import geometry, messages, weights_report
from bundle.errors import UserError
from bundle.intake.limits import MIB
from bundle.pictures.drawing import outside_head
from bundle.pictures.overlay import edges_of, pixel_of
from bundle.pictures.views import most_suspicious, size_of, types_of
from bundle.service.access import Allowance
from bundle.ui.launch import TITLE, settings
from bundle.ui.report_sheet import sheet
from bundle.ui.scans import EXAMPLES, Scan, example, scans_of
from bundle.ui.slice_view import show_slice
from bundle.ui.texts import evidence, limitations, rule_of, scores_of
from bundle.ui.volume_view import show_volume, viewer_arguments

SHOWN = {"no_tumor": st.info, "uncertain": st.warning, "tumor": st.error, "no_prediction": st.warning}
WRONG_S = 2.0  # until a wrong token is answered when there were too many
KEPT, KEPT_S = 4, 600  # number of cached predictions, and their lifetime in seconds
STYLE = """<style>
[data-testid="stMainBlockContainer"] { padding: 1rem 1.5rem 3rem; max-width: 1800px; }
[data-testid="stHeader"] { display: none; }
[data-testid="stImage"] img { max-height: 62vh; object-fit: contain; background: black; }
[data-testid="stTabs"] [data-testid="stImage"] img { max-height: 48vh; }
[data-testid="stAlert"] h3 { padding: 0; }
@media (min-width: 641px) { .st-key-adjust_button { display: none; } }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 0.5rem 0.75rem 2rem; }
  [data-testid="stMain"] [data-testid="stImage"] img { max-height: 42vh; }
  [data-testid="stMain"] [data-testid="stHorizontalBlock"] { gap: 1rem; }
  .st-key-adjust { display: none; }
  .st-key-adjust_opened [data-testid="stColumn"] { min-width: calc(50% - 1rem); }
}
</style>"""


@st.cache_resource(show_spinner="Loading the weights ...")
def predictor() -> Predictor:
    """The weights, loaded once for all sessions."""
    return settings().predictor()


@st.cache_resource(show_spinner="Making the example ...")
def phantom(title: str) -> Scan:
    """An example, made once for all sessions."""
    return example(title)


@st.cache_resource(show_spinner="Predicting ...", max_entries=KEPT, ttl=KEPT_S)
def predicted(sha256: str, sequence_told: str, include_uncertainty: bool, _scan: Scan) -> dict[str, Any]:
    """Predict one scan; return the prediction, its files and all planes that are shown, (1, H, W, D)."""
    model = predictor()
    with _scan.source() as source:
        image = model.read(source, sequence_told=sequence_told)
    prediction = model.infer(image, include_cam=True, include_uncertainty=include_uncertainty)
    result = dict(prediction["result"])
    names = [name for name in ("pred", "cam", "mask_deviation") if name in prediction]
    planes: dict[str, Any] = {name: np.asarray(prediction[name].as_tensor()[:1]) for name in names}
    shown = {
        "id": f"{sha256} {sequence_told} {include_uncertainty}",
        "edges": edges_of(prediction),
        "pixel_mm": pixel_of(prediction),
        "result": result,
        "pred": prediction["pred"],
        "affine": np.asarray(prediction["pred"].meta["original_affine"], dtype=np.float64),
        "files": model.files(prediction),
        "planes": {"scan": geometry.first_shown(image.as_tensor().numpy())[None], **planes},
    }
    return {**shown, "volume": viewer_arguments(shown)} if result["kind"] == "volume" else shown


def main() -> None:
    """Show the whole page."""
    st.set_page_config(page_title=TITLE, layout="wide")
    st.html(STYLE)
    st.markdown("##### Brain MRI tumor segmentation")
    st.caption(f":material/warning: **{NOTICE}** Do not use it for decisions about a patient.")
    if not authorized():
        return
    opened = any(st.session_state.get(name) for name in ("files", "folder", "example"))
    left, right = st.columns([5, 3], gap="large") if opened else (st.container(), st.container())
    said = right.container()
    with right:
        scans = inputs(opened)
    if not scans:
        introduce(left, opened)
        return
    with left:
        scan = chosen(scans)
    with right:
        samples = predictor().parts["mc_samples"]
        include_uncertainty = st.checkbox("Uncertainty", help=f"Monte-Carlo dropout, {samples} samples.")
    try:
        with left:
            prediction = predicted(scan.sha256, scan.sequence_told, include_uncertainty, scan)
    except UserError as error:
        left.error(f"{scan.name} cannot be predicted: {getattr(error, 'line', error)}.", icon=":material/block:")
        return
    with left:
        image, limits, index = view(prediction)
    with said:
        tell(scan, prediction, image, limits, index)


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


def inputs(opened: bool) -> list[Scan]:
    """Ask for scans: files, a folder or an example."""
    most = f"At most {settings().limits.request_bytes / MIB:g} MiB a scan."
    with st.expander("Open other scans", icon=":material/folder_open:") if opened else st.container():
        one, other = (st.container(), st.container()) if opened else st.columns(2)
        files = one.file_uploader(
            "Files: NIfTI, NRRD, MetaImage, DICOM, pictures",
            accept_multiple_files=True,
            key="files",
            help=f"{most} Several DICOM files are one scan, other files one scan each.",
        )
        folder = other.file_uploader(
            "or a folder, such as a DICOM series",
            accept_multiple_files="directory",
            key="folder",
            help=f"{most} The DICOM files of a folder are one scan.",
        )
        uploads = [*files, *folder]
        title = st.pills(
            "or an example",
            list(EXAMPLES),
            key="example",
            disabled=bool(uploads),
            help="Synthetic phantoms. The released weights are right on them, but for the last one.",
        )
    if uploads:
        return scans_of(((file.name, file.getvalue()) for file in uploads), predictor().parts["modalities"])
    return [phantom(title)] if title else []


def introduce(place: Any, opened: bool) -> None:
    """Say what to do, before there is a scan."""
    if opened:
        place.error("There is no scan in this folder: no NIfTI, NRRD, MetaImage, DICOM or picture file of a head.")
    place.write("Open a head scan (FLAIR), or try an example.")
    st.caption(
        "A scan is processed on this server only and stays in memory until the page is closed; nothing of it is "
        f"written to a file. The last {KEPT} predictions stay in memory for {KEPT_S // 60} minutes."
    )
    about_the_model()


def chosen(scans: list[Scan]) -> Scan:
    """Let one of several scans be chosen; of a single one show the name."""
    if len(scans) == 1:
        st.text(scans[0].name)
        return scans[0]

    def move(step: int) -> None:
        st.session_state["scan"] = (st.session_state["scan"] + step) % len(scans)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = st.selectbox(
            "Scan", range(len(scans)), key="scan", format_func=lambda i: f"{i + 1} of {len(scans)}: {scans[i].name}"
        )
        st.button("Previous", shortcut="P", on_click=move, args=(-1,))
        st.button("Next", shortcut="N", on_click=move, args=(1,))
    return scans[min(number, len(scans) - 1)]


def view(prediction: Mapping[str, Any]) -> tuple[Any, list[str], int | None]:
    """Show the scan; return the picture of the chosen slice, the limitations of the prediction and the slice."""
    result = prediction["result"]
    if result["kind"] == "image":
        return view_slice(prediction, most_suspicious(result), st.container())
    volume, one = st.tabs(["Volume", "Slice"])
    with volume:
        show_volume(prediction["volume"])
    with one:
        count, first = len(result["slice_probabilities"]), most_suspicious(result) or 0
        frame = st.container()
        index = st.slider("Slice", 0, count - 1, first, key=f"slice of {prediction['id']}")
        return view_slice(prediction, index, frame)


def view_slice(prediction: Mapping[str, Any], index: int | None, frame: Any) -> tuple[Any, list[str], int | None]:
    """Show one slice; see `view`."""
    result = prediction["result"]
    image, planes = show_slice(prediction, index, frame)
    outside = outside_head(planes["cam"], planes["scan"])
    area = (
        float((planes["pred"] > 0).sum()) * geometry.pixel_mm2(prediction["affine"])
        if result["kind"] == "volume"
        else None
    )
    return image, limitations(result, predictor().describe(), outside, area or None), index


def tell(scan: Scan, prediction: Mapping[str, Any], image: Any, limits: list[str], index: int | None) -> None:
    """Say state, probability, size and warnings; offer downloads; keep the rest one click away."""
    result = prediction["result"]
    title, sentence = messages.STATES[result["state"]]
    SHOWN[result["state"]](f"### {title}\n{sentence}")
    probability, learned = result["tumor_probability"], weights_report.learned_of(result["model"])
    if probability is not None or "classification" not in learned:
        with st.container(horizontal=True, gap="large"):
            if probability is not None:
                st.metric("Tumor probability", f"{probability:.2f}", width="content")
            if "segmentation" in learned:
                size = size_of(result)
                unknown = None if size else "The file has no pixel spacing."
                st.metric("Size of the mask", size or "unknown", width="content", help=unknown)
                for region in result.get("regions", ())[1:]:
                    st.metric(region["title"].capitalize(), size_of(region) or "unknown", width="content", help=unknown)
    if probability is not None:
        st.write(rule_of(result))
    if types := types_of(result):
        st.write(f"Type among tumors: {', '.join(types)}; not a diagnosis.")
    if "tumor_deviation" in result:
        st.write(f"Monte-Carlo dropout: standard deviation of the probability {result['tumor_deviation']:.2f}.")
    if result["flags"]:
        found = "\n".join(f"- {flag['text'][:1].upper()}{flag['text'][1:]}." for flag in result["flags"])
        st.warning(found, icon=":material/search:")
    downloads(scan, prediction, image, limits, index)
    with st.expander("Limitations of this prediction", icon=":material/rule:"):
        st.markdown("\n".join(f"- {limit}" for limit in limits))
    about_the_model()


def downloads(scan: Scan, prediction: Mapping[str, Any], image: Any, limits: list[str], index: int | None) -> None:
    """Show the download buttons; the files are named after the scan."""
    result, files = prediction["result"], prediction["files"]
    mask = next((name for name in files if name.startswith("mask.")), None)  # none if the weights learned none
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    told = {"input": scan.name, "input_sha256": scan.sha256, **result}
    offered: dict[str, tuple[str, Any]] = {
        **({"Mask": (f"{scan.stem}_{mask}", files[mask])} if mask else {}),
        "Picture": (f"{scan.stem}_overlay.png", buffer.getvalue()),
        "PDF": (f"{scan.stem}.pdf", partial(sheet, told, image, limits, index, now)),
        "JSON": (f"{scan.stem}.json", json.dumps(told, indent=1).encode()),
    }
    with st.container(horizontal=True):
        for label, (name, content) in offered.items():
            st.download_button(label, content, name, on_click="ignore", icon=":material/download:")
        wanted = scan.is_dicom and predictor().segments and st.button("Make DICOM SEG", icon=":material/build:")
    if wanted:
        try:
            with scan.source() as source:
                seg = predictor().dicom_seg(prediction, source)
            st.download_button("DICOM SEG", seg, f"{scan.stem}_seg.dcm", on_click="ignore", icon=":material/download:")
        except UserError as error:
            st.error(f"There is no DICOM SEG: {getattr(error, 'reason', error)}.")


def about_the_model() -> None:
    """Show the scores of the loaded weights, from their report."""
    described = predictor().describe()
    model = described["model"]
    with st.expander("How well these weights were tested", icon=":material/query_stats:"):
        st.markdown(scores_of(described))
        if described["scores"]:
            for kind in ("image", "volume"):
                st.markdown(f"**{kind.capitalize()}s.** " + " ".join(evidence(kind, described)))
        st.caption(f"bundle {model['version']}, weights with SHA-256 {model['sha256']}; {model['report']['text']}")


main()
