"""The network in other formats: the same predictions, of these weights and no others, from any number of slices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images
from bundle.errors import UserError
from bundle.packaging.export import export, write_triton_model
from bundle.packaging.export_formats import FORMATS
from bundle.packaging.runtimes import exported_beside, files_of, load_exported, note_beside
from bundle.predictor import Predictor
from scripts.core.files import sha256_of
from scripts.core.messages import flag
from tests.conftest import CONSTANT_OUTPUTS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released weights and their papers, where exports may be put beside them."""
    folder = tmp_path_factory.mktemp("exports") / "models"
    shutil.copytree(ROOT / "models", folder, ignore=shutil.ignore_patterns("model.*.json", "*.onnx", "*.ts", "*.pt2"))
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder, 2, seed=3)
    return sorted((folder / "yes").iterdir())[0]


SLOW = [pytest.param(name, marks=pytest.mark.session) for name in FORMATS if name not in ("ts", "onnx")]


@pytest.mark.parametrize("name", ["ts", "onnx", *SLOW])
def test_an_exported_network_predicts_like_the_original(name: str, models: Path, picture: Path) -> None:
    assert export(name, models / "model.pt") == exported_beside(models / "model.pt", name)
    note = json.loads(note_beside(exported_beside(models / "model.pt", name)).read_text())
    assert note["largest_difference"] <= 1e-4 and "torch" in note["versions"]
    with_export = Predictor(models / "model.pt", runtime=name).predict(picture)
    original = Predictor(models / "model.pt").predict(picture)
    assert abs(with_export["result"]["tumor_probability"] - original["result"]["tumor_probability"]) < 1e-4
    assert np.mean(np.asarray(with_export["pred"] != original["pred"])) < 1e-3
    assert flag("ood_score_missing") in with_export["result"]["flags"]
    with pytest.raises(UserError, match="no CAM and no uncertainty"):
        Predictor(models / "model.pt", runtime=name).predict(picture, include_cam=True)


