"""Sessions that are too slow, or need too much, for `make test`."""

import json
from pathlib import Path
from typing import Any

import nox
from packaging.requirements import Requirement

nox.options.sessions = ["tests", "lint"]


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, in an environment of their own."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "scripts", "bundle", "benchmarks")


@nox.session
def hostile(session: nox.Session) -> None:
    """All malformed files against predictor, command line and service; malformed HTTP requests."""
    run_suite(session, "test_hostile.py")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Requests generated from the service's OpenAPI description."""
    run_suite(session, "test_fuzz.py", "schemathesis>=4.0")


@nox.session
def load(session: nox.Session) -> None:
    """64 clients and 2,000 valid and malformed requests, then 256 clients; minutes."""
    run_suite(session, "test_load.py")


@nox.session
def endurance(session: nox.Session) -> None:
    """10,000 requests, slow uploads, disconnects, restarts; half an hour."""
    run_suite(session, "test_endurance.py")


@nox.session
def survive(session: nox.Session) -> None:
    """40 kills, 40 failing writes, 12 full disks and 24 damaged checkpoints; half an hour of one core."""
    session.env["OMP_NUM_THREADS"] = "1"
    run_suite(session, "test_survive.py")


@nox.session
def finetune(session: nox.Session) -> None:
    """Fine-tuning on phantoms with another contrast, which must gain, and on unchanged ones."""
    run_suite(session, "test_finetune.py")


@nox.session
def subsets(session: nox.Session) -> None:
    """The pipeline on volumes alone, images alone and several sequences, to its end."""
    run_suite(session, "test_subsets.py")


@nox.session
def types(session: nox.Session) -> None:
    """Types of tumors, learned from synthetic images; 15 minutes of one core."""
    run_suite(session, "test_learned_types.py")


@nox.session
def panoptica(session: nox.Session) -> None:
    """Lesions and their matches as panoptica finds them, in 200 random masks."""
    session.install("-e", ".[dev]", "panoptica==2.1.7")
    session.run("pytest", "-m", "session", "tests/scripts/evaluation/test_lesion_recall.py", *session.posargs)


@nox.session
def croissant(session: nox.Session) -> None:
    """The description of the lists of cases, read by mlcroissant."""
    session.install("-e", ".[dev]", "mlcroissant==1.1.1")
    session.run("pytest", "tests/bundle/packaging/test_data_description.py", *session.posargs)


@nox.session
def exchange(session: nox.Session) -> None:
    """DICOM files to Debian's Orthanc and back; outlines as plastimatch reads them (apt install orthanc-dicomweb)."""
    session.install("-e", ".[dev]", "plastimatch==1.10.0")
    files = ("tests/bundle/exchange", "tests/scripts/dicom/test_structure_set.py")
    session.run("pytest", "-m", "session or not session", *files, *session.posargs)


@nox.session
def standalone(session: nox.Session) -> None:
    """The audit's wheel in an empty environment, without torch."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "session", "tests/audit", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The page in Debian's chromium (apt install chromium chromium-driver)."""
    run_suite(session, "test_browser.py")


@nox.session
def web(session: nox.Session) -> None:
    """The browser app in Debian's chromium, its server stopped after loading (apt install npm chromium-driver)."""
    run_suite(session, "test_web.py")


@nox.session
def exports(session: nox.Session) -> None:
    """Every export format, Triton's layout, and all model zoo checks on the packed folder."""
    session.install("-e", ".[dev]", "tritonclient", "protobuf", "grpcio")
    files = ("tests/bundle/packaging/test_export.py", "tests/bundle/packaging/test_verify.py")
    session.run("pytest", "-m", "session or not session", *files, *session.posargs)


@nox.session
def label(session: nox.Session) -> None:
    """The packed folder in a real MONAI Label server, in an environment of several GB.

    Debian's orthanc and orthanc-dicomweb, if installed, serve a study over DICOMweb.
    """
    python = environment(
        session,
        ("torch==2.13.0", "torchvision==0.28.0", "monailabel==0.8.5", "monai==1.6.1", "dcmqi"),
        ("torch==2.13.0", "torchvision==0.28.0", "pydicom<3", "dicomweb-client<0.60", "pynetdicom<3", "numpy<2"),
    )
    session.install("-e", ".[dev]")
    session.env["LABEL_PYTHON"] = python
    session.run("pytest", "-m", "session", "--timeout", "900", "tests/sessions/test_label.py", *session.posargs)


