"""`python -m bundle`, as its users call it."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.command_line.cli import main
from bundle.pictures.views import scan_line
from bundle.predictor import Predictor
from scripts.core.errors import OUT_OF_MEMORY
from scripts.core.files import sha256_of
from scripts.core.messages import flag, report_note
from tests.hostile import corpus

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def model(pipeline_run: Path) -> str:
    return str(pipeline_run / "models" / "model.pt")


@pytest.fixture
def volume(synthetic: Path) -> Path:
    return synthetic / "brats" / "PHANTOM_001" / "PHANTOM_001_flair.nii.gz"


@pytest.fixture
def picture(synthetic: Path) -> Path:
    return sorted((synthetic / "kaggle" / "yes").glob("*.[jJ][pP]*"))[0]


def test_predict_a_volume_and_a_picture(volume: Path, picture: Path, model: str, tmp_path: Path) -> None:
    assert main(["predict", str(volume), str(picture), "--output", str(tmp_path), "--model", model]) == 0

    prediction = json.loads((tmp_path / "PHANTOM_001_flair.json").read_text())
    scan, mask = nib.load(volume), nib.load(tmp_path / "PHANTOM_001_flair_mask.nii.gz")
    assert mask.shape == scan.shape and np.array_equal(mask.affine, scan.affine)
    assert set(np.unique(mask.dataobj)) <= {0, 1}
    assert len(prediction["slice_probabilities"]) == scan.shape[prediction["slice_axis"]]
    assert None in prediction["slice_probabilities"], "slices without brain have no prediction"
    assert prediction["volume_ml"] == pytest.approx(np.asarray(mask.dataobj).sum() / 1000)

    prediction = json.loads((tmp_path / f"{picture.stem}.json").read_text())
    drawn = Image.open(tmp_path / f"{picture.stem}_mask.png")
    assert drawn.size == Image.open(picture).size and set(np.unique(drawn)) <= {0, 255}
    for key in ("tumor_probability", "tumor_detected", "threshold", "state", "notice"):
        assert key in prediction
    assert prediction["model"]["report"] == report_note("matching")
    assert len(prediction["model"]["sha256"]) == 64 and prediction["model"]["version"]


def test_a_bad_input_is_named_and_the_others_are_predicted(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, missing = tmp_path / "bad.png", tmp_path / "missing.png"
    bad.write_text("no picture")
    output = tmp_path / "predictions"
    code = main(["predict", str(missing), str(bad), str(picture), "--output", str(output), "--model", model])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert code == 2
    assert errors == [
        f"error: {missing}: no such file or folder; name a scan, or a folder of scans",
        f"error: {bad}: not a PNG, JPEG, TIFF, WebP, BMP, NIfTI, NRRD, MetaImage or DICOM file; "
        "convert it to NIfTI, a picture to PNG",
    ]
    assert (output / f"{picture.stem}.json").is_file()
    assert "error" in json.loads((output / "index.json").read_text())["scans"][str(bad)]


def test_a_folder_without_scans_is_named_and_the_others_are_predicted(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    output = tmp_path / "predictions"
    assert main(["predict", str(tmp_path / "empty"), str(picture), "--output", str(output), "--model", model]) == 2
    assert f"error: {tmp_path / 'empty'}: no scan here; " in capsys.readouterr().err
    assert (output / f"{picture.stem}.json").is_file()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("a defect", "internal error (RuntimeError)"),
        ("DefaultCPUAllocator: can't allocate memory", OUT_OF_MEMORY),
    ],
)
def test_an_internal_error_affects_one_scan_only(
    message: str,
    reason: str,
    picture: Path,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = shutil.copy(picture, tmp_path / "a.jpg")
    predict = Predictor.predict

    def fail(self: Predictor, scan: Path, **options: Any) -> dict[str, Any]:
        if str(scan) == str(first):
            raise RuntimeError(message)
        return predict(self, scan, **options)

    monkeypatch.setattr(Predictor, "predict", fail)
    output = tmp_path / "predictions"
    assert main(["predict", str(first), str(picture), "--output", str(output), "--model", model]) == 2
    assert f"error: {first}: {reason}" in capsys.readouterr().err.splitlines()
    assert (output / f"{picture.stem}.json").is_file()


@pytest.mark.parametrize("name", ["P#1.png", '$open("BAD", "w").png', "@output_dir.png", "%x.png"])
def test_a_file_name_is_never_run_as_code(
    name: str, picture: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configs read signs in strings: of a nested id, an expression, a reference, a macro."""
    monkeypatch.chdir(tmp_path)
    Image.open(picture).convert("L").save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(name)
    assert main(["predict", name, "--output", f"{name[0]}predictions#1", "--model", model]) == 0
    assert (tmp_path / f"{name[0]}predictions#1" / f"{Path(name).stem}.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name[0]}predictions#1"])


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("bundle.service.server")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["serve"]) == 2
    assert (
        capsys.readouterr().err
        == "error: serve needs the package uvicorn, which is not installed; pip install -e '.[app]'\n"
    )