def test_a_network_that_was_exported_from_other_weights_is_refused(models: Path, tmp_path: Path) -> None:
    export("ts", models / "model.pt")
    shutil.copytree(models, tmp_path / "models")
    note = note_beside(tmp_path / "models" / "model.ts")
    note.write_text(json.dumps({**json.loads(note.read_text()), "weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"model\.ts: exported from other weights than model\.pt; export it again"):
        Predictor(tmp_path / "models" / "model.pt", runtime="ts")


def test_a_format_that_was_not_exported_is_named_with_the_command(tmp_path: Path) -> None:
    shutil.copy(ROOT / "models" / "model.pt", tmp_path / "model.pt")
    with pytest.raises(UserError, match="python -m bundle export --format onnx"):
        Predictor(tmp_path / "model.pt", runtime="onnx")


def test_an_export_that_differs_is_not_kept(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(models, tmp_path / "models")
    monkeypatch.setattr(
        "bundle.packaging.export.open_exported", lambda name, path: lambda image: image[:, :1].repeat(1, 2, 1, 1)
    )
    with pytest.raises(UserError, match="removed, its logits differ by"):
        export("ts", tmp_path / "models" / "model.pt")
    assert not (tmp_path / "models" / "model.ts").exists()


def test_an_export_with_wrong_output_is_removed_and_others_stay(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No comparison with NaN is true; OpenVINO's weights lie under a name without a format."""
    shutil.copytree(models, tmp_path / "models")
    (tmp_path / "models" / "model.bin").write_bytes(b"of OpenVINO")

    def nonsense(image: torch.Tensor) -> torch.Tensor:
        prediction = torch.zeros(len(image), 2, *image.shape[2:])
        return prediction if len(image) > 1 else prediction * torch.nan

    monkeypatch.setattr("bundle.packaging.export.open_exported", lambda name, path: nonsense)
    monkeypatch.setattr("bundle.packaging.export.TOLERANCE", 1e9)
    with pytest.raises(UserError, match="removed, its logits differ by nan"):
        export("ts", tmp_path / "models" / "model.pt")
    assert not (tmp_path / "models" / "model.ts").exists()
    assert (tmp_path / "models" / "model.bin").read_bytes() == b"of OpenVINO"


def test_every_file_of_an_export_has_its_hash_recorded(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    for path in (weights, *files_of(exported_beside(weights, "openvino"))):
        path.write_bytes(path.suffix.encode())
    hashes = {path.name: sha256_of(path) for path in files_of(exported_beside(weights, "openvino"))}
    assert hashes.keys() == {"model.xml", "model.bin"}
    note = note_beside(exported_beside(weights, "openvino"))
    note.write_text(json.dumps({"weights_sha256": sha256_of(weights), "sha256": hashes}))
    (tmp_path / "model.bin").write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"model\.xml: changed since it was exported; export it again"):
        load_exported("openvino", weights)


@pytest.mark.session
@pytest.mark.parametrize("name", [name for name, known in FORMATS.items() if known.triton])
def test_triton_reads_its_model_repository(name: str, models: Path, tmp_path: Path) -> None:
    text_format = pytest.importorskip("google.protobuf.text_format")
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    exported = export(name, models / "model.pt")
    folder = write_triton_model(name, exported, tmp_path)
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config.ModelConfig())
    assert config.name == folder.name and list(config.input[0].dims) == [1, 256, 256]
    assert list(config.output[0].dims) == [2, 256, 256]
    assert (folder / "1" / FORMATS[name].triton.file).stat().st_size > 0
    assert (folder / "1" / "model.bin").is_file() == (name == "openvino")


def test_triton_export_accepts_weights_of_any_file_name(tmp_path: Path) -> None:
    """OpenVINO looks for the weights beside the network, under one name."""
    exported = exported_beside(tmp_path / "best.pt", "openvino")
    for path in files_of(exported):
        path.write_bytes(path.suffix.encode())
    folder = write_triton_model("openvino", exported, tmp_path / "repository")
    found = {path.name: path.read_bytes() for path in (folder / "1").iterdir()}
    assert found == {"model.xml": b".xml", "model.bin": b".bin"}


def test_a_format_without_a_backend_in_triton_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Triton has no backend for torch\.export"):
        write_triton_model("pt2", tmp_path / "model.pt2", tmp_path)


def test_the_command_exports_and_predicts(models: Path, picture: Path, tmp_path: Path) -> None:
    weights = str(models / "model.pt")
    assert main(["export", "--format", "onnx", "--model", weights]) == 0
    assert main(["predict", str(picture), "--model", weights, "--runtime", "onnx", "--output", str(tmp_path)]) == 0
    with Image.open(tmp_path / f"{picture.stem}_mask.png") as mask:
        assert mask.size == Image.open(picture).size
    said = json.loads((tmp_path / f"{picture.stem}.json").read_text())
    source = {"input": picture.name, "input_sha256": sha256_of(picture)}
    assert said == {**source, **Predictor(weights, runtime="onnx").predict(picture)["result"]}


@pytest.mark.parametrize("state", list(CONSTANT_OUTPUTS))
def test_an_exported_network_uses_the_thresholds_of_the_weights_report(
    state: str, constant_weights: dict[str, Path], picture: Path, monkeypatch: pytest.MonkeyPatch, each_slice_once: None
) -> None:
    """Thresholds and mask of the weights; each slice passes the network once."""
    passes = []

    def says(image: torch.Tensor) -> torch.Tensor:
        passes.append(len(image))
        return torch.stack([torch.full_like(image[:, 0], logit) for logit in CONSTANT_OUTPUTS[state][:2]], dim=1)

    monkeypatch.setattr("bundle.packaging.runtimes.load_exported", lambda name, weights: says)
    prediction, original = (
        Predictor(constant_weights[state], runtime=name).predict(picture) for name in ("onnx", None)
    )
    for name in ("state", "tumor_detected", "threshold", "display_threshold", "flags"):
        assert prediction["result"][name] == original["result"][name], name
    assert prediction["result"]["state"] == state
    assert torch.equal(prediction["pred"], original["pred"]) and passes == [1]
