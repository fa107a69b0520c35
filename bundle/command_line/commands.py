"""The subcommands, but those of `training.py`. Modules that need torch are imported when a command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import NOTICE
from ..core import errors, weights_report
from ..errors import UserError
from ..weights import find_weights
from .options import reading
from .outcome import Outcome

if TYPE_CHECKING:
    from ..service.settings import Settings

BAD_INPUT, INTERRUPTED = errors.BAD_INPUT, errors.INTERRUPTED  # exit codes, see docs/reference/commands.md
NOT_READY, CLOSED, TERMINATED = 1, 141, 143


def predict(options: argparse.Namespace) -> Outcome:
    """Predict every scan that can be read; for the others print the reason."""
    from tqdm import tqdm

    from ..predict_files import NO_SCAN, own_path, predict_files
    from ..predictor import Predictor

    if not any(own_path(path).exists() for path in options.paths):  # before the network is loaded
        raise UserError("\nerror: ".join(f"{path}: {NO_SCAN}" for path in options.paths))
    named = ("model", "network", "device", "batch_size", "runtime", "strip", "threshold")
    predictor = Predictor(**{name: getattr(options, name) for name in named}, load=False)
    if options.threshold is not None:
        print(moved_threshold(predictor.parsed(["decision"])["decision"]))
    dicom = [name for name in ("dicom_seg", "dicom_sr", "rtstruct") if getattr(options, name)]
    wanted = (options.overwrite, dicom, options.probabilities)
    index = predict_files(
        predictor, options.paths, options.output, *wanted, say=tqdm.write, population=options.population
    )
    reasons = [entry["error"] for entry in index.values() if "error" in entry]
    for reason in reasons:
        print(f"error: {reason}", file=sys.stderr)
    classify = "classification" in weights_report.learned_of(predictor.parsed(["model_card"])["model_card"])
    unpredicted = [path for path, entry in index.items() if classify and entry.get("state") == "no_prediction"]
    skipped = {path: entry["skipped"] for path, entry in index.items() if "skipped" in entry}
    for why in dict.fromkeys(skipped.values()):
        path, *more = (path for path in skipped if skipped[path] == why)
        print(f"skipped: {path}{f' and {len(more)} more' if more else ''}: {why}", file=sys.stderr)
    scans = len(index) - len(skipped)
    text = f"{scans - len(reasons) - len(unpredicted)} of {scans} scans predicted in {options.output}\n{NOTICE}"
    content = {"output": options.output, "notice": NOTICE, "scans": index}
    return Outcome(content, text, BAD_INPUT if reasons else 0)


def compare(options: argparse.Namespace) -> Outcome:
    """Compare two dates."""
    from ..followup.compare import compare as make
    from ..predictor import Predictor

    if options.repeats < 2:
        raise UserError("--repeats: a band needs at least 2")
    for path in (options.first, options.second):
        if not Path(path).exists():
            raise UserError(f"{path}: no such file or folder")
    paths = (Path(options.first), Path(options.second), Path(options.output))
    found = make(Predictor(options.model, device=options.device), *paths, options.repeats)
    first, second = (sum(values) / len(values) for values in found["repeats_ml"].values())
    share = "" if found["change_percent"] is None else f" ({found['change_percent']:+.0f} %)"
    text = (
        f"first {first:.1f} ml, second {second:.1f} ml, change {found['change_ml']:+.1f} ml{share}, "
        f"noise up to {found['band_ml']:.1f} ml: {found['shown']}\n"
    )
    if not found["registration"]["right"]:
        text += "the scans do not fit after the registration: are both of one patient and one sequence?\n"
    text += NOTICE
    return Outcome({"comparison": Path(options.output) / "comparison.json", "shown": found["shown"]}, text)


def info(options: argparse.Namespace) -> Outcome:
    """Show what is installed and how good the weights are."""
    from .info import as_text
    from .info import info as describe

    found = describe(options.model)
    return Outcome(found, as_text(found))


def moved_threshold(decision: Any) -> str:
    """In words that the operating point is the user's."""
    kinds = ("image", "volume")
    fitted = " and ".join(f"{replace(decision, threshold=None).operating_point(kind):.2f} ({kind}s)" for kind in kinds)
    return f"operating point {decision.threshold:.2f}, moved from {fitted}"


