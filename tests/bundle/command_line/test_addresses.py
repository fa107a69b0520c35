"""Commands on addresses such as s3://BUCKET/SCANS, with fsspec's storage in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from bundle.command_line.cli import main
from bundle.predictor import Predictor

MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("BUNDLE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


def test_scans_are_read_from_an_address_and_predictions_written_to_one(
    synthetic: Path,
    pipeline_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = sorted((synthetic / "kaggle" / "yes").glob("*.[jJ][pP]*"))[0]
    MEMORY.pipe_file(f"/scans/mine/{picture.name}", picture.read_bytes())
    model = str(pipeline_run / "models" / "model.pt")
    command = ["predict", "memory://scans", "--output", "memory://predictions", "--model", model]
    assert main(command) == 0
    assert "1 of 1 scans predicted in memory://predictions\n" in capsys.readouterr().out

    index = json.loads(MEMORY.cat_file("/predictions/index.json"))
    (scan, entry), *_ = index["scans"].items()
    assert scan == f"memory://scans/mine/{picture.name}"
    for kind in ("json", "mask", "overlay"):
        assert MEMORY.isfile(f"/predictions/{entry[kind]}")
    rows = MEMORY.cat_file("/predictions/lesions.csv").decode().splitlines()[1:]
    assert {row.partition(",")[0] for row in rows} <= {scan}
    for name in MEMORY.find("/predictions"):
        assert str(tmp_path).encode() not in MEMORY.cat_file(name), name

    monkeypatch.setenv("BUNDLE_CACHE", str(tmp_path / "another"))  # as on another machine
    monkeypatch.setattr(Predictor, "predict", lambda *arguments, **options: pytest.fail("predicted again"))
    assert main([*command, "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["output"] == "memory://predictions" and list(out["scans"]) == [scan]


def test_results_before_an_error_are_sent(synthetic: Path, pipeline_run: Path, tmp_path: Path) -> None:
    picture = sorted((synthetic / "kaggle" / "yes").glob("*.[jJ][pP]*"))[0]
    model = str(pipeline_run / "models" / "model.pt")
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    paths = [str(picture), str(tmp_path / "broken.png")]
    assert main(["predict", *paths, "--output", "memory://predictions", "--model", model]) == 2
    assert set(json.loads(MEMORY.cat_file("/predictions/index.json"))["scans"]) == set(paths)
    assert MEMORY.isfile(f"/predictions/{picture.stem}.json")


def test_sources_keep_their_names(synthetic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (synthetic / "brats").rglob("*.nii.gz"):
        MEMORY.pipe_file(f"/data/{path.relative_to(synthetic)}", path.read_bytes())
    assert main(["check", "--json", "--volumes", "memory://data/brats", "--volumes", "own=memory://data/brats"]) in (
        0,
        2,
    )
    said = capsys.readouterr().out
    assert '"brats"' in said and '"own"' in said


@pytest.mark.parametrize("command", [["predict", "memory://nothing", "--output", "out"], ["check", "memory://nothing"]])
def test_an_address_with_nothing_is_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert capsys.readouterr().err == "error: memory://nothing: no such file or folder\n"
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(MEMORY), "pipe_file", refuse)
    assert main(["predict", __file__, "--output", "memory://predictions"]) == 2
    assert capsys.readouterr().err == "error: memory://predictions: cannot be read or written: Access Denied\n"
