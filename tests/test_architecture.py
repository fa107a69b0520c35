"""The rules of the house, read off the code itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted([*(ROOT / "scripts").rglob("*.py"), *(ROOT / "bundle").rglob("*.py")])
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
OVERLAYS = {
    "stage2_classification.yaml",
    "stage3_joint.yaml",
    "multi_gpu_train.yaml",
    "several_processes.yaml",
    "gpu_train.yaml",
}
ROOMS = {  # what each room of the components may import of the others
    "core": set(),
    "dicom": {"core"},
    "io": {"core", "dicom"},
    "transforms": {"core"},
    "dataset": {"core", "io", "transforms"},
    "networks": {"core", "transforms"},
    "inference": {"core", "networks", "transforms"},
    "training": {"core", "dataset", "networks", "transforms"},
    "evaluation": {"core", "dataset", "inference", "io", "networks"},
    "audit": {"core", "dataset", "evaluation", "inference", "io", "networks", "transforms"},
}
FORBIDDEN = {"pickle", "marshal", "shelve", "eval", "exec", "extractall", "mktemp"}


def imports_of(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere, with "." for its own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add("." if node.level else str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_components_and_application_share_only_configs_and_core(path: Path) -> None:
    if path == ROOT / "bundle" / "core" / "__init__.py":  # loads `scripts/core`; for type checkers it names it, too
        return
    other = "bundle" if path.is_relative_to(ROOT / "scripts") else "scripts"
    assert other not in imports_of(path)


def rooms_imported(path: Path) -> set[str]:
    """Other rooms of `scripts` that a module imports from."""
    froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {str(node.module).split(".")[0] for node in froms if node.level == 2}


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*/*.py")), ids=lambda path: "/".join(path.parts[-2:]))
def test_each_room_imports_only_the_rooms_below_it(path: Path) -> None:
    assert rooms_imported(path) <= ROOMS[path.parent.name]


def test_every_room_has_a_docstring_and_at_most_16_files() -> None:
    rooms = {path for path in (ROOT / "scripts").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {path.name for path in rooms} == set(ROOMS)
    assert not set(ROOMS) & {"data", "eval"}, "tools that copy bundles leave out folders of these names"
    assert {path.name for path in (ROOT / "scripts").glob("*.py")} == {"__init__.py"}
    for room in [
        *rooms,
        ROOT / "bundle",
        ROOT / "benchmarks",
        *(path.parent for path in (ROOT / "bundle").glob("*/__init__.py")),
    ]:
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room
        assert len(list(room.glob("*.py"))) <= 16, room


def test_test_files_have_unique_names() -> None:
    """Pytest imports test files by their names, in whatever folder they are."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert max(names.values()) == 1, names.most_common(1)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_pickle_and_no_eval(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | imports_of(path)
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & (FORBIDDEN - {"eval"}), "use weights_only loading, JSON, or arrays without objects"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert called not in ("eval", "exec", "yaml.load"), f"{called} in line {call.lineno}"
        assert keywords.get("allow_pickle", "False") == "False"
        if called.endswith("torch.load"):
            assert keywords.get("weights_only") == "True", f"line {call.lineno}"


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((ROOT / "benchmarks").glob("*.py"))], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_files_have_fewer_than_310_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 310


def test_inference_needs_only_packages_of_monai_deploy() -> None:
    """Its environment has MONAI, torch, numpy, nibabel, scipy and Pillow; nothing of training or evaluation."""
    code = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ignite", "imagehash", "itk", "joblib", "matplotlib", "sklearn", "tqdm"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from bundle.loading import parse
parts = ["loaded", "preprocessing", "inferer", "extended_network", "postprocessing"]
parts += ["dicom_segmentation", "dicom_report"]
assert set(parse("inference.yaml", parts)) == set(parts)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_importing_the_application_does_not_import_torch() -> None:
    code = "import sys, bundle, bundle.command_line.cli; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def values_of(node: Any) -> Iterator[Any]:
    """Every value in a config, at any depth."""
    if isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from values_of(value)
    else:
        yield node


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_stay_short_and_hold_no_logic(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= (40 if path.name in OVERLAYS else 250)
    for value in values_of(yaml.safe_load(path.read_text())):
        if isinstance(value, str) and value.startswith("$"):
            assert len(value) <= 80, value
            assert not re.search(r"lambda .*(if|for) ", value), value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_components_come_from_known_packages(path: Path) -> None:
    for target in re.findall(r"_target_: ([\w.]+)", path.read_text()):
        if "." in target:
            assert target.split(".")[0] in {"scripts", "monai", "torch"}


READ_BY_MONAI = {"imports", "run", "initialize", "finalize", "training", "evaluating", "preprocessing"}
READ_BY_MONAI |= {"calibrating", "auditing", "fitting_ood_detector", "summarizing"}
READ_BY_MONAI |= {"checking", "fitting_sequences"}
READ_BY_MONAI |= {"save_execute_config", "post_transforms"}  # with --tracking; by MONAI Label
READ_BY_THE_PREDICTOR = {"extended_network", "no_tumor_bounds", "skipped"}
READ_BY_TRAININGS = {"patients", "known", "known_held_out", "taught", "untold_types"}
READ_BY_SCORING = {"robustness", "subsets"}
READ_BY_DEPLOY = {"series_read", "dicom_segmentation", "dicom_report"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_key_is_used(path: Path) -> None:
    texts = "\n".join(str(value) for config in CONFIGS for value in values_of(yaml.safe_load(config.read_text())))
    for key in yaml.safe_load(path.read_text()):
        top = key.lstrip("+").split("#")[0]
        assert (
            top in READ_BY_MONAI | READ_BY_THE_PREDICTOR | READ_BY_TRAININGS | READ_BY_SCORING | READ_BY_DEPLOY
            or f"@{top}" in texts
        ), f"nothing reads '{key}'"


def test_continuous_integration_calls_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()


ONLY_IN_CORE = (
    "file_digest",
    "x89PNG",
    "xff\\xd8\\xff",
    "stats import t",
    "stats import sem",
    "io_orientation",
    "DICM",
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_shared_code_is_only_in_the_core(path: Path) -> None:
    """Hashes, file types, Student's t and orientation: the application reaches `scripts/core` through `bundle/core`."""
    if path.parent != ROOT / "scripts" / "core":
        text = path.read_text()
        assert not [word for word in ONLY_IN_CORE if word in text]
