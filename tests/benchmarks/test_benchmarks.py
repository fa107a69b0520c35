"""The benchmarks: their statistics, a tiny one from end to end, and the page made of the committed results."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import large_data, per_volume
from benchmarks.__main__ import ALL, main
from benchmarks.clock import Measured, run_in_turns
from benchmarks.comparison import Benchmark, MissingError, Number, Ratio, holds, rows_of
from benchmarks.growth import VOLUMES, command_of, growth
from benchmarks.material import Material
from benchmarks.page import distance, page
from benchmarks.results import merged
from benchmarks.scans import predicting

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "bench.json"


def spend(seconds: float) -> None:
    """Use a processor."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def absent() -> Any:
    raise ModuleNotFoundError("No module named 'peer'", name="peer")


def unable() -> Any:
    raise MissingError("this machine has one core")


TINY = Benchmark(
    "tiny",
    lambda material: {
        "short": lambda: lambda: spend(0.01),
        "long": lambda: lambda: spend(0.03),
        "peer": absent,
        "cores": unable,
    },
    [
        Ratio("short / long", "short", "long", 0.5),
        Ratio("long / fastest", "long", ("long", "short"), 2.0, "at least"),
        Ratio("short / peer", "short", "peer", 0.5),
        Number("cores", ["cores"], lambda found: 1.0, 1.0, "cores"),
        Number("runs", ["short"], lambda found: float(len(found["short"].cpu)), 3.0, "runs"),
    ],
    rounds=3,
)


def test_a_goal_holds_in_its_direction_and_at_its_limit() -> None:
    assert holds(1.0, 1.0, "at most") and holds(1.0, 1.0, "at least")
    assert not holds(1.1, 1.0, "at most") and not holds(0.9, 1.0, "at least")


def test_a_ratio_is_taken_in_each_round_and_to_the_fastest() -> None:
    found = {"a": Measured([1.0, 3.0]), "slow": Measured([9.0, 9.0]), "fast": Measured([2.0, 2.0])}
    assert Ratio("", "a", ("slow", "fast"), 1.0).values(found) == [0.5, 1.5]


def test_each_round_runs_all_work_and_reverses_the_order() -> None:
    order: list[str] = []
    found = run_in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2)
    assert order == ["a", "b", "a", "b", "b", "a"], "the first round is not counted"
    assert [len(found[name].cpu) for name in "ab"] == [2, 2]


def test_waiting_is_no_cpu_time() -> None:
    found = run_in_turns({"wait": lambda: time.sleep(0.05)}, rounds=1)["wait"]
    assert found.wall[0] >= 0.05 > 5 * found.cpu[0]


def test_linear_growth_is_one_whatever_the_start_costs() -> None:
    def times(power: float) -> dict[str, Measured]:
        return {str(n): Measured([5.0 + n**power]) for n in VOLUMES}

    assert growth(times(1.0)) == pytest.approx(1.0)
    assert growth(times(2.0)) > 2


def test_one_more_volume_is_without_the_start_of_the_process() -> None:
    found = {"predict 4": Measured([5.0 + 4 * 3]), "predict 6": Measured([5.0 + 6 * 3])}
    assert per_volume.of_one_more("predict")(found) == pytest.approx(3.0)


def test_the_disk_of_a_volume_is_that_of_its_files(tmp_path: Path) -> None:
    material = Material(tmp_path)
    folder = per_volume.place(material, "store", 4) / "cases"
    folder.mkdir(parents=True)
    (folder / "image.npy").write_bytes(bytes(6_000_000))
    assert per_volume.sizes(material, "store", 4)()() == pytest.approx(1.5)


def test_a_step_writes_where_its_size_is_measured(tmp_path: Path) -> None:
    material = Material(tmp_path)
    material.volumes = lambda count, slices=24: tmp_path / "volumes"  # type: ignore[method-assign]
    for step, name in (("preprocess", "store"), ("predict", "predict")):
        of_step = command_of(material, step, 4, per_volume.SLICES)
        assert any(word.startswith(str(per_volume.place(material, name, 4))) for word in of_step)


