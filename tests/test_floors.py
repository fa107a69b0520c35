"""Versions below which something we rely on is broken or unsafe."""

from __future__ import annotations

from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

FLOORS = {"monai": "1.6.1", "torch": "2.13", "pillow": "12.3.0", "imagehash": "4.3.2"}
DISTRIBUTION = "brain-mri-tumor-segmentation-classification"


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_installed_and_required_versions_are_not_below_the_floor(package: str) -> None:
    floor = Version(FLOORS[package])
    assert Version(version(package)) >= floor
    wanted = {r.name.lower(): r for r in map(Requirement, requires(DISTRIBUTION) or []) if r.marker is None}
    assert any(Version(s.version) >= floor for s in wanted[package].specifier if s.operator == ">=")


def test_metadata_names_this_version_and_every_package_that_components_import() -> None:
    import json
    from pathlib import Path

    root = Path(__file__).resolve().parent.parent
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    assert metadata["version"] == version(DISTRIBUTION) and metadata["version"] in metadata["changelog"]
    assert f"## {metadata['version']}" in (root / "CHANGELOG.md").read_text()
    assert {"scipy", "scikit-learn", "imagehash", "pillow", "matplotlib", "joblib"} <= {
        *metadata["required_packages_version"]
    }
