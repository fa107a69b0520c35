"""Left and right: the patient's left is at the right side of every picture, and letters say so."""

from __future__ import annotations

import gzip
import io
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread

from bundle import Predictor
from bundle.datasets.phantoms import write_volumes
from bundle.pictures.drawing import MASK_COLOR
from bundle.pictures.overlay import HEAD, SIDE, edges_of, overlay_png, pixel_of
from bundle.pictures.views import most_suspicious
from bundle.ui.picture import picture_of, upright_planes
from bundle.ui.report_sheet import sheet
from bundle.ui.scans import EXAMPLES, Scan
from bundle.ui.volume_view import edge_of, start_of, viewer_arguments
from tests.hostile.dicoms import mr_dataset, written

SHAPE, LEFT = (40, 48, 12), slice(6, 12)  # of R, A, S; the tumor's place along R
RESULT = {
    **{"kind": "volume", "state": "tumor", "threshold": 0.5, "flags": [], "volume_ml": 1.0, "tumor_probability": 0.9},
    **{"input": "x", "input_sha256": "f", "model": {"version": "1", "sha256": "0", "report": {"text": "none"}}},
}


def prediction(codes: str = "RAS", sides_known: bool = True) -> dict[str, Any]:
    """A head with a tumor at its left, in a file of these axes."""
    scan, mask = np.zeros(SHAPE), np.zeros(SHAPE)
    scan[4:-4, 4:-4] = np.linspace(0.5, 1, SHAPE[1] - 8)[:, None]
    mask[LEFT, 20:28, 5:8] = 1
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    world = np.diag([1.0, 1.0, 4.0, 1.0])
    world[:3, 3] = [-20, -24, -20]
    axis = next(number for number, code in enumerate(codes) if code in "SI")
    turned = {name: nib.orientations.apply_orientation(of, turn)[None] for name, of in (("scan", scan), ("pred", mask))}
    probabilities = [0.9 if number == (6 if codes[axis] == "S" else 5) else 0.1 for number in range(SHAPE[2])]
    return {
        **{"id": "x", "edges": ("R", "L") if sides_known else (), "pixel_mm": (1.0, 1.0), "files": {"cam.nii.gz": b""}},
        "result": {**RESULT, "slice_axis": axis, "slice_probabilities": probabilities},
        "affine": world @ nib.orientations.inv_ornt_aff(turn, SHAPE),
        "planes": {**turned, "cam": turned["pred"]},
    }


def orange_column(image: Image.Image) -> float:
    """Where the mask's edge is, 0 at the left and 1 at the right."""
    found = np.abs(np.asarray(image.convert("RGB")).astype(int) - MASK_COLOR).sum(axis=2) < 60
    return float(np.argwhere(found)[:, 1].mean()) / image.width


AXES = st.permutations(["RL", "AP", "SI"]).flatmap(lambda pairs: st.tuples(*map(st.sampled_from, pairs)).map("".join))


@settings(deadline=None, max_examples=24)
@given(codes=AXES)
def test_a_tumor_at_the_left_is_drawn_at_the_right_for_any_axes_of_the_file(codes: str) -> None:
    shown = prediction(codes)
    index = shown["result"]["slice_probabilities"].index(0.9)
    image = picture_of(shown, upright_planes(shown, index), 0.2, 0.0)
    assert image.size == (640, 768) and orange_column(image) == pytest.approx(1 - 9 / 40, abs=0.03)
    start = np.array([*viewer_arguments(shown)["start_mm"], 1])
    assert start[0] < -5, "RAS+: the left is negative"
    assert (np.linalg.inv(shown["affine"]) @ start)[shown["result"]["slice_axis"]] == pytest.approx(index)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "SLA"])
