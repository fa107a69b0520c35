"""Pairs of files, as MONAI Label gives them: the config learns from them, and the weights go where it looks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.datasets.phantoms import write_volumes
from bundle.loading import load_workflow, suppress_monai_warnings
from scripts.core.files import sha256_of
from scripts.dataset.label_studies import Studies
from scripts.dataset.sampling import SliceDataset
from scripts.networks.weights import trained_on

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """A labeled volume and a labeled picture."""
    place = tmp_path_factory.mktemp("studies")
    write_volumes(place, 1, slices=10, side=96)
    image, label = (str(next(place.rglob(f"*_{name}.nii.gz"))) for name in ("flair", "seg"))
    tumor = np.asarray(nib.load(label).dataobj)
    k = int((tumor > 0).sum((0, 1)).argmax())
    plane = np.asarray(nib.load(image).dataobj)[:, :, k].T
    Image.fromarray((255 * plane / plane.max()).astype(np.uint8)).save(place / "picture.png")
    Image.fromarray((tumor[:, :, k].T > 0).astype(np.uint8)).save(place / "picture_label.png")
    return [
        {"image": image, "label": label},
        {"image": str(place / "picture.png"), "label": str(place / "picture_label.png")},
    ]


def studies(folder: Path) -> Studies:
    return Studies(ROOT, folder, ["flair"], 50)


def test_every_slice_of_a_study_gets_mask_and_class(pairs: list[dict[str, str]], tmp_path: Path) -> None:
    dataset = SliceDataset(pairs, tmp_path / "nowhere", studies=studies(tmp_path / "store"))
    assert dataset.of_studies and {record["case"] for record in dataset.data} == {
        "studies/PHANTOM_001_flair",
        "studies/picture",
    }
    for index, record in enumerate(dataset.data):
        item = dataset[index]
        assert item["image"].shape == (1, 256, 256) and item["mask"].shape == (1, 256, 256)
        assert np.isnan(item["cls"]) or bool(item["cls"]) == bool(item["mask"].any())
        assert record["kind"] == "volume"  # it has a mask


def test_two_studies_of_one_name_are_refused(pairs: list[dict[str, str]], tmp_path: Path) -> None:
    other = {**pairs[1], "image": str(tmp_path / "elsewhere" / "picture.png")}
    with pytest.raises(ValueError, match=r"/picture\.png and \S+/elsewhere/picture\.png: two studies of the same name"):
        studies(tmp_path / "store").records([*pairs, other])


def test_an_epoch_has_at_most_the_number_of_studies(pairs: list[dict[str, str]], store: Path, tmp_path: Path) -> None:
    dataset = SliceDataset(pairs, tmp_path / "nowhere", studies=studies(tmp_path / "store"))
    assert dataset.epoch_of(1000) == max(len(dataset), 32) and dataset.epoch_of(8) == 8
    assert SliceDataset([{"case": "a"}], store).epoch_of(1000) == 1000


def test_records_of_a_store_are_unchanged(store: Path, tmp_path: Path) -> None:
    assert not SliceDataset([{"case": "a"}], store, studies=studies(tmp_path)).of_studies
    assert not SliceDataset([], tmp_path / "nowhere", studies=studies(tmp_path)).of_studies


def test_an_unreadable_study_is_skipped_and_named(
    pairs: list[dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no")
    broken = {"image": str(tmp_path / "broken.nii.gz"), "label": str(tmp_path / "broken.nii.gz")}
    records = studies(tmp_path / "store").records([*pairs, broken])
    assert "studies/broken" not in {record["case"] for record in records} and "broken.nii.gz" in caplog.text
    with pytest.raises(ValueError, match="broken"):
        studies(tmp_path / "other").records([broken])


def test_a_labeling_tools_run_rewrites_the_bundles_weights(pairs: list[dict[str, str]], tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    for name in ("configs", "scripts", "models"):
        shutil.copytree(ROOT / name, root / name)
    before, known = sha256_of(root / "models" / "model.pt"), trained_on(root / "models" / "model.pt")
    overrides: dict[str, Any] = {"train#dataset#data": pairs[:1], "validate#dataset#data": [], "samples_per_epoch": 8}
    overrides |= {"train#trainer#max_epochs": 1, "num_workers": 0}
    made = []
    for _ in range(2):
        workflow = load_workflow(["train.yaml"], root, **overrides)
        with suppress_monai_warnings():
            workflow.initialize()
            workflow.run()
        made.append((sha256_of(root / "models" / "model.pt"), (root / "models" / "model.pt").stat().st_mtime_ns))
    (first, at), (second, later) = made
    assert first != before and first == second and at < later  # the second began anew, and learned the same
    seen = trained_on(root / "models" / "model.pt")  # the tool begins with the weights that are there
    assert known and seen.keys() == known.keys() | {"studies/PHANTOM_001_flair"}
