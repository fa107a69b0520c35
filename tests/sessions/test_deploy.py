"""The application for MONAI Deploy in its real SDK: a study in, DICOM SEG and SR out, as the command line draws it.

The SDK needs an environment of its own, see docs/how-to/other_tools.md; DEPLOY_PYTHON is its interpreter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.datasets.phantoms import write_volumes
from bundle.packaging.export import export
from bundle.packaging.pack import pack
from bundle.predictor import Predictor
from scripts.core.geometry import as_displayed
from tests.hostile.dicoms import mr_dataset, written
from tests.other_bundles import REGIONS, REGIONS_OF_SEQUENCES, SEQUENCES, other_bundle

PYTHON = os.environ.get("DEPLOY_PYTHON", "")
pytestmark = [pytest.mark.session, pytest.mark.skipif(not PYTHON, reason="needs DEPLOY_PYTHON, see other_tools.md")]
APP = Path(__file__).resolve().parents[2] / "bundle" / "deploy" / "app.py"
WORDS = {"flair": "AX T2 FLAIR", "t1": "AX T1", "t1ce": "AX T1 +C", "t2": "AX T2"}
STUDY: dict[str, Any] = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "PixelSpacing": [1.0, 2.0]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packed bundle as a folder, and its network as model.ts."""
    folder, _ = pack(tmp_path_factory.mktemp("dist"))
    return {"folder": folder, "ts": export("ts", folder / "models" / "model.pt", root=folder)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a FLAIR series with pixels that are not square, and another series beside it."""
    place = tmp_path_factory.mktemp("study")
    write_volumes(place / "brats", 1, slices=12, side=160, seed=5)
    image = nib.load(next(place.rglob("*_flair.nii.gz")))
    volume = as_displayed(np.asarray(image.dataobj), image.affine)[:, ::2]
    (place / "dicom").mkdir()
    for index in range(volume.shape[2]):
        plane = np.ascontiguousarray(volume[:, :, index]).astype(np.uint16)
        for series, words in (("1.2.3.10", "AX T2 FLAIR"), ("1.2.3.11", "AX T1")):
            changes = {**STUDY, "SeriesDescription": words, "Modality": "MR", "InstanceNumber": index + 1}
            data = written(mr_dataset(plane, position=index * 3.0, series=series, **changes))
            (place / "dicom" / f"{series}_{index}.dcm").write_bytes(data)
    return place / "dicom"


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a study with one series of each sequence, that of the first last."""
    place = tmp_path_factory.mktemp("case")
    write_volumes(place / "brats", 1, slices=12, side=160, seed=5, modalities=SEQUENCES)
    (place / "dicom").mkdir()
    for number, name in enumerate(reversed(SEQUENCES)):
        image = nib.load(next(place.rglob(f"*_{name}.nii.gz")))
        volume = as_displayed(np.asarray(image.dataobj), image.affine)
        for index in range(volume.shape[2]):
            plane = np.ascontiguousarray(volume[:, :, index]).astype(np.uint16)
            changes = {
                **STUDY,
                "PixelSpacing": [1.0, 1.0],
                "SeriesDescription": WORDS[name],
                "InstanceNumber": index + 1,
            }
            data = written(mr_dataset(plane, position=index * 3.0, series=f"1.2.3.{20 + number}", **changes))
            (place / "dicom" / f"{name}_{index}.dcm").write_bytes(data)
    return place / "dicom"


def run(study: Path, model: Path, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f'ulimit -s 32768; exec "{PYTHON}" -W ignore "$@"', "-", str(APP)]
    command += ["-i", str(study), "-o", str(output), "-m", str(model)]
    (output.parent / "elsewhere").mkdir(exist_ok=True)
    found = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    found.pop("PYTHONPATH", None)
    return subprocess.run(
        command, cwd=output.parent / "elsewhere", env=found, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("form", ["folder", "ts"])
@pytest.mark.parametrize("slices", ["all", "one"])
def test_the_app_predicts_like_the_command_line(
    form: str, slices: str, models: dict[str, Path], study: Path, tmp_path: Path
) -> None:
    (tmp_path / "flair").mkdir()
    for file in study.glob("1.2.3.10_*.dcm" if slices == "all" else "1.2.3.10_6.dcm"):
        shutil.copy(file, tmp_path / "flair")
    done = run(study if slices == "all" else tmp_path / "flair", models[form], tmp_path / "out")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    expected = Predictor().predict(tmp_path / "flair")
    said = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert said["tumor_probability"] == pytest.approx(expected["result"]["tumor_probability"], abs=1e-4)
    assert said["volume_ml"] == pytest.approx(expected["result"]["volume_ml"], rel=1e-3)
    found = highdicom.seg.segread(tmp_path / "out" / "tumor_seg.dcm")
    drawn = found.pixel_array.reshape(-1, found.Rows, found.Columns).sum()
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.10"
    assert drawn == pytest.approx(float(expected["pred"].sum()), rel=1e-3)
    report = highdicom.sr.srread(tmp_path / "out" / "tumor_sr.dcm").to_json()
    assert said["model"]["sha256"] in report and "Probability that a tumor is shown" in report


@pytest.mark.parametrize("kept", [SEQUENCES, ["t1ce"]], ids=["all four", "one"])
def test_a_network_of_several_sequences_reads_those_of_the_study(kept: list[str], case: Path, tmp_path: Path) -> None:
    root = other_bundle(tmp_path / "bundle", REGIONS_OF_SEQUENCES)
    folder, _ = pack(tmp_path / "dist", root=root)
    (tmp_path / "study").mkdir()
    for name in kept:
        (tmp_path / "series" / name).mkdir(parents=True)
        for file in case.glob(f"{name}_*.dcm"):
            shutil.copy(file, tmp_path / "study")
            shutil.copy(file, tmp_path / "series" / name)
    done = run(tmp_path / "study", folder, tmp_path / "out")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    said = json.loads((tmp_path / "out" / "prediction.json").read_text())
    series = [tmp_path / "series" / name if name in kept else None for name in SEQUENCES]
    expected = Predictor(folder / "models" / "model.pt", root=folder).predict(series)["result"]
    shown = REGIONS if kept == SEQUENCES else REGIONS[:1]  # the whole tumor, where sequences are missing
    assert said["regions"] == expected["regions"] and [region["name"] for region in said["regions"]] == shown
    assert said.get("missing_sequences", []) == [name for name in SEQUENCES if name not in kept]
    assert said["tumor_probability"] == pytest.approx(expected["tumor_probability"], abs=1e-4)
    assert said["volume_ml"] == pytest.approx(expected["volume_ml"], rel=1e-3)
    found = highdicom.seg.segread(tmp_path / "out" / "tumor_seg.dcm")
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == f"1.2.3.{23 - SEQUENCES.index(kept[0])}"


def test_a_study_without_the_series_is_refused_in_one_line(
    models: dict[str, Path], study: Path, tmp_path: Path
) -> None:
    done = run(study, models["folder"], tmp_path / "out", SERIES_DESCRIPTION="(?i).*perfusion.*")
    assert done.returncode != 0 and not list(tmp_path.glob("out/*.dcm"))
    assert "SERIES_DESCRIPTION" in done.stdout + done.stderr


def test_a_network_of_other_weights_is_refused_in_one_line(
    models: dict[str, Path], study: Path, tmp_path: Path
) -> None:
    """Its predictions would have the hash and the thresholds of other weights."""
    shutil.copytree(models["folder"], tmp_path / "bundle")
    weights = tmp_path / "bundle" / "models" / "model.pt"
    changed = torch.load(weights, weights_only=True)
    next(iter(changed.values())).mul_(1.01)
    torch.save(changed, weights)
    done = run(study, weights.with_suffix(".ts"), tmp_path / "out")
    assert done.returncode != 0 and not list(tmp_path.glob("out/*.dcm"))
    assert "model.ts: exported from other weights" in done.stdout + done.stderr