def test_two_inputs_with_the_same_stem_keep_their_extensions(picture: Path, model: str, tmp_path: Path) -> None:
    Image.open(picture).convert("L").save(tmp_path / "Y92.png")
    Image.open(picture).convert("RGB").save(tmp_path / "Y92.jpg")
    scans = [str(tmp_path / "Y92.jpg"), str(tmp_path / "Y92.png")]
    output = tmp_path / "predictions"
    assert main(["predict", *scans, "--output", str(output), "--model", model]) == 0
    index = json.loads((output / "index.json").read_text())["scans"]
    for scan in scans:
        name, state = Path(scan).name, index[scan].pop("state")
        beside = {"mask": f"{name}_mask.png", "overlay": f"{name}_overlay.png"}
        assert index[scan] == {"json": f"{name}.json", **beside}
        assert state == json.loads((output / index[scan]["json"]).read_text())["state"]
        assert (output / index[scan]["mask"]).is_file()


def test_nothing_is_overwritten_without_the_option(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(picture), "--output", str(tmp_path), "--model", model]
    prediction = tmp_path / f"{picture.stem}.json"
    prediction.write_text("{}")
    assert main(command) == 2
    assert f"{prediction}: exists already, of another scan" in capsys.readouterr().err
    assert prediction.read_text() == "{}"
    assert main([*command, "--overwrite"]) == 0


