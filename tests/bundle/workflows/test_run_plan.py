"""A plan trains everything once, shares what chains have in common, and continues where it stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bundle.command_line.cli import main
from bundle.errors import UserError
from bundle.reporting.collect import collect
from bundle.weights import release
from bundle.workflows import presets
from bundle.workflows.plans import Plan, Task, Variant, ablation_plan, cross_validation_plan
from bundle.workflows.presets import PRESETS
from bundle.workflows.run_plan import _settings, release_reference, run_plan
from scripts.core.files import sha256_of

ROOT = Path(__file__).resolve().parents[3]
SHORT = {"max_epochs": 1, "samples_per_epoch": 16, "batch_size": 8}
STEPS = {
    "a": {"overlays": [], "settings": SHORT},
    "b": {"overlays": ["stage3_joint.yaml"], "settings": SHORT},
    "c": {"overlays": ["stage3_joint.yaml"], "settings": {**SHORT, "shuffled_labels": 1}},
}


def plan(**variants: tuple[tuple[str, ...], int]) -> Plan:
    chains = {name: Variant(steps, seeds, name) for name, (steps, seeds) in variants.items()}
    return Plan(3, {"validation": False, "num_workers": 0}, STEPS, chains)


def test_shared_stages_are_trained_once_and_first() -> None:
    rounds = list(plan(ab=(("a", "b"), 2), ac=(("a", "c"), 1), a=(("a",), 2), c=(("c",), 1)).rounds(3))
    trained: set[str] = set()
    for tasks in rounds:
        new = [start.folder for task in tasks for start in task.starts() if start.folder not in trained]
        assert len(new) == len(set(new)), "two processes would train the same"
        trained |= set(new)
    tasks = [task for part in rounds for task in part]
    assert len(tasks) == len(set(tasks)) == 3 * (2 + 1 + 2 + 1)


def test_all_folds_of_the_first_seed_come_before_the_second_seed() -> None:
    seeds = [task.seed for part in plan(ab=(("a", "b"), 3), ac=(("a", "c"), 1)).rounds(3) for task in part]
    assert seeds == sorted(seeds) and set(seeds) == {0, 1, 2}


@pytest.mark.parametrize("steps", [("a", "missing"), ()])
def test_a_variant_with_an_unknown_step_is_refused(steps: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="names an unknown step"):
        plan(wrong=(steps, 1))


def test_the_networks_plan_trains_all_networks_alike() -> None:
    """Nothing but the network differs between the steps of a stage, which are those of the released weights."""
    shipped = ablation_plan(Path(presets.__file__).with_name("networks.yaml"))
    own = [shipped.steps[step] for step in shipped.variants["recipe"].steps]
    assert [step["settings"] for step in own] == list(PRESETS["baseline"].values())
    assert shipped.name == "networks" and ablation_plan().name == "ablations"
    for stage in ("segmentation", "head", "joint"):
        for name in (name for name in shipped.steps if name.startswith(f"{stage}_")):
            settings = shipped.steps[name]["settings"].items() - shipped.steps[stage]["settings"].items()
            assert [key.startswith("network") for key, _ in settings] == [True], name
            assert shipped.steps[name]["overlays"] == shipped.steps[stage]["overlays"]


def test_the_ablations_change_only_what_they_describe() -> None:
    """One key differs between the recipe's joint training and each of its variants."""
    shipped = ablation_plan()
    recipe = shipped.steps["joint"]["settings"]
    for name in (name for name in shipped.steps if name.startswith("joint_")):
        settings = shipped.steps[name]["settings"]
        assert len({k for k in settings | recipe if settings.get(k) != recipe.get(k)}) == 1
        assert shipped.steps[name]["overlays"] == shipped.steps["joint"]["overlays"]

    def steps_of(variant: str) -> int:
        settings = [shipped.steps[step]["settings"] for step in shipped.variants[variant].steps]
        return sum(s["max_epochs"] * s["samples_per_epoch"] for s in settings)

    assert steps_of("longer_stage_1") == steps_of("recipe"), "as many steps as all three"
    for step in ("segmentation", "head", "joint"):
        finest, ours = (shipped.steps[name]["settings"] for name in (f"finest_{step}", step))
        assert finest == {**ours, "loss#segmentation#weights": [1.0, 0.0, 0.0]}
    assert steps_of("finest_level") == steps_of("recipe")
    assert steps_of("from_scratch") == steps_of("images_only") == steps_of("recipe")
    most = {name: variant.seeds for name, variant in shipped.variants.items() if variant.seeds > 1}
    assert most == {"recipe": 2, "stage_1": 2, "longer_stage_1": 2, "finest_level": 2}


