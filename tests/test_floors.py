"""Versions below which something we rely on is broken or unsafe."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.test_setup import ROOT, SYSTEMS, in_file, locked, requirements

DISTRIBUTION, ALWAYS, EXTRAS = requirements()
FLOORS = {  # below: security advisories, or what was seen to fail
    "monai": "1.6.1",
    "torch": "2.13",
    "pillow": "12.3.0",
    "imagehash": "4.3.2",
    "pydicom": "3.0.2",
    "starlette": "1.3.1",
    "h11": "0.16",
    "python-multipart": "0.0.31",
    "streamlit": "1.53.1",
    "jinja2": "3.1.6",
}
WRITTEN = {  # by extra; "" is what is always installed
    name: {canonicalize_name(one.name): one for one in found if one.name != DISTRIBUTION}
    for name, found in {"": ALWAYS, **EXTRAS}.items()
}
DEPLOY = [
    Requirement(line)
    for line in (ROOT / "bundle" / "deploy" / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]


def floor_of(requirement: Requirement) -> Version:
    """The lowest version that a requirement allows."""
    floors = [Version(one.version) for one in requirement.specifier if one.operator in (">=", "==", "~=")]
    assert floors, f"{requirement}: has no lowest version"
    return max(floors)


@pytest.mark.parametrize("extra", sorted(WRITTEN))
def test_every_requirement_of_an_extra_has_a_floor_that_is_kept(extra: str) -> None:
    """In what is written, what is locked and what is installed."""
    for name, requirement in WRITTEN[extra].items():
        floor = max(floor_of(requirement), Version(FLOORS.get(name, "0")))
        assert floor_of(requirement) == floor, f"{requirement}: allows versions below {floor}"
        for system in SYSTEMS:
            if requirement.marker is None or requirement.marker.evaluate(system):
                assert Version(locked(system)[name]) >= floor
        if requirement.marker is None or requirement.marker.evaluate():
            assert Version(version(name)) >= floor, f"{name}: {version(name)} is installed"


def test_every_floor_is_of_a_requirement() -> None:
    assert FLOORS.keys() <= {name for found in WRITTEN.values() for name in found}


@pytest.mark.parametrize("requirement", DEPLOY, ids=str)
def test_requirements_of_the_deployed_application_are_not_below_the_floor(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    written = [floor_of(found[name]) for found in WRITTEN.values() if name in found]
    assert floor_of(requirement) >= max([*written, Version(FLOORS.get(name, "0"))])


def test_an_audit_that_looked_nothing_up_is_noticed() -> None:
    """pip-audit says "no known vulnerabilities found" when the index does not answer."""
    import noxfile

    skipped = {"name": "pillow", "skip_reason": "pillow: Dependency not found on PyPI and could not be audited"}
    looked_up = {"name": "Jinja2", "version": "3.1.6", "vulns": []}
    locked = {"pillow", "jinja2"}
    assert noxfile.not_audited(locked, {}) == locked
    assert noxfile.not_audited(locked, {"dependencies": [skipped, looked_up]}) == {"pillow"}
    assert not noxfile.not_audited({"jinja2"}, {"dependencies": [looked_up]})


def test_what_other_systems_get_is_not_audited_here() -> None:
    """pip-audit leaves it out, too."""
    import noxfile

    here, elsewhere = (f"sys_platform {sign} '{sys.platform}'" for sign in ("==", "!="))
    hashed = "\n    --hash=sha256:0"
    lines = [f"a==1 \\{hashed}", f"b==2 ; {here} \\{hashed}", f"c==3 ; {elsewhere} \\{hashed}"]
    assert noxfile.locked_here("\n".join(["# made by x==1", *lines])) == {"a", "b"}
    for file in ("torch.txt", "dev.txt"):
        found = noxfile.locked_here((ROOT / "requirements" / file).read_text())
        assert found == {one.name for one in in_file(file) if one.marker is None or one.marker.evaluate()}


def test_metadata_names_this_version_and_every_package_that_components_import() -> None:
    import json

    root = ROOT
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    assert metadata["version"] == version(DISTRIBUTION) and metadata["version"] in metadata["changelog"]
    assert f"## {metadata['version']}" in (root / "CHANGELOG.md").read_text()
    assert {"scipy", "scikit-learn", "imagehash", "pillow", "matplotlib", "joblib"} <= {
        *metadata["required_packages_version"]
    }