def test_letters_name_the_sides_where_the_file_tells_them(codes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for known, letters in ((True, ["R", "L"]), (False, [])):
        written: list[tuple[int, str]] = []
        monkeypatch.setattr("bundle.ui.picture.text", lambda _, letter, at, *__: written.append((at[0], letter)))  # noqa: B023
        shown = prediction(codes, known)
        picture_of(shown, upright_planes(shown, 6), 0.2, 0.0)
        assert [letter for _, letter in sorted(written)] == letters
        assert viewer_arguments(shown)["sides_known"] is known


def drawn_sheet(result: dict[str, Any], image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    """The page of the PDF as a picture."""
    from matplotlib.figure import Figure

    drawn, original = io.BytesIO(), Figure.savefig
    save = "matplotlib.figure.Figure.savefig"
    monkeypatch.setattr("bundle.ui.report_sheet.FIXED", {})
    monkeypatch.setattr(save, lambda figure, *_, **__: original(figure, drawn, format="png", dpi=80))
    sheet(result, image, [], 6, "2026-11-30")
    return Image.open(drawn).convert("RGB")


def test_the_pdf_shows_the_picture_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = prediction()
    image = picture_of(shown, upright_planes(shown, 6), 0.2, 0.0)
    page = drawn_sheet(shown["result"], image, monkeypatch)
    width = page.width * 0.84 * 0.42 * 11.69 / (0.84 * 8.27) * 640 / 768  # of the picture, in the middle of the page
    assert (orange_column(page) - 0.5) * page.width / width + 0.5 == pytest.approx(1 - 9 / 40, abs=0.04)


def test_a_volume_opens_in_the_largest_part_of_the_mask() -> None:
    mask = np.zeros((10, 10, 4), dtype=bool)
    mask[1:3, 1:3, 1] = mask[5:9, 4:9, 1] = True
    result = {"slice_axis": 2, "slice_probabilities": [0.1, 0.9, 0.2, 0.1]}
    assert tuple(start_of(result, mask)) in {(6, 6, 1), (7, 6, 1)}
    assert start_of({**result, "slice_probabilities": [0.1, 0.2, 0.2, 0.9]}, mask)[2] == 1, "no mask in slice 3"
    assert start_of(result, np.zeros_like(mask))[2] == 1
    assert edge_of(mask, 2)[5:9, 4:9, 1].sum() == 14 and edge_of(mask, 2).sum() == 18


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scan, float]:
    """A phantom as a DICOM series, and where its tumor is along x, LPS+ mm (the left is positive)."""
    folder = write_volumes(tmp_path_factory.mktemp("phantom"), 1, slices=24, seed=EXAMPLES["Volume with a tumor"][1])[0]
    scan, reference = (
        np.asarray(nib.load(folder / f"{folder.name}_{name}.nii.gz").dataobj) for name in ("flair", "seg")
    )
    middle = scan.shape[0] / 2
    at = {"PixelSpacing": [1.0, 1.0], "StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
    slices = [  # columns run to the left, rows to the back
        mr_dataset(plane.T.astype(np.uint16), 5.0 * z, ImagePositionPatient=[-middle, -middle, 5.0 * z], **at)
        for z, plane in enumerate(np.moveaxis(scan, 2, 0)[6:14], 6)
    ]
    return Scan("series", tuple(map(written, slices))), float(np.argwhere(reference)[:, 0].mean() - middle)


def test_a_predicted_tumor_at_the_left_is_at_the_left_everywhere(
    series: tuple[Scan, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the released weights: in the slice of the page, the PDF, the overlay, NiiVue's volumes and the DICOM SEG."""
    scan, left_mm = series
    assert left_mm > 10
    predictor = Predictor()
    with scan.source() as source:
        found = predictor.predict(source, include_cam=True)
        seg = dcmread(io.BytesIO(predictor.dicom_seg(found, source)))
    affine = np.asarray(found["pred"].meta["original_affine"], dtype=np.float64)
    shown = {
        **{"id": "x", "edges": edges_of(found), "pixel_mm": pixel_of(found), "affine": affine},
        **{"result": found["result"], "files": predictor.files(found)},
        "planes": {name: np.asarray(found[name].as_tensor()[:1]) for name in ("scan", "pred", "cam")},
    }
    index = most_suspicious(found["result"])
    image = picture_of(shown, upright_planes(shown, index), 0.2, 0.0)
    assert shown["edges"] == ("R", "L") and orange_column(image) > 0.55
    told = {**found["result"], "input": "x", "input_sha256": "f"}
    assert orange_column(drawn_sheet(told, image, monkeypatch)) > 0.52
    large = Image.open(io.BytesIO(overlay_png(found))).crop((0, 0, SIDE, HEAD + SIDE))
    assert orange_column(large) > 0.55
    viewed = viewer_arguments(shown)
    for name in ("mask", "edge"):
        volume: Any = nib.Nifti1Image.from_bytes(gzip.decompress(viewed[name]))
        place = volume.affine @ [*np.argwhere(np.asarray(volume.dataobj)).mean(axis=0), 1]
        assert -place[0] == pytest.approx(left_mm, abs=8), "NIfTI is RAS+"
    assert -viewed["start_mm"][0] == pytest.approx(left_mm, abs=8) and viewed["sides_known"]
    assert seg_place_mm(seg)[0] == pytest.approx(left_mm, abs=8)


def seg_place_mm(seg: Any) -> np.ndarray:
    """The middle of a DICOM SEG's mask, LPS+ mm, by the orientation and the positions of its frames."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    planes, places = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns), []
    for plane, frame in zip(planes, seg.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.argwhere(plane).T
        places.append(corner + np.outer(columns * column_mm, across) + np.outer(rows * row_mm, down))
    return np.concatenate(places).mean(axis=0)


def test_a_dicom_seg_has_the_mask_at_the_patients_left() -> None:
    """By the orientation and the positions of its own frames, in LPS+: the left is positive."""
    pixels = np.tile(np.linspace(0, 900, 64), (64, 1)).astype(np.uint16)
    references = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
    slices = [
        mr_dataset(pixels, 3.0 * number, ImagePositionPatient=[-40, -40, 3.0 * number], **references)
        for number in range(4)
    ]
    scan, predictor = Scan("series", tuple(written(slice_) for slice_ in slices)), Predictor()
    with scan.source() as source:
        found = predictor.predict(source)
        mask = found["pred"]
        mask[:] = 0
        mask[0, 20:24, 40:50, 2] = 1  # row, column, slice
        found_seg = dcmread(io.BytesIO(predictor.dicom_seg(found, source)))
    left_mm = -(mask.meta["original_affine"] @ [21.5, 44.5, 2, 1])[0]  # RAS+ to LPS+
    assert left_mm == pytest.approx(-40 + 1.25 * 44.5) and left_mm > 0
    assert seg_place_mm(found_seg) == pytest.approx([left_mm, -40 + 1.5 * 21.5, 6.0])
