"""The packed folder in a real MONAI Label server: a NIfTI study, a PNG study, one epoch of training, and again.

The server needs an environment of its own, see docs/how-to/other_tools.md; LABEL_PYTHON is its interpreter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import httpx2
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.loading import BUNDLE_ROOT
from bundle.packaging.pack import NAME, pack
from bundle.predictor import Predictor
from scripts.core.files import sha256_of
from scripts.core.geometry import as_displayed
from scripts.core.messages import report_note
from tests.hostile.dicoms import mr_dataset, written
from tests.other_bundles import REGIONS, REGIONS_OF_SEQUENCES, SEQUENCES, other_bundle
from tests.sessions.serving import free_port, running

PYTHON = os.environ.get("LABEL_PYTHON", "")
pytestmark = [pytest.mark.session, pytest.mark.skipif(not PYTHON, reason="needs LABEL_PYTHON, see other_tools.md")]
LONGEST_S = 600.0
OF_FILES = {"MONAI_LABEL_DATASTORE_AUTO_RELOAD": "false", "MONAI_LABEL_DATASTORE_FILE_EXT": '["*.nii.gz", "*.png"]'}
DICOMWEB_PLUGIN = [str(path) for path in Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so")]
SERIES, REFERENCES = "1.2.3.10", {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """volume.nii.gz and picture.png, side by side, which no weights have seen."""
    place, folder = tmp_path_factory.mktemp("phantoms"), tmp_path_factory.mktemp("studies")
    write_volumes(place, 1, slices=12, side=128, seed=31)
    write_images(place, 12, seed=31)
    (folder / "volume.nii.gz").write_bytes(next(place.rglob("*_flair.nii.gz")).read_bytes())
    predictor = Predictor()
    drawn = next(path for path in sorted((place / "yes").iterdir()) if predictor.predict(path)["pred"].any())
    with Image.open(drawn) as picture:
        picture.convert("L").save(folder / "picture.png")
    (place / "seg.nii.gz").write_bytes(next(place.rglob("*_seg.nii.gz")).read_bytes())
    return folder


@contextmanager
def label_server(
    place: Path, studies: str, root: Path = BUNDLE_ROOT, **environment: str
) -> Iterator[tuple[httpx2.Client, Path]]:
    """A client of a running server of a bundle, and the bundle's folder within its app."""
    port = free_port()
    command = [PYTHON, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    folder, _ = pack(place / "monaibundle" / "model", root=root)
    command = [PYTHON, "-m", "monailabel.main", "start_server", "--app", str(place / "monaibundle")]
    command += ["--studies", studies, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--conf", "models", NAME, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    path = f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}"  # dcmqi's tools lie beside the interpreter
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    environment.pop("PYTHONPATH", None)
    address = f"http://127.0.0.1:{port}"
    with (
        running(command, place, environment, f"{address}/info/"),
        httpx2.Client(base_url=address, timeout=LONGEST_S) as client,
    ):
        yield client, folder


@pytest.fixture(scope="module")
def lab(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx2.Client, Path]]:
    """A server of a folder of files."""
    with label_server(tmp_path_factory.mktemp("lab"), str(studies), **OF_FILES) as found:
        yield found


def infer(client: httpx2.Client, study: str, output: str, **wanted: Any) -> httpx2.Response:
    params = {"params": (None, json.dumps(wanted))}
    prediction = client.post(f"/infer/{NAME}", params={"image": study, "output": output}, files=params)
    assert prediction.status_code == 200, prediction.text[:500]
    return prediction


@pytest.mark.parametrize("study", ["volume", "picture"])
def test_the_class_is_in_the_params(lab: tuple[httpx2.Client, Path], studies: Path, study: str) -> None:
    said = infer(lab[0], study, "json").json()
    expected = Predictor().predict(next(studies.glob(f"{study}.*")))["result"]
    assert said["tumor_probability"] == pytest.approx(expected["tumor_probability"], abs=1e-3)
    assert said["state"] == expected["state"] and said["notice"] == expected["notice"]


def test_a_volumes_label_is_on_its_grid(lab: tuple[httpx2.Client, Path], studies: Path) -> None:
    content = infer(lab[0], "volume", "image", result_extension=".nii.gz", result_dtype="uint8").content
    (studies.parent / "label.nii.gz").write_bytes(content)
    label, scan = nib.load(studies.parent / "label.nii.gz"), nib.load(studies / "volume.nii.gz")
    drawn, expected = np.asarray(label.dataobj), Predictor().predict(studies / "volume.nii.gz")["pred"][0].numpy()
    assert drawn.shape == scan.shape and np.allclose(label.affine, scan.affine, atol=1e-3)
    assert 2 * np.sum((drawn > 0) & (expected > 0)) / max(1, np.sum(drawn > 0) + np.sum(expected > 0)) > 0.99


def test_a_pictures_label_is_a_picture_of_its_size(lab: tuple[httpx2.Client, Path], studies: Path) -> None:
    content = infer(lab[0], "picture", "image", result_extension=".png", result_dtype="uint8").content
    with Image.open(BytesIO(content)) as label, Image.open(studies / "picture.png") as picture:
        assert label.size == picture.size
        drawn = np.asarray(label) > 0
    expected = Predictor().predict(studies / "picture.png")["pred"][0, ..., 0].numpy() > 0
    assert expected.any() and 2 * np.sum(drawn & expected) / (np.sum(drawn) + np.sum(expected)) > 0.99


def test_the_app_trains_on_a_label_and_predicts_again(lab: tuple[httpx2.Client, Path], studies: Path) -> None:
    client, folder = lab
    before = sha256_of(folder / "models" / "model.pt")
    label = infer(client, "volume", "image", result_extension=".nii.gz", result_dtype="uint8").content
    sent = {"params": (None, "{}"), "label": ("volume.nii.gz", label)}
    assert client.put("/datastore/label", params={"image": "volume", "tag": "final"}, files=sent).status_code == 200
    wanted = {"max_epochs": 1, "val_split": 0, "multi_gpu": False, "device": "cpu", "tracking": "None"}
    done = client.post(f"/train/{NAME}", params={"run_sync": "true"}, json=wanted)
    assert done.status_code == 200, done.text[:500]
    assert sha256_of(folder / "models" / "model.pt") != before
    assert infer(client, "volume", "json").json()["model"]["report"] == report_note("of_other_weights")


def test_a_study_of_four_sequences_gets_the_codes_of_its_regions(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file of four axes, as MONAI Label has one file for a study; the weights are untrained."""
    write_volumes(tmp_path / "brats", 1, slices=12, side=128, seed=31, modalities=SEQUENCES)
    images = [nib.load(next((tmp_path / "brats").rglob(f"*_{name}.nii.gz"))) for name in SEQUENCES]
    channels = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    (tmp_path / "studies").mkdir()
    nib.save(nib.Nifti1Image(channels, images[0].affine), tmp_path / "studies" / "case.nii.gz")
    root = other_bundle(tmp_path / "bundle", REGIONS_OF_SEQUENCES)
    place = tmp_path_factory.mktemp("lab_of_regions")
    with label_server(place, str(tmp_path / "studies"), root, **OF_FILES) as (client, folder):
        said = infer(client, "case", "json").json()
        content = infer(client, "case", "image", result_extension=".nii.gz", result_dtype="uint8").content
    expected = Predictor(folder / "models" / "model.pt", root=folder).predict(tmp_path / "studies" / "case.nii.gz")
    assert said["regions"] == expected["result"]["regions"] and len(said["regions"]) == len(REGIONS)
    assert said["tumor_probability"] == pytest.approx(expected["result"]["tumor_probability"], abs=1e-3)
    (tmp_path / "label.nii.gz").write_bytes(content)
    label: Any = nib.load(tmp_path / "label.nii.gz")
    drawn = np.asarray(label.dataobj)
    assert drawn.shape == channels.shape[:3] and np.allclose(label.affine, images[0].affine, atol=1e-3)
    assert np.mean(drawn == expected["pred"][0].numpy()) > 0.999


def test_the_app_offers_strategies_of_active_learning(lab: tuple[httpx2.Client, Path]) -> None:
    client, _ = lab
    strategies = client.get("/info/").json()["strategies"]
    assert "random" in strategies
    prediction = client.post("/activelearning/random", json={})
    assert prediction.status_code == 200 and prediction.json()["id"] == "picture"  # the volume is labeled


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a DICOM series."""
    place = tmp_path_factory.mktemp("series")
    write_volumes(place / "brats", 1, slices=12, side=160, seed=5)
    image = nib.load(next(place.rglob("*_flair.nii.gz")))
    volume = as_displayed(np.asarray(image.dataobj), image.affine)
    (place / "dicom").mkdir()
    for index in range(volume.shape[2]):
        plane = np.ascontiguousarray(volume[:, :, index]).astype(np.uint16)
        changes = {**REFERENCES, "Modality": "MR", "InstanceNumber": index + 1, "PixelSpacing": [1.0, 1.0]}
        data = written(mr_dataset(plane, position=index * 3.0, series=SERIES, **changes))
        (place / "dicom" / f"{index}.dcm").write_bytes(data)
    return place / "dicom"


@pytest.fixture(scope="module")
def archive(series: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A DICOMweb address at which the series lies."""
    place, port = tmp_path_factory.mktemp("archive"), free_port()
    settings = {"StorageDirectory": str(place / "storage"), "IndexDirectory": str(place / "storage")}
    settings |= {"HttpPort": port, "DicomServerEnabled": False, "AuthenticationEnabled": False}
    settings |= {"Plugins": list(DICOMWEB_PLUGIN), "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    (place / "orthanc.json").write_text(json.dumps(settings))
    address = f"http://127.0.0.1:{port}"
    with running(["Orthanc", str(place / "orthanc.json")], place, dict(os.environ), f"{address}/system"):
        for file in series.iterdir():
            httpx2.post(f"{address}/instances", content=file.read_bytes()).raise_for_status()
        yield f"{address}/dicom-web"


@pytest.mark.skipif(not shutil.which("Orthanc"), reason="needs Debian's orthanc and orthanc-dicomweb")
def test_a_series_behind_dicomweb_is_predicted_by_a_dicom_seg(
    archive: str, series: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, only = tmp_path_factory.mktemp("lab"), {"MONAI_LABEL_DICOMWEB_SEARCH_FILTER": '{"Modality":"MR"}'}
    with label_server(place, archive, MONAI_LABEL_DICOMWEB_CACHE_PATH=str(place / "cache"), **only) as (client, _):
        said = infer(client, SERIES, "json").json()
        content = infer(client, SERIES, "dicom_seg", label_info=[{"name": "tumor"}]).content
    expected = Predictor().predict(series)
    assert said["tumor_probability"] == pytest.approx(expected["result"]["tumor_probability"], abs=1e-3)
    (place / "seg.dcm").write_bytes(content)
    found = highdicom.seg.segread(place / "seg.dcm")
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    assert found.pixel_array.sum() == pytest.approx(float(expected["pred"].sum()), rel=1e-2)