def test_cross_validation_uses_the_settings_of_its_preset() -> None:
    crossed = cross_validation_plan("quick", 9, 2)
    assert crossed.variants["recipe"].steps == ("stage1", "stage2", "stage3") and crossed.folds == 9
    assert crossed.common["validation"] is False, "no patient is spent on validation"


@pytest.fixture(scope="module")
def finished(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small plan, run to its end."""
    output = tmp_path_factory.mktemp("experiments")
    run_plan(
        plan(recipe=(("a", "b"), 1), stage_1=(("a",), 1)), output, synthetic / "brats", [str(synthetic / "kaggle")]
    )
    return output


def test_every_case_is_scored_once_by_weights_not_trained_on_it(finished: Path) -> None:
    split = json.loads((finished / "data" / "splits.json").read_text())["cases"]
    scored = []
    for fold in range(3):
        folder = finished / f"runs/fold{fold}_seed0/a+b"
        seen = set(json.loads((folder / "model.json").read_text())["trained_on"])
        cases = {
            row["case"] for row in json.loads((folder / "evaluation" / "predictions.json").read_text())["predictions"]
        }
        assert not seen & cases and len(seen) + len(cases) == len(split), "two folds train, none validates"
        scored += sorted(cases)
    assert sorted(scored) == sorted(split)


def test_the_summary_compares_on_the_same_patients(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["variants"]) == ["recipe", "stage_1"] and summary["margin"] == 0.01
    own = summary["variants"]["recipe"]["against_reference"]["dice"]
    assert own["mean_difference"] == 0.0 and own["n"] == 6
    report = json.loads((finished / "report.json").read_text())
    assert report["segmentation"]["n"] == 6 and report["classification"]["kaggle"]["n"] == 24
    assert report["decision_out_of_fold"]["image"]["fitted_on"].startswith("out-of-fold predictions: 24 images")


def test_running_again_trains_nothing(finished: Path, synthetic: Path) -> None:
    weights = {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*/model.pt")}
    predictions = {path: path.read_bytes() for path in finished.glob("runs/*/*/evaluation/predictions.json")}
    run_plan(
        plan(recipe=(("a", "b"), 1), stage_1=(("a",), 1)), finished, synthetic / "brats", [str(synthetic / "kaggle")]
    )
    assert weights == {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*/model.pt")}
    assert predictions == {path: path.read_bytes() for path in predictions} and len(predictions) == 6


def test_released_weights_are_trained_on_all_cases_and_have_cross_validated_scores(
    finished: Path, tmp_path: Path
) -> None:
    release_reference(plan(recipe=(("a", "b"), 1), stage_1=(("a",), 1)), finished, tmp_path / "models")
    report = json.loads((tmp_path / "models" / "report.json").read_text())
    scored = json.loads((finished / "report.json").read_text())
    split = json.loads((finished / "data" / "splits.json").read_text())["cases"]
    assert report["model"]["sha256"] == sha256_of(tmp_path / "models" / "model.pt")
    assert {id: entry["subset"] for id, entry in report["model"]["trained_on"].items()} == dict.fromkeys(split, "train")
    assert report["decision"] == scored["decision_out_of_fold"] and report["segmentation"] == scored["segmentation"]
    assert report["scored"].startswith("cross-validation") and "decision_out_of_fold" not in report
    config = json.loads((finished / "runs" / "all_seed0" / "a+b" / "config.json").read_text())
    assert "subset" not in config, "the settings of the training, not those of what came after"


def test_a_single_fold_is_scored_and_its_weights_are_released(finished: Path, synthetic: Path, tmp_path: Path) -> None:
    whole = plan(recipe=(("a", "b"), 1), stage_1=(("a",), 1))
    one = replace(whole, only=(1,))
    assert {task.fold for part in one.rounds(3) for task in part} == {1}
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("tensorboard"))
    for folder in ("fold0_seed0", "fold2_seed0", "all_seed0"):
        shutil.rmtree(run / "runs" / folder, ignore_errors=True)
    run_plan(one, run, synthetic / "brats", [str(synthetic / "kaggle")])
    assert not (run / "runs" / "fold0_seed0").exists(), "only the fold that was asked for"
    release_reference(one, run, tmp_path / "models")
    report = json.loads((tmp_path / "models" / "report.json").read_text())
    split = json.loads((run / "data" / "splits.json").read_text())["cases"]
    tested = {id for id, entry in split.items() if entry["fold"] == 1}
    assert set(report["model"]["trained_on"]) == set(split) - tested
    assert report["model"]["sha256"] == sha256_of(run / "runs/fold1_seed0/a+b/model.pt")
    assert report["scored"] == "fold 1 of 3, which these weights were not trained on"
    assert {row["id"] for row in report["segmentation"]["patients"]} == {id for id in tested if id.startswith("brats")}
    assert (tmp_path / "models" / "ood_detector.npz").is_file()


@pytest.mark.parametrize("fold", [-1, 3])
def test_a_fold_that_the_split_does_not_have_is_named(fold: int) -> None:
    with pytest.raises(UserError, match=f"fold {fold}: the split has folds 0 to 2"):
        list(replace(plan(recipe=(("a",), 1)), only=(0, fold)).rounds(3))


def test_weights_trained_on_all_cases_are_released_after_some_of_the_folds(
    finished: Path, synthetic: Path, tmp_path: Path
) -> None:
    two = replace(plan(recipe=(("a", "b"), 1), stage_1=(("a",), 1)), only=(0, 2))
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("tensorboard"))
    shutil.rmtree(run / "runs" / "fold1_seed0")
    run_plan(two, run, synthetic / "brats", [str(synthetic / "kaggle")])
    release_reference(two, run, tmp_path / "models")
    report = json.loads((tmp_path / "models" / "report.json").read_text())
    split = json.loads((run / "data" / "splits.json").read_text())["cases"]
    tested = {id for id, entry in split.items() if entry["fold"] != 1}
    assert set(report["model"]["trained_on"]) == set(split), "also on those of the fold that was not tested"
    assert {row["id"] for row in report["segmentation"]["patients"]} == {id for id in tested if id.startswith("brats")}
    assert report["decision"]["image"]["fitted_on"].startswith("out-of-fold predictions: 16 images")
    assert report["scored"].startswith("2 of 3 folds: each case by weights not trained on it")
    assert not (run / "runs" / "fold1_seed0").exists()


def test_every_repetition_is_collected(finished: Path, tmp_path: Path) -> None:
    run, results = tmp_path / "run", tmp_path / "results"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "tensorboard"))
    collect(run, results)
    folder = results / "ablations"
    assert not list(folder.glob("report_seed*.json")), "there was one repetition"
    summary = json.loads((run / "summary.json").read_text())
    summary["variants"]["recipe"]["seeds"] *= 2
    (run / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"report_seed1\.json: missing, finish the run first"):
        collect(run, results)
    shutil.copy(run / "report.json", run / "report_seed1.json")
    collect(run, results)
    assert (folder / "report_seed1.json").read_text() == (folder / "report.json").read_text()


def test_audits_of_two_variants_are_not_mixed(finished: Path, tmp_path: Path) -> None:
    run, folder = tmp_path / "run", tmp_path / "results" / "ablations"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("*.pt", "tensorboard"))
    collect(run, tmp_path / "results")
    assert not (folder / "source_probes.json").exists(), "the reference alone was audited"
    audits = [run / f"runs/fold1_seed0/{chain}/evaluation/audit.json" for chain in ("a+b", "a")]
    changed = json.loads(audits[0].read_text())
    changed["source_probe"]["values"] = {"sources": {name: {"value": value} for name, value in (("x", 0.5), ("y", 1))}}
    audits[1].write_text(json.dumps(changed))
    collect(run, tmp_path / "results")
    assert (folder / "audit_fold1.json").read_text() == audits[0].read_text()
    probes = json.loads((folder / "source_probes.json").read_text())
    assert probes["stage_1"]["folds"] == {"fold1": 0.75} and probes["stage_1"]["mean"]["value"] == 0.75
    assert probes["recipe"]["folds"].keys() == {"fold0", "fold1", "fold2"} and probes["recipe"]["learned"]


def test_audited_variants_are_the_reference_or_those_that_the_plan_names() -> None:
    chains = {"recipe": (("a", "b"), 1), "stage_1": (("a",), 1)}
    assert [plan(**chains).is_audited(steps) for steps, _ in chains.values()] == [True, False]
    assert not replace(plan(**chains), audited=()).is_audited(("a", "b"))
    assert replace(plan(**chains), audited=("stage_1",)).is_audited(("a",))
    with pytest.raises(UserError, match="'audited' names 'other', which is none of the variants: recipe, stage_1"):
        replace(plan(**chains), audited=("other",))


def test_the_contrasts_change_only_the_augmentation_of_stage_3() -> None:
    shipped = ablation_plan(Path(presets.__file__).with_name("contrasts.yaml"), fold=[3, 1, 3])
    assert set(shipped.audited or ()) == set(shipped.variants), "for what the features tell about the source"
    assert shipped.only == (1, 3) and shipped.command.endswith("--fold 1 --fold 3")
    recipe = shipped.steps["joint"]["settings"]
    for name, variant in shipped.variants.items():
        assert variant.steps[:2] == ("segmentation", "head")
        settings = shipped.steps[variant.steps[2]]["settings"]
        changed = {key for key in settings | recipe if settings.get(key) != recipe.get(key)}
        assert changed <= {"style_augmentation", "random_contrast", "swapped_amplitudes"}, name


def test_a_plan_may_omit_what_the_config_has(tmp_path: Path) -> None:
    settings = _settings(Plan(3, {}, STEPS, {"recipe": Variant(("a",), 1, "")}), tmp_path, Task(0, 0, ("a",)))
    assert settings == {"dataset_dir": str(tmp_path / "data"), "fold": 0, "network_name": "cpu"}


def test_weights_that_the_configs_cannot_serve_are_not_released(finished: Path, tmp_path: Path) -> None:
    """Everything but `Predictor` reads the network's name from the config."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    inference = tmp_path / "configs" / "inference.yaml"
    inference.write_text(inference.read_text().replace("network_name: cpu", "network_name: base"))
    with pytest.raises(UserError, match=r"inference\.yaml: serves network_name base, not cpu; change it there first"):
        release(finished / "runs/fold0_seed0/a+b", {}, tmp_path / "models")
    assert not (tmp_path / "models").exists()
    command = ["crossvalidate", "--kaggle", "nowhere", "--output", str(tmp_path / "out"), "--release"]
    assert main([*command, str(tmp_path / "models")]) == 2, "before anything is trained"
    assert not (tmp_path / "out").exists()


def test_weights_of_an_unfinished_run_are_not_released(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"report\.json: missing, finish the run first"):
        release_reference(plan(recipe=(("a",), 1)), tmp_path, tmp_path / "models")


def test_another_plan_in_the_same_folder_is_refused(finished: Path, synthetic: Path) -> None:
    other = plan(recipe=(("a", "b"), 1))
    changed = Plan(3, {**other.common, "batch_size": 4}, STEPS, other.variants)
    with pytest.raises(UserError, match="other settings"):
        run_plan(changed, finished, synthetic / "brats", [str(synthetic / "kaggle")])
    wider = Plan(3, other.common, STEPS, other.variants, network="base")
    with pytest.raises(UserError, match=r"other settings \(network\)"):
        run_plan(wider, finished, synthetic / "brats", [str(synthetic / "kaggle")])


def test_a_plan_file_is_read(tmp_path: Path) -> None:
    content = {
        "folds": 4,
        "common": {},
        "reference": "x",
        "steps": STEPS,
        "variants": {"x": {"steps": ["a"], "seeds": 2, "description": "why"}},
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    read = ablation_plan(tmp_path / "plan.yaml", "base")
    assert (read.folds, read.network, read.variants["x"]) == (4, "base", Variant(("a",), 2, "why"))
    assert ablation_plan(tmp_path / "plan.yaml", seeds=5).variants["x"].seeds == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [("a: 1", "'variants' is missing"), ("- x", "list indices"), ("", "NoneType"), ("a: [", "expected")],
)
def test_an_invalid_plan_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"plan\.yaml: not a plan as .*{reason}") as caught:
        ablation_plan(tmp_path / "plan.yaml")
    assert "\n" not in str(caught.value)


def test_a_plan_without_its_reference_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reference 'recipe' is none of its variants: ab"):
        run_plan(plan(ab=(("a", "b"), 1)), tmp_path / "out", None, [])
    assert not (tmp_path / "out").exists()