@nox.session
def deploy(session: nox.Session) -> None:
    """The application in MONAI Deploy's SDK, in an environment of several GB."""
    sdk = ("torch==2.13.0", "monai==1.6.1", "monai-deploy-app-sdk==4.0.0", "holoscan-cli<=4.2")
    python = environment(session, (*sdk, "-r", "bundle/deploy/requirements.txt"), ("torch==2.13.0",))
    session.install("-e", ".[dev]")
    session.env["DEPLOY_PYTHON"] = python
    session.run("pytest", "-m", "session", "--timeout", "900", "tests/sessions/test_deploy.py", *session.posargs)


@nox.session
def flare(session: nox.Session) -> None:
    """The federated job in NVIDIA FLARE's simulator, in an environment of several GB."""
    python = environment(session, (".", "nvflare==2.9.0"), ())
    session.run(python, "-m", "pip", "install", "--quiet", "--no-deps", "monai-nvflare==0.4.0", external=True)
    session.install("-e", ".[dev]")
    session.env["FLARE_PYTHON"] = python
    session.run("pytest", "-m", "session", "--timeout", "900", "tests/sessions/test_flare.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in site/; a dead link is an error."""
    session.install("-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def tutorial(session: nox.Session) -> None:
    """All commands and cells of the tutorials; with `-- --overwrite` the notebook's outputs are written anew."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "session", "--timeout", "1800", "tests/sessions/test_tutorial.py")
    limits = ("--timeout", "1800", "--nbmake-timeout", "1800")
    session.run("pytest", "--nbmake", *limits, "docs/tutorial/training.ipynb", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of all locked packages (needs pypi.org), and a CycloneDX file of what is installed."""
    session.install("pip-audit", "cyclonedx-bom")
    found = Path(session.create_tmp()) / "audit.json"
    files = [Path("requirements") / name for name in ("torch.txt", "dev.txt")]
    named = [word for file in files for word in ("--requirement", str(file))]
    options = ("--strict", "--require-hashes", "--disable-pip", *named, "--format", "json")
    session.run("pip-audit", *options, "--output", str(found), success_codes=[0, 1])
    locked = {name for file in files for name in locked_here(file.read_text())}
    if missing := not_audited(locked, json.loads(found.read_text()) if found.is_file() else {}):
        session.error(f"{len(missing)} of {len(locked)} packages were not audited, such as {min(missing)}")
    session.run("pip-audit", *options, silent=True)  # fails for a vulnerability
    application = ("--requirement", "requirements/torch.txt", "--requirement", "requirements/app.txt")
    python = environment(session, ("--require-hashes", *application), ())
    session.run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", ".", external=True)
    bill = Path("dist") / "installed.cdx.json"
    bill.parent.mkdir(exist_ok=True)
    session.run("cyclonedx-py", "environment", python, "--output-reproducible", "--output-file", str(bill))


@nox.session
def wheel(session: nox.Session) -> None:
    """The wheel in an empty environment, with all its requirements."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "session", "--timeout", "1800", "tests/integrations/test_wheel.py", *session.posargs)


def locked_here(text: str) -> set[str]:
    """Names in a file of locked versions, without those for other systems and Python versions."""
    wanted = [Requirement(line.partition("\\")[0]) for line in text.splitlines() if "==" in line and line[0] != "#"]
    return {one.name for one in wanted if one.marker is None or one.marker.evaluate()}


def not_audited(locked: set[str], report: dict[str, Any]) -> set[str]:
    """Locked packages without a result in pip-audit's report; it passes when it could look up none of them."""
    found = {package["name"].lower() for package in report.get("dependencies", []) if "vulns" in package}
    return {name for name in locked if name.lower() not in found}


def environment(session: nox.Session, packages: tuple[str, ...], constraints: tuple[str, ...]) -> str:
    """Make a second environment, for packages that conflict with ours; return its interpreter."""
    folder = Path(session.create_tmp()) / "other"
    python = str(folder / "bin" / "python")
    if not folder.is_dir():
        session.run("python", "-m", "venv", str(folder))
    constrained = folder / "constraints.txt"
    constrained.write_text("\n".join(constraints))
    env = {"PIP_CONSTRAINT": str(constrained.resolve()), "SAM2_BUILD_CUDA": "0"}
    session.run(python, "-m", "pip", "install", "--quiet", *packages, env=env, external=True)
    return str(Path(python).absolute())


def run_suite(session: nox.Session, name: str, *packages: str) -> None:
    """Run a slow suite in an environment of its own."""
    session.install("-e", ".[dev]", *packages)
    session.run("pytest", "-m", "session", f"tests/sessions/{name}", *session.posargs)
