"""The packed bundle: the same bytes twice, complete, and alive without its application."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bundle import Predictor
from bundle.errors import UserError
from bundle.packaging.pack import NAME, WEIGHTS, pack
from scripts.core.files import sha256_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def own_components() -> Iterator[None]:
    """Other folders' `scripts` are loaded here; afterwards everybody finds the ones that were there before."""
    before, path = {name: module for name, module in sys.modules.items() if is_component(name)}, list(sys.path)
    yield
    for name in [name for name in sys.modules if is_component(name)]:
        del sys.modules[name]
    sys.modules.update(before)
    sys.path[:] = path


def is_component(name: str) -> bool:
    return name.split(".")[0] == "scripts"


@pytest.fixture(scope="module")
def root(pipeline_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with the weights of a short run."""
    folder = tmp_path_factory.mktemp("bundle")
    for name in ("configs", "scripts", "docs", "tests", "bundle"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    shutil.copytree(pipeline_run / "models", folder / "models")
    metadata = folder / "configs" / "metadata.json"
    noted = json.loads(metadata.read_text()) | {"weights_sha256": {WEIGHTS: sha256_of(folder / WEIGHTS)}}
    metadata.write_text(json.dumps(noted, indent=4))
    return folder


@pytest.fixture(scope="module")
def packed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return pack(tmp_path_factory.mktemp("dist"), root=root)


def test_the_bundle_itself_is_never_replaced(root: Path, tmp_path: Path) -> None:
    """A checkout may have the very name that its pack gets."""
    shutil.copytree(root, tmp_path / NAME)
    with pytest.raises(UserError, match=f"{NAME}: would replace the bundle that is packed, choose another folder"):
        pack(tmp_path, root=tmp_path / NAME)
    assert (tmp_path / NAME / WEIGHTS).is_file()


def test_an_earlier_pack_stays_until_the_next_is_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, archive = pack(tmp_path, root=root)
    before = sha256_of(archive)
    monkeypatch.setitem(sys.modules, "cyclonedx.model.bom", None)
    with pytest.raises(ImportError):
        pack(tmp_path, root=root)
    assert (folder / WEIGHTS).is_file() and sha256_of(archive) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, archive.name])


def test_two_packs_are_the_same_bytes(packed: tuple[Path, Path], root: Path, tmp_path: Path) -> None:
    assert sha256_of(pack(tmp_path, root=root)[1]) == sha256_of(packed[1])


def test_the_pack_is_complete_without_application_and_tests(packed: tuple[Path, Path]) -> None:
    folder, archive = packed
    names = zipfile.ZipFile(archive).namelist()
    assert names == sorted(names) and all(name.startswith(f"{NAME}/") for name in names)
    inside = {name.removeprefix(f"{NAME}/") for name in names}
    assert inside == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"LICENSE", WEIGHTS, "models/report.json", "docs/data_license.txt", "sbom.cdx.json"} <= inside
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").rglob("*.py")} == {
        name for name in inside if name.startswith("scripts/")
    }
    assert not any(name.startswith(("bundle/", "tests/")) for name in inside)
    assert archive.name == f"{NAME}_v{json.loads((folder / 'configs' / 'metadata.json').read_text())['version']}.zip"


def test_the_bill_of_materials_names_every_pin(packed: tuple[Path, Path]) -> None:
    bill = json.loads((packed[0] / "sbom.cdx.json").read_text())
    metadata = json.loads((packed[0] / "configs" / "metadata.json").read_text())
    pins = {part["name"]: part["version"] for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == NAME
    assert metadata["required_packages_version"].items() <= pins.items() and pins["monai"] == metadata["monai_version"]


def test_weights_may_be_downloaded_from_a_url(root: Path, tmp_path: Path) -> None:
    folder, _ = pack(tmp_path, "https://example.org/model.pt", root)
    (entry,) = yaml.safe_load((folder / "large_files.yml").read_text())["large_files"]
    assert entry == {
        "path": WEIGHTS,
        "url": "https://example.org/model.pt",
        "hash_type": "sha256",
        "hash_val": sha256_of(root / WEIGHTS),
    }
    assert not (folder / WEIGHTS).exists()


def test_missing_weights_and_those_of_another_hash_are_refused(root: Path, tmp_path: Path) -> None:
    other = shutil.copytree(root, tmp_path / "other")
    (other / WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(UserError, match=r"not the weights that configs/metadata.json names"):
        pack(tmp_path / "dist", root=other)
    (other / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"cannot be packed without models/model.pt"):
        pack(tmp_path / "dist", root=other)
    assert not (tmp_path / "dist").exists()


def test_the_pack_predicts_after_another_bundle_with_its_own_scripts(
    packed: tuple[Path, Path], root: Path, synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = synthetic / "brats" / "PHANTOM_001" / "PHANTOM_001_flair.nii.gz"
    expected = Predictor(root / WEIGHTS, root=root).predict(scan)["result"]
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("OTHER = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if is_component(name)]:
        del sys.modules[name]
    import scripts

    assert scripts.OTHER  # type: ignore[attr-defined]
    assert Predictor(packed[0] / WEIGHTS, root=packed[0]).predict(scan)["result"] == expected
