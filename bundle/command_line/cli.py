"""The command line: the subcommands and their options. What each one does is in `commands.py`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from .. import NOTICE, __version__, loading
from ..errors import exit_on_sigterm, reason_of
from ..packaging.export_formats import FORMATS
from ..workflows.presets import PRESETS
from . import browser_app, commands, exchange, subsets, training
from .addresses import LocalCopies
from .options import (
    NETWORKS,
    add_compared_weights,
    add_corruptions,
    add_data,
    add_device,
    add_modalities,
    add_model,
    add_precision,
    add_processes,
    add_reading,
    add_sources,
    add_strip,
    add_tested_folds,
    add_training,
    add_training_cases,
    positive,
    share,
    whole,
)
from .outcome import failed, only_json
from .usage import Parser, remedy_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit code, see docs/reference/commands.md."""
    top = parser()
    options, unknown = top.parse_known_args(arguments)
    if unknown:
        options.parser.refuse(unknown)
    loading.minimal_monai = arguments is None and options.command in ("check", "predict", "serve", "ui")
    if getattr(options, "output", None) == "":
        options.parser.error("--output: is empty, name a folder")
    try:
        with only_json(options.json), exit_on_sigterm(options.on_interrupt):
            copies = LocalCopies(options)
            with copies.returned():
                outcome = options.run(options)
        outcome = copies.named(outcome)
        outcome.show(options.json)
        return int(outcome.code)
    except BrokenPipeError:  # whatever reads the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return commands.CLOSED
    except KeyboardInterrupt:
        return failed("interrupted" + options.on_interrupt, options.json, commands.INTERRUPTED)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "bundle", "scripts"):
            raise
        reason = f"error: {options.command} needs the package {package}, which is not installed{remedy_of(package)}"
        return failed(reason, options.json, commands.BAD_INPUT)
    except Exception as error:
        if (reason_found := reason_of(error)) is None:
            raise
        return failed(f"error: {reason_found}", options.json, commands.BAD_INPUT)