def test_the_same_command_again_keeps_existing_predictions(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", str(picture), "--output", str(tmp_path), "--model", model]
    assert main(command) == 0
    prediction, index = tmp_path / f"{picture.stem}.json", (tmp_path / "index.json").read_text()
    before = prediction.stat().st_mtime_ns
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    assert prediction.stat().st_mtime_ns == before and (tmp_path / "index.json").read_text() == index
    assert json.loads(capsys.readouterr().out)["scans"] == json.loads(index)["scans"]


def test_an_existing_prediction_is_kept_without_loading_a_network(picture: Path, model: str, tmp_path: Path) -> None:
    command = ["predict", str(picture), "--output", str(tmp_path / "out"), "--model", model]
    assert main(command) == 0
    code = f"""
import sys
from bundle.command_line.cli import main
code = main({command!r})
print(sorted({{"torch", "monai", "scipy.stats"}} & set(sys.modules)), code)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    line, *_, loaded = done.stdout.splitlines()
    assert picture.stem in line and loaded == "[] 0"
    (tmp_path / "out" / f"{picture.stem}_overlay.png").unlink()
    assert main(command) == 0
    assert (tmp_path / "out" / f"{picture.stem}_overlay.png").is_file()


def test_probabilities_are_on_the_grid_of_their_scan(volume: Path, picture: Path, model: str, tmp_path: Path) -> None:
    command = ["predict", str(volume), str(picture), "--output", str(tmp_path), "--model", model]
    assert main(command) == 0 and not list(tmp_path.glob("*_probability*"))
    assert main([*command, "--probabilities"]) == 0
    scan = nib.load(volume)
    found, mask = (nib.load(tmp_path / f"PHANTOM_001_flair_{kind}.nii.gz") for kind in ("probability", "mask"))
    assert found.shape == scan.shape and np.array_equal(found.affine, scan.affine)
    for form in ("sform_code", "qform_code", "xyzt_units"):
        assert found.header[form] == scan.header[form]
    values = found.get_fdata()
    assert 0 <= values.min() < values.max() <= 1
    assert (values[np.asarray(mask.dataobj) > 0] >= 0.5 - 1 / 255).all()
    with Image.open(tmp_path / f"{picture.stem}_probability.png") as image:
        assert image.mode == "L" and image.size == Image.open(picture).size
    index = json.loads((tmp_path / "index.json").read_text())["scans"]
    assert index[str(picture)]["probability"] == f"{picture.stem}_probability.png"


def test_a_moved_operating_point_is_told_with_the_one_before(
    volume: Path, constant_weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The probability is 0.40, the operating point of the weights 0.1."""
    command = ["predict", str(volume), "--output", str(tmp_path / "a"), "--model", str(constant_weights["tumor"])]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("tumor ")
    before = json.loads((tmp_path / "a" / "PHANTOM_001_flair.json").read_text())
    assert before["threshold"] == 0.1 and "threshold_moved_from" not in before

    assert main([*command, "--threshold", "0.5"]) == 2, "the other prediction is kept"
    assert "PHANTOM_001_flair.json: exists already, of another scan, weights or threshold" in capsys.readouterr().err
    command[3] = str(tmp_path / "b")
    assert main([*command, "--threshold", "0.5"]) == 0
    told, line, *_ = capsys.readouterr().out.splitlines()
    assert told == "operating point 0.50, moved from 0.10 (images) and 0.10 (volumes)" and line.startswith("uncertain ")
    after = json.loads((tmp_path / "b" / "PHANTOM_001_flair.json").read_text())
    assert (after["threshold"], after["threshold_moved_from"]) == (0.5, 0.1)
    assert not after["tumor_detected"] and after["tumor_probability"] == before["tumor_probability"]
    assert after["model"]["decision"] != before["model"]["decision"]


def test_another_scan_of_the_same_name_is_predicted_itself(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [tmp_path / patient / "flair.png" for patient in "AB"]
    for angle, scan in enumerate(scans):
        scan.parent.mkdir()
        Image.open(picture).convert("L").rotate(90 * angle).save(scan)
    command = ["--output", str(tmp_path / "out"), "--model", model]
    assert [main(["predict", str(scan), *command]) for scan in scans] == [0, 2]
    assert "exists already" in capsys.readouterr().err
    index = json.loads((tmp_path / "out" / "index.json").read_text())["scans"]
    assert "json" in index[str(scans[0])] and "error" in index[str(scans[1])]


def test_predictions_in_the_input_folder_are_not_scans(picture: Path, model: str, tmp_path: Path) -> None:
    shutil.copy(picture, tmp_path / "scan.jpg")
    command = ["predict", str(tmp_path), "--output", str(tmp_path / "predictions"), "--model", model]
    assert main(command) == 0 and main(command) == 0
    assert len(json.loads((tmp_path / "predictions" / "index.json").read_text())["scans"]) == 1


def test_an_unusable_device_is_one_line(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--output", str(tmp_path), "--model", model, "--device", "nonsense"]
    assert main(["predict", str(picture), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: device 'nonsense' cannot be used") and error.count("\n") == 1


def test_the_output_has_the_folder_structure_of_the_input(picture: Path, model: str, tmp_path: Path) -> None:
    for place in ("a/scan.png", "b/deep/scan.png"):
        (tmp_path / "in" / place).parent.mkdir(parents=True)
        Image.open(picture).convert("L").save(tmp_path / "in" / place)
    assert main(["predict", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--model", model]) == 0
    assert (tmp_path / "out/a/scan.json").is_file() and (tmp_path / "out/b/deep/scan_mask.png").is_file()


def test_missing_weights_are_one_line(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["predict", str(picture), "--output", str(tmp_path), "--model", str(tmp_path / "none.pt")])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "none.pt: no weights here" in error


def test_a_missing_path_is_in_the_index(picture: Path, model: str, tmp_path: Path) -> None:
    nowhere, output = str(tmp_path / "nowhere.png"), tmp_path / "predictions"
    assert main(["predict", nowhere, str(picture), "--output", str(output), "--model", model]) == 2
    index = json.loads((output / "index.json").read_text())["scans"]
    assert index[nowhere] == {"error": f"{nowhere}: no such file or folder; name a scan, or a folder of scans"}
    assert "json" in index[str(picture)]


def test_missing_paths_are_reported_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert main(["predict", *nowhere, "--output", str(tmp_path / "out"), "--model", "none.pt"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {path}: no such file or folder; name a scan, or a folder of scans" for path in nowhere
    ]
    assert not (tmp_path / "out").exists()


def test_skipped_files_are_one_line_for_each_reason(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(picture, scans / "scan.jpg")
    for name in ("a_mask.png", "b_mask.png", "c_mask.png"):
        Image.new("L", (64, 64)).save(scans / name)
    (scans / "README").write_text("About these scans.\n")
    assert main(["predict", str(scans), "--output", str(tmp_path / "out"), "--model", model]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert lines == [
        f"skipped: {scans / 'README'}: text, by its content",
        f"skipped: {scans / 'a_mask.png'} and 2 more: a mask, by its name",
    ]
    index = json.loads((tmp_path / "out" / "index.json").read_text())["scans"]
    assert sum("skipped" in entry for entry in index.values()) == 4


def test_an_empty_output_option_is_refused(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(picture), "--output", ""])
    assert "--output: is empty, name a folder" in capsys.readouterr().err


def test_a_full_disk_stops_the_run_and_keeps_predictions(
    picture: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many scans are left, they would not fit either."""
    scans = [str(shutil.copy(picture, tmp_path / f"{name}.jpg")) for name in "abc"]
    predict, asked = Predictor.predict, []

    def fill(self: Predictor, scan: str, **options: Any) -> dict[str, Any]:
        asked.append(scan)
        if scan == scans[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return predict(self, scan, **options)

    monkeypatch.setattr(Predictor, "predict", fill)
    output = tmp_path / "predictions"
    command = ["predict", *scans, "--output", str(output), "--model", model]
    assert main(command) == 2 and asked == scans[:2]
    (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert said.startswith(f"error: {output}: No space left on device; ") and "run the same command again" in said
    assert list(json.loads((output / "index.json").read_text())["scans"]) == scans[:1]
    monkeypatch.setattr(Predictor, "predict", predict)
    assert main(command) == 0
    assert list(json.loads((output / "index.json").read_text())["scans"]) == scans


def test_weights_of_another_network_are_one_line(
    picture: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model, tmp_path / "model.pt")
    arguments = ["--model", str(tmp_path / "model.pt"), "--network", "base", "--output", str(tmp_path / "out")]
    assert main(["predict", str(picture), *arguments]) == 2
    assert "weights do not fit the network" in capsys.readouterr().err


def test_an_empty_picture_gets_no_prediction(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (200, 200), 90).save(tmp_path / "gray.png")
    assert main(["predict", str(tmp_path / "gray.png"), "--output", str(tmp_path), "--model", model]) == 0
    line, count, _ = capsys.readouterr().out.splitlines()
    assert line.split() == ["no", "prediction", "-", "-", "gray", "too_little_brain"]
    assert count.startswith("0 of 1 scans predicted")
    prediction = json.loads((tmp_path / "gray.json").read_text())
    assert prediction["tumor_probability"] is None and prediction["state"] == "no_prediction"
    assert prediction["flags"] == [flag("too_little_brain")]


def test_each_slice_passes_through_the_encoder_once(
    volume: Path, model: str, tmp_path: Path, passes: list[int]
) -> None:
    """Each slice passes the encoder once."""
    assert main(["predict", str(volume), "--output", str(tmp_path), "--model", model]) == 0
    prediction = json.loads((tmp_path / "PHANTOM_001_flair.json").read_text())
    assert sum(passes) == sum(p is not None for p in prediction["slice_probabilities"])


@pytest.mark.parametrize("state", ["no_tumor", "tumor"])
def test_files_contain_the_predictors_result_with_the_weights_thresholds(
    state: str, constant_weights: dict[str, Path], volume: Path, picture: Path, tmp_path: Path
) -> None:
    """No fixed 0.3 or 0.5; a mask of the whole head or an empty one is never inverted."""
    from bundle import Predictor

    model = str(constant_weights[state])
    assert main(["predict", str(volume), str(picture), "--output", str(tmp_path), "--model", model]) == 0
    predictor = Predictor(model)
    for scan, name in ((volume, "PHANTOM_001_flair"), (picture, picture.stem)):
        prediction = predictor.predict(scan)
        said = json.loads((tmp_path / f"{name}.json").read_text())
        source = {"input": scan.name, "input_sha256": sha256_of(scan)}
        assert said == {**source, **prediction["result"]} and said["state"] == state
        ((mask, content),) = predictor.files(prediction).items()
        assert (tmp_path / f"{name}_{mask}").read_bytes() == content


def test_malformed_inputs_are_refused_in_one_line_each(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Malformed files give one line; a nox session tests all of them."""
    cases = [case for case in corpus() if case.family == "declared size"][::4]
    scans = [str(case.write(tmp_path)) for case in cases]
    assert main(["predict", *scans, "--output", str(tmp_path / "out"), "--model", model]) == 2
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert [error.split(": ")[1] for error in errors] == scans
    assert "Traceback" not in said and str(ROOT) not in said


def test_works_from_another_directory_as_a_process(picture: Path, model: str, tmp_path: Path) -> None:
    shutil.copy(picture, tmp_path / "scan.jpg")
    command = [sys.executable, "-m", "bundle", "predict", "scan.jpg", "--output", "predictions", "--model", model]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    line, *last = done.stdout.splitlines()
    prediction = json.loads((tmp_path / "predictions" / "scan.json").read_text())
    assert line.startswith(scan_line("scan", {**prediction, "flags": []}, 4))
    assert last == ["1 of 1 scans predicted in predictions", "Research use only. Not a medical device."]
    assert done.stderr == ""


def test_usage_errors_exit_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    predict = ["predict", "x.png", "--output", "o"]
    for arguments in ([], predict[:1], [*predict, "--batch-size", "0"], [*predict, "--threshold", "1.1"], ["nonsense"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pipeline", "--volumes", "a", "--images", "b", "--max_epoch", "5"], "--max_epoch: no such option; "),
        (
            ["predict", "a", "--output", "b", "--probabilites"],
            "--probabilites: no such option of python -m bundle predict",
        ),
        (["predict", "a"], "the following arguments are required: --output; "),
        (["predict", "a", "--output", ""], "--output: is empty, name a folder; "),
        (["health", "--port", "x"], "argument --port: x is not a whole number; "),
        (
            ["predict", "a", "--output", "b", "--threshold", "abc"],
            "argument --threshold: abc is not a number from 0 to",
        ),
        (
            ["predict", "a", "--output", "b", "--threshold", "nan"],
            "argument --threshold: nan is not a number from 0 to",
        ),
        (["predict", "a", "--output", "b", "--batch-size", "0"], "argument --batch-size: 0 is not a whole number"),
        (["check", ".", "--labels", "1,,2"], "argument --labels: 1,,2 is not whole numbers above zero"),
        (["predikt"], "predikt: no such command, did you mean predict?"),
        (["something"], "something: no such command, python -m bundle --help lists the commands"),
        (
            ["predict", "a", "--ouput", "b"],
            "--ouput: no such option of python -m bundle predict, did you mean --output?",
        ),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    told = capsys.readouterr()
    assert told.err.startswith(f"error: {said}") and told.err.count("\n") == 1 and not told.out
    assert told.err.endswith(("?\n", "--help lists the options\n", "--help lists the commands\n"))


def test_phantoms_are_written(tmp_path: Path) -> None:
    command = ["phantoms", "--output", str(tmp_path), "--patients", "1", "--images", "6"]
    assert main(command) == 0
    assert main([*command, "--seed", "1"]) == 2, "two sets would lie mixed in one folder"
    assert len(list(tmp_path.glob("brats/*/*_flair.nii.gz"))) == 1 and len(list(tmp_path.glob("kaggle/*/*"))) == 6