def score(options: argparse.Namespace) -> Outcome:
    """Score weights."""
    from ..workflows.stages import evaluate

    explain = "classification" in weights_report.learned_by(find_weights(options.model))
    told = {"allow_training_cases": options.allow_training_cases, "strip": options.strip, "explain": explain}
    score_folders(evaluate, options, **told)
    return Outcome({"report": Path(options.output) / "report.json"})


def audit_shortcuts(options: argparse.Namespace) -> Outcome:
    """Audit weights or a classifier for shortcuts."""
    from ..workflows.stages import audit

    model = find_weights(options.model)
    if not options.predict and "classification" not in weights_report.learned_by(model):
        raise UserError(f"{model}: trained on masks only, there is no classifier to audit")
    score_folders(audit, options, predict=options.predict)
    return Outcome({"findings": Path(options.output) / "audit.json"})


def robustness(options: argparse.Namespace) -> Outcome:
    """Score weights on corrupted scans."""
    from ..workflows.robustness import require_torchio, score_corrupted

    require_torchio(options.corruptions)
    chosen = ("corruptions", "severities", "seed", "allow_training_cases", "strip")
    told = {name: getattr(options, name) for name in chosen} | {"on_device": options.device}
    options.device = None  # of the predictor alone
    score_folders(score_corrupted, options, **told)
    output = Path(options.output)
    return Outcome({"scores": output / "robustness.json", "figure": output / "robustness.png"})


def score_folders(job: Callable[..., None], options: argparse.Namespace, **settings: Any) -> None:
    """Run a job on the folders and with the weights that the options name."""
    from ..workflows.scoring import on_folders

    names = ("output", "volumes", "images", "model", "network", "device", "skip_unreadable")
    on_folders(job, **{name: getattr(options, name) for name in names}, reading=reading(options), **settings)


def check(options: argparse.Namespace) -> Outcome:
    """Say what would be done with folders of data, and what would go wrong."""
    from ..loading import parse
    from ..weights import trained_as

    model = Path(options.model).absolute() if options.model else None
    labeled = [*options.volumes, *options.images]
    folders = [*options.folders, *labeled]
    if not folders:
        raise UserError("check: name a folder")
    told: dict[str, Any] = {"folders": folders, "labeled": labeled, **reading(options)}
    told |= {"model_path": str(model), **trained_as(model)} if model else {}
    told.pop("network_name", None)
    found = parse("check.yaml", ["findings", "text"], **told)
    errors = any(finding["level"] == "error" for finding in found["findings"]["findings"])
    return Outcome(found["findings"], found["text"], BAD_INPUT if errors else 0)


def report(options: argparse.Namespace) -> Outcome:
    """Write the evaluation report."""
    from ..reporting.collect import collect, collect_gallery, collect_scores
    from ..reporting.readme_table import START, write_readme_table
    from ..reporting.report import write_report

    docs = Path(options.output)
    if options.gallery:
        collect_gallery(Path(options.gallery), docs / "images")
    if options.finished:
        collect(Path(options.finished), docs / "results")
    for name in ("robustness", "subsets"):
        if finished := getattr(options, name):
            collect_scores(Path(finished), docs / "results", name)
    page = write_report(docs / "results", docs, [Path(file) for file in options.picture])
    made = {"report": page, "html": page.with_suffix(".html")}
    readme = docs.resolve().with_name("README.md")
    if readme.is_file() and START in readme.read_text():
        write_readme_table(readme, docs / "results")
        made["table"] = readme
    return Outcome(made)


def pack(options: argparse.Namespace) -> Outcome:
    """Pack the bundle."""
    from ..core import files
    from ..packaging.pack import pack as make

    key = Path(options.sign) if options.sign else None
    folder, archive = make(Path(options.output), options.weights_url, key=key)
    return Outcome({"folder": folder, "zip": archive, "sha256": files.sha256_of(archive)})


