"""Counts against the committed ones, the roofline and the cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.clock import Measured
from benchmarks.hardware import cost, counts, gpu, roofline

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = json.loads((ROOT / "docs" / "results" / "bench.json").read_text())["rows"]
COUNTS = [row for row in COMMITTED if row["benchmark"] == "counts"]


def changed(factor: float) -> list[dict[str, Any]]:
    return [{**row, "reached": row["reached"] * factor} for row in COUNTS]


def test_a_count_that_is_worse_by_more_than_a_fifth_is_found() -> None:
    assert not counts.worse(COUNTS, COMMITTED) and not counts.worse(changed(1.19), COMMITTED)
    found = counts.worse([*changed(1.0)[1:], *changed(1.21)[:1]], COMMITTED)
    assert len(found) == 1 and COUNTS[0]["name"] in found[0]
    assert not counts.worse(changed(0.1), COMMITTED), "fewer are better"


def test_what_falls_is_worse_where_more_is_better() -> None:
    row = {"benchmark": "counts", "name": "a", "unit": "b", "direction": "at least", "reached": 10.0}
    assert counts.worse([{**row, "reached": 8.0}], [row]) and not counts.worse([{**row, "reached": 9.0}], [row])


def test_a_count_that_is_missing_on_either_side_is_found() -> None:
    new = {**COUNTS[0], "name": "of tomorrow"}
    assert counts.worse([new], COMMITTED) == ["counts: of tomorrow: not committed"]
    assert counts.worse([{**COUNTS[0], "reached": None}], COMMITTED)[0].endswith("not counted")


def test_the_check_fails_when_a_committed_row_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.__main__ import main
    from benchmarks.comparison import Benchmark

    tiny = Benchmark("counts", lambda _: {"a": lambda: lambda: 3.0}, [counts.number("a", "a", 4.0, "passes")], rounds=1)
    monkeypatch.setattr(counts, "BENCHMARKS", [tiny])
    (tmp_path / "results").mkdir()
    for committed, status in ((3.0, 0), (2.6, 0), (2.4, 1)):
        rows = [{"benchmark": "counts", "name": "a", "reached": committed}]
        (tmp_path / "results" / "bench.json").write_text(json.dumps({"rows": rows}))
        assert main(["--check", "--output", str(tmp_path)], pinned=False) == status
    assert "counts: a: 3 instead of 2.4 passes" in capsys.readouterr().out


def test_continuous_integration_compares_counts() -> None:
    assert "make bench-check" in (ROOT / ".ci" / "run").read_text()
    assert {row["unit"] for row in COUNTS}.isdisjoint({"ratio of CPU time", "CPU seconds"})
    assert {goal.name for one in counts.BENCHMARKS for goal in one.goals} == {row["name"] for row in COUNTS}


def test_operations_and_bytes_of_a_convolution_are_those_of_its_formula() -> None:
    import torch

    layer, image = torch.nn.Conv2d(2, 3, kernel_size=3, padding=1), torch.zeros(1, 2, 8, 8)
    assert counts.operations_of(layer, image) == 2 * (3 * 8 * 8) * (2 * 3 * 3)
    assert counts.bytes_of(layer, image) == 4 * (2 * 8 * 8 + 3 * 8 * 8 + 3 * 2 * 3 * 3 + 3)


def test_a_network_as_fast_as_its_roof_has_a_share_of_one() -> None:
    operations = counts.operations_of(*counts.network_of("cpu"))
    moved = counts.bytes_of(*counts.network_of("cpu"))
    found = {
        "matrix product": Measured([1.0], result=1e12),
        "copy": Measured([1.0], result=1e10),
        "cpu pass": Measured([moved / 1e10], result=1.0),
    }
    assert operations / moved < 100, "limited by its bytes"
    assert roofline.share_of("cpu")(found) == pytest.approx([1.0])


def test_the_cost_multiplies_what_was_measured_by_the_price() -> None:
    name = f"prediction of a volume of {cost.SLICES} slices"
    rows = [
        {"name": name, "reached": 3.6, "threads": 1},
        {"name": "prediction: peak memory of 64 volumes / 4", "results": {"4": 900.0, "64": 950.0}, "threads": 1},
    ]
    price = cost.prices()["core_hour_usd"]
    made = cost.section(rows)
    assert f"| prediction of 1,000 volumes of {cost.SLICES} slices | 1 | 950 | {price:g} |" in made
    assert cost.prices()["date"] in made and "| training, all stages | - | - | - |" in made


def test_the_schedule_is_that_of_the_configs() -> None:
    first = yaml.safe_load((ROOT / "configs" / "train.yaml").read_text())
    epochs, samples = cost.schedule()
    assert (epochs[0], samples[0]) == (first["max_epochs"], first["samples_per_epoch"])
    assert samples[1] == samples[2] == 2 * samples[0], "slices of both kinds"


def test_the_benchmark_of_a_gpu_measures_a_processor_too(tmp_path: Path) -> None:
    small = ["--networks", "cpu", "--batch", "2", "--rounds", "1", "--product", "64", "--samples", "4"]
    output = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--backend", "eager", *small, "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    speeds = found["networks"]["cpu"]
    assert {*speeds} == {
        f"{work}_{of}" for work in ("prediction", "training") for of in ("slices_per_s", "share_of_peak")
    }
    assert min(*speeds.values(), found["end_to_end"]["cpu"]["slices_per_s"], found["peak_tflops_bfloat16"]) > 0


def test_the_benchmark_of_a_gpu_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main([]) == 1 and "no GPU is here" in capsys.readouterr().err