def test_the_page_of_large_data_multiplies_what_was_measured() -> None:
    of = f"of a volume of {per_volume.SLICES} slices"
    rows: list[dict[str, Any]] = [
        {"name": f"store {of}", "reached": 20.0, "threads": 1},
        {"name": f"preprocessing {of}", "reached": 3.6, "threads": 1},
        {"name": f"prediction {of}", "reached": 1.0, "threads": 2},
    ]
    made = large_data.page(rows)
    assert "| the store | 20 MB | 2 TB | | 40 a month |" in made
    assert "| preprocessing | 3.6 CPU s | 100 core hours | 0.26 days | 5 |" in made
    assert "| prediction | - | - | - | - |" in made, "only of one thread"


def test_rows_have_reached_or_a_reason(tmp_path: Path) -> None:
    first, fastest, peer, cores, runs = rows_of(TINY, Material(tmp_path), threads=1, rounds=3)
    assert first["reached"] == pytest.approx(1 / 3, abs=0.1) and first["holds"] and first["rounds"] == 3
    assert first["quartiles"][0] <= first["reached"] <= first["quartiles"][1]
    assert fastest["direction"] == "at least" and fastest["holds"]
    assert (peer["reached"], peer["holds"], peer["reason"]) == (None, None, "peer is not installed")
    assert cores["reason"] == "this machine has one core"
    assert runs["reached"] == 3 and "results" not in runs


def test_a_tiny_benchmark_runs_from_end_to_end(tmp_path: Path) -> None:
    def works(material: Material) -> dict[str, Any]:
        return {"picture": lambda: predicting(material, material.picture), "nothing": lambda: lambda: spend(0.001)}

    picture = Benchmark("picture", works, [Ratio("a picture / nothing", "picture", "nothing", 1e6)])
    before = json.dumps({"rows": [{"benchmark": "gone", "threads": 1}]})
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bench.json").write_text(before)
    arguments = ["--rounds", "1", "--output", str(tmp_path)]
    assert main(arguments, [picture, TINY], pinned=False) == 0
    content = json.loads((tmp_path / "results" / "bench.json").read_text())
    assert [row["benchmark"] for row in content["rows"]] == ["picture", *["tiny"] * 5]
    assert content["rows"][0]["holds"] and content["machine"]["versions"]["torch"]
    assert (tmp_path / "BENCHMARKS.md").read_text() == page(content)
    assert (tmp_path / "images" / "benchmarks.png").stat().st_size > 0


def test_other_rows_are_kept() -> None:
    old = [{"benchmark": "a", "threads": 1, "reached": 1}, {"benchmark": "b", "threads": 1, "reached": 2}]
    new = [{"benchmark": "a", "threads": 1, "reached": 3}, {"benchmark": "a", "threads": 2, "reached": 4}]
    rows = merged({"rows": old}, new, ["b", "a"])["rows"]
    assert [(row["benchmark"], row["threads"], row["reached"]) for row in rows] == [
        ("b", 1, 2),
        ("a", 1, 3),
        ("a", 2, 4),
    ]


def test_the_distance_to_a_goal_is_below_one_where_it_holds() -> None:
    assert distance({"reached": 0.5, "goal": 1.0, "direction": "at most"}) == 0.5
    assert distance({"reached": 0.5, "goal": 1.0, "direction": "at least"}) == 2.0
    assert distance({"reached": None, "goal": 1.0, "direction": "at most"}) is None


@pytest.mark.parametrize("benchmark", ALL, ids=lambda one: one.name)
def test_goals_are_of_work_that_there_is(benchmark: Benchmark, tmp_path: Path) -> None:
    works = benchmark.works(Material(tmp_path))
    assert {name for goal in benchmark.goals for name in goal.needs} <= works.keys()
    names = [goal.name for goal in benchmark.goals]
    assert len(set(names)) == len(names) and not any("|" in name for name in names)


def test_the_pages_are_made_of_the_committed_results() -> None:
    content = json.loads(RESULTS.read_text())
    assert (ROOT / "docs" / large_data.PAGE).read_text() == large_data.page(content["rows"])
    assert (ROOT / "docs" / "BENCHMARKS.md").read_text() == page(content)
    assert {row["benchmark"] for row in content["rows"]} <= {benchmark.name for benchmark in ALL}


def test_holds_is_what_the_numbers_say() -> None:
    for row in json.loads(RESULTS.read_text())["rows"]:
        if row["reached"] is not None:
            assert row["holds"] == holds(row["reached"], row["goal"], row["direction"]), row["name"]


def test_make_bench_runs_them_and_nothing_else_imports_them() -> None:
    assert re.search(r"^bench:.*\n.*-m benchmarks", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for folder in ("bundle", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) benchmarks\b", path.read_text(), re.MULTILINE), path