def export(options: argparse.Namespace) -> Outcome:
    """Write the network in another format."""
    from ..manifest import read_json
    from ..packaging.export import export as make
    from ..packaging.export import write_triton_model
    from ..packaging.runtimes import note_beside

    exported = make(options.format, options.model, options.network)
    made: dict[str, Any] = {
        "network": exported,
        "largest_difference": read_json(note_beside(exported))["largest_difference"],
    }
    if options.triton:
        made["triton"] = write_triton_model(options.format, exported, Path(options.triton))
    return Outcome(made)


def verify(options: argparse.Namespace) -> Outcome:
    """Check a packed bundle as the model zoo does; run its code only if asked to."""
    import sys

    from ..packaging.verify import verify as checks

    folder = Path(options.folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{options.folder}: no such folder; name one that `pack` wrote")
    if options.run_code:
        sys.dont_write_bytecode = True  # a signed folder stays as it is
        print(f"{folder}: after the other checks its code is run here, with your rights", file=sys.stderr)
    words = {True: "pass", False: "FAIL", None: "skipped"}
    results = []
    named = (options.schema, options.signers, options.key)
    schema, signers, key = (Path(name).resolve() if name else None for name in named)
    for check in checks(folder, schema, signers, options.run_code, key):
        print(f"{words[check.passed]:<10}{check.name}{f': {check.reason}' if check.reason else ''}", flush=True)
        results.append({"name": check.name, "passed": check.passed, "reason": check.reason})
    return Outcome({"checks": results}, "", BAD_INPUT if any(one["passed"] is False for one in results) else 0)


def serve(options: argparse.Namespace) -> Outcome:
    """Serve predictions over HTTP."""
    from ..service.server import serve as run

    run(service_settings(options))
    return Outcome({}, "")


def health(options: argparse.Namespace) -> Outcome:
    """Check whether a service is ready."""
    from http.client import HTTPConnection, HTTPException

    try:
        connection = HTTPConnection("127.0.0.1", options.port, timeout=5)
        connection.request("GET", options.path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        reason = f"does not respond ({type(error).__name__}); start it: python -m bundle serve"
        raise UserError(f"127.0.0.1:{options.port}: {reason}") from None
    address = f"127.0.0.1:{options.port}{options.path}"
    return Outcome({"address": address, "status": status}, f"{address}: {status}", 0 if status == 200 else NOT_READY)


def ui(options: argparse.Namespace) -> Outcome:
    """Serve the web page."""
    from ..ui.launch import launch

    launch(service_settings(options))
    return Outcome({}, "")


def service_settings(options: argparse.Namespace) -> Settings:
    """Settings of service and page; the token comes from the environment, as other users can read a command line."""
    import os

    from ..service.settings import Settings

    named = {name: getattr(options, name) for name in ("network", "device", "host", "port")}
    return Settings(Path(options.model) if options.model else None, token=os.environ.get("BUNDLE_TOKEN"), **named)


def demo(options: argparse.Namespace) -> Outcome:
    """Run the pipeline on synthetic data."""
    from ..demo import run_demo

    return Outcome(run_demo(Path(options.output)))


def phantoms(options: argparse.Namespace) -> Outcome:
    """Write synthetic data."""
    from ..datasets.phantoms import write_images, write_volumes
    from ..datasets.typed_phantoms import write_typed_images

    root = Path(options.output)
    if root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root}: not empty, choose another folder")
    sequences = options.modalities or ["flair"]
    write_volumes(  # 24 slices span a head
        root / "brats", options.patients, seed=options.seed, spacing_mm=6.0, modalities=sequences
    )
    if options.four_classes:
        write_typed_images(root / "kaggle", options.images, seed=options.seed)
    else:
        write_images(root / "kaggle", options.images, seed=options.seed, shortcut=options.shortcut)
    return Outcome({"volumes": root / "brats", "images": root / "kaggle"})


def data(options: argparse.Namespace) -> Outcome:
    """Download a data set."""
    from ..datasets.download import DownloadError, fetch_brats, fetch_kaggle

    try:
        root = Path(options.root)
        folder = fetch_brats(root) if options.source == "brats" else fetch_kaggle(root)
    except DownloadError as error:
        raise UserError(str(error)) from None
    return Outcome({"folder": folder})