def parser() -> Parser:
    """All subcommands and their options."""
    top = Parser(prog="python -m bundle", description=f"Brain tumor on MRI slices. {NOTICE}")
    top.add_argument("--version", action="version", version=__version__)
    subcommands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = subcommands.add_parser(name, help=text, description=text)
        resumes = name in (
            "predict",
            "pipeline",
            "demo",
            "ablate",
            "crossvalidate",
            "finetune",
            "robustness",
            "subsets",
        )
        resume = "; run the same command again to resume" if resumes else ""
        sub.set_defaults(run=run, command=name, parser=sub, on_interrupt=resume, json=False)
        if name not in ("serve", "ui"):
            sub.add_argument("--json", action="store_true", help="print the result as JSON, all else to stderr")
        return sub

    sub = command("predict", commands.predict, "Predict scans: probability, state, mask on the scan's own grid.")
    sub.add_argument("paths", nargs="+", metavar="[NAME=]PATH", help="a scan, or a folder of them; NAME: their folder")
    sub.add_argument("--output", required=True, help="folder for NAME.json, _mask, _overlay.png, and index.json")
    sub.add_argument("--model", help="weights, a state dict (default: the bundle's)")
    sub.add_argument("--network", choices=NETWORKS, help="its size, if no report beside the weights names it")
    sub.add_argument("--overwrite", action="store_true", help="replace existing predictions")
    sub.add_argument("--dicom-seg", action="store_true", help="for DICOM series: also write NAME_seg.dcm")
    sub.add_argument("--dicom-sr", action="store_true", help="and the values as NAME_sr.dcm")
    sub.add_argument("--rtstruct", action="store_true", help="and the mask's outlines as NAME_rtstruct.dcm")
    sub.add_argument("--probabilities", action="store_true", help="also write NAME_probability.png / .nii.gz")
    sub.add_argument("--threshold", type=share, metavar="P", help="operating point, 0 to 1 (default: the weights')")
    sub.add_argument("--population", metavar="NAME", help="whose scans these are, for the bound on missed tumors")
    sub.add_argument("--batch-size", type=positive, default=8, help="slices per batch (default: 8)")
    add_device(sub)
    add_strip(sub)
    sub.add_argument("--runtime", choices=list(FORMATS), help="run the network as `export` wrote it")

    sub = command("compare", commands.compare, "Compare two dates of one patient: change of the tumor's volume.")
    sub.add_argument("first", metavar="T0", help="volume of the first date")
    sub.add_argument("second", metavar="T1", help="of the second date, the same sequence")
    sub.add_argument("--output", required=True, metavar="DIR", help="folder for comparison.json and both masks")
    sub.add_argument("--model", metavar="FILE", help="weights (default: the bundle's)")
    sub.add_argument("--repeats", type=positive, default=8, help="predictions of each date for the band (default: 8)")
    add_device(sub)

    sub = command("info", commands.info, "Show versions, weights, thresholds, scores and what can be read.")
    sub.add_argument("--model", metavar="FILE", help="weights (default: the bundle's)")

    sub = command("check", commands.check, "Check folders of data before training: how they are read, and problems.")
    sub.add_argument("folders", nargs="*", metavar="[NAME=]DIR", help="volumes, images in classes, or scans")
    sub.add_argument("--model", metavar="FILE", help="weights that may have seen the cases (default: the bundle's)")
    add_sources(sub)

    sub = command("pipeline", training.pipeline, "Preprocess, train, evaluate: on volumes, images, or both.")
    add_sources(sub)
    sub.add_argument("--output", metavar="DIR", default="runs/pipeline", help="default: runs/pipeline")
    sub.add_argument("--preset", choices=list(PRESETS), default="quick", help="how long to train (default: quick)")
    add_training(sub)
    add_modalities(sub)
    sub.add_argument("--initial-weights", metavar="FILE", help="weights to start from (default: random ones)")
    sub.add_argument(
        "--seed", type=whole, default=0, help="of the split, the sampling and the augmentation (default: 0)"
    )
    sub.add_argument("--fold", type=whole, default=0, help="the fold that is the test set (default: 0)")
    add_device(sub)
    sub.add_argument("--tracking", choices=["mlflow"], help="also log to MLflow")
    sub.add_argument("--skip-unreadable", action="store_true", help="leave out the cases that cannot be read")

    sub = command("evaluate", commands.score, "Score weights on folders of labeled cases.")
    add_data(sub)
    add_model(sub)
    add_strip(sub)
    add_training_cases(sub)

    sub = command("audit", commands.audit_shortcuts, "Test whether the classifier uses shortcuts instead of the tumor.")
    add_data(sub)
    add_model(sub)
    sub.add_argument("--predict", metavar="MODULE:FUNCTION", help="audit this classifier instead of the network")

    sub = command("robustness", commands.robustness, "Score weights on scans with artifacts, of several severities.")
    add_data(sub)
    add_model(sub)
    add_strip(sub)
    add_corruptions(sub)

    sub = command("subsets", subsets.subsets, "Score weights of several sequences on every combination of them.")
    add_data(sub)
    add_model(sub)
    add_strip(sub)
    add_compared_weights(sub)

    sub = command(
        "crossvalidate",
        training.crossvalidate,
        "Train and evaluate in every fold; folds by patient and near-duplicate cluster.",
    )
    add_data(sub)
    sub.add_argument("--preset", choices=list(PRESETS), default="quick", help="how long to train (default: quick)")
    sub.add_argument(
        "--folds", type=positive, default=5, help="the number of patients gives leave-one-out (default: 5)"
    )
    sub.add_argument("--image-folds", type=positive, help="folds of the images (default: as --folds)")
    sub.add_argument("--seeds", type=positive, default=1, help="repetitions (default: 1)")
    sub.add_argument(
        "--learn-from", metavar="NAME", action="append", help="train on these sources, test all; repeatable"
    )
    add_tested_folds(sub)
    sub.add_argument(
        "--choose-from",
        metavar="PLAN",
        help="choose among a plan's variants on inner folds, and score only the chosen one (then --preset is not used)",
    )
    sub.add_argument(
        "--release",
        metavar="DIR",
        help="then train on all cases (after one fold: take its weights), and write weights and report there",
    )
    add_training(sub)
    add_modalities(sub)
    add_processes(sub)

    sub = command("finetune", training.finetune, "Fine-tune weights on own volumes, and say whether it helps.")
    sub.add_argument("volumes", nargs="+", metavar="[NAME=]DIR", help="volumes with masks, see docs/reference/data.md")
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for all results; the weights: models/")
    sub.add_argument("--model", metavar="FILE", help="weights to start from (default: the bundle's)")
    sub.add_argument("--folds", type=positive, default=10, help="fewer patients: leave one out (default: 10)")
    sub.add_argument("--epochs", type=positive, help="of each training (default: as in finetuning.yaml)")
    add_precision(sub)
    add_processes(sub)
    add_reading(sub)

    sub = command("ablate", training.ablate, "Train and evaluate variants of the training; write one table.")
    add_data(sub)
    sub.add_argument("--plan", metavar="FILE", help="what to compare (default: bundle/workflows/ablations.yaml)")
    sub.add_argument("--seeds", type=positive, help="repetitions of every variant (default: the plan's)")
    add_tested_folds(sub)
    add_training(sub)
    add_processes(sub)

    sub = command(
        "report", commands.report, "Write the evaluation report and the README's table from committed results."
    )
    sub.add_argument(
        "--run", dest="finished", metavar="DIR", help="first collect the results of this ablate or crossvalidate run"
    )
    sub.add_argument(
        "--output", metavar="DIR", default="docs", help="folder for the report, images/ and results/ (default: docs)"
    )
    sub.add_argument("--robustness", metavar="DIR", help="take the scores of corrupted scans from this robustness run")
    sub.add_argument("--subsets", metavar="DIR", help="take the scores of combinations of sequences from this run")
    sub.add_argument("--gallery", metavar="DEMO", help="take the images of phantoms from this output of demo")
    sub.add_argument(
        "--picture", metavar="FILE", action="append", default=[], help="add an image to the HTML report; repeatable"
    )

    sub = command("export", commands.export, "Write the network in another format and compare it with the original.")
    sub.add_argument("--format", choices=list(FORMATS), required=True)
    sub.add_argument(
        "--model", metavar="FILE", help="weights; the export is written beside them (default: the bundle's)"
    )
    sub.add_argument("--network", choices=NETWORKS, help="its size, if no report beside the weights names it")
    sub.add_argument("--triton", metavar="DIR", help="also write it to this Triton model repository")

    sub = command("web", browser_app.web, "Write the app that runs in a browser alone, as a static folder.")
    sub.add_argument("--output", metavar="DIR", required=True, help="new folder")
    sub.add_argument("--model", metavar="FILE", help="weights (default: the bundle's)")
    sub.add_argument("--packages", metavar="DIR", help="keep what is fetched from npm and PyPI here, to use it again")

    sub = command("pack", commands.pack, "Write the bundle as a folder and a zip, for other tools.")
    sub.add_argument("--output", metavar="DIR", default="dist", help="default: dist")
    sub.add_argument("--weights-url", metavar="URL", help="leave the weights out; they are downloaded from here")
    sub.add_argument(
        "--sign", metavar="KEY", help="sign the folder with this private key (PEM), see docs/how-to/sign.md"
    )

    sub = command("verify", commands.verify, "Check a packed bundle's files, offline; run its code on request only.")
    sub.add_argument("folder", metavar="DIR", help="the packed bundle")
    sub.add_argument(
        "--run-code",
        action="store_true",
        help="then also run its Python files and configs, which can do whatever you can: only if you trust its author",
    )
    sub.add_argument("--key", metavar="FILE", help="public key (PEM) whose owner must have signed the folder")
    sub.add_argument("--signers", metavar="FILE", help="accepted keys, as ssh-keygen's allowed signers")
    sub.add_argument("--schema", metavar="FILE", help="the metadata's JSON schema, if you have it")

    sub = command(
        "send", exchange.send, "Send the DICOM files of predictions to an archive (DICOMweb), and read them back."
    )
    sub.add_argument("folder", metavar="PREDICTIONS", help="of predict --dicom-seg --dicom-sr --rtstruct")
    sub.add_argument("--to", required=True, metavar="URL", help="the archive's DICOMweb service")

    sub = command("fhir", exchange.fhir, "Write every prediction as a FHIR R5 diagnostic report, NAME_fhir.json.")
    sub.add_argument("folder", metavar="PREDICTIONS", help="a folder of predictions")

    sub = command(
        "serve", commands.serve, "Serve predictions over HTTP, on this machine only unless BUNDLE_TOKEN is set."
    )
    add_model(sub, skip=False)
    sub.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; any other needs BUNDLE_TOKEN")
    sub.add_argument("--port", type=whole, default=8000, help="default: 8000")

    sub = command("ui", commands.ui, "Serve a web page: upload a scan, see the prediction.")
    add_model(sub, skip=False)
    sub.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; any other needs BUNDLE_TOKEN")
    sub.add_argument("--port", type=whole, default=8501, help="default: 8501")

    sub = command("health", commands.health, "Check whether a service on this machine is ready; exit code 0 if so.")
    sub.add_argument("--port", type=whole, default=8000, help="default: 8000")
    sub.add_argument("--path", default="/readyz", help="default: /readyz")

    sub = command("demo", commands.demo, "Run the whole pipeline on synthetic data, in about five minutes.")
    sub.add_argument("--output", metavar="DIR", default="runs/demo", help="default: runs/demo")

    sub = command("phantoms", commands.phantoms, "Write synthetic volumes and images with known masks and classes.")
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for brats/ (volumes) and kaggle/ (images)")
    sub.add_argument("--patients", type=positive, default=12, help="number of volumes (default: 12)")
    sub.add_argument("--images", type=positive, default=80, help="number of images (default: 80)")
    add_modalities(sub, regions=False)
    sub.add_argument("--seed", type=whole, default=0, help="of the phantoms (default: 0)")
    kind = sub.add_mutually_exclusive_group()
    kind.add_argument("--four-classes", action="store_true", help="images of three types of tumors, and without one")
    kind.add_argument(
        "--shortcut", action="store_true", help="let the images' look depend on their label, to test the audit"
    )

    sub = command("data", commands.data, "Download an open data set; print its license first.")
    sub.add_argument("source", choices=["brats", "kaggle"])
    sub.add_argument("--root", metavar="DIR", required=True, help="target folder")
    return top
