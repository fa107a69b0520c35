"""The command line: one subcommand a thing that people come for. What each does is in `commands.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import NOTICE, __version__, commands
from .errors import reason_of
from .runtimes import FORMATS
from .workflows.presets import PRESETS

NETWORKS = ["cpu", "base", "large"]
IMAGES = "folder of yes/ and no/ images, and what to call their source (default: the folder's name); repeatable"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit code: 0 done, 1 not ready (health), 2 bad input or usage, 130 interrupted."""
    top = parser()
    options = top.parse_args(arguments)
    if getattr(options, "output", None) == "":
        top.error("--output: names no folder")
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("interrupted" + options.on_interrupt, file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "bundle", "scripts"):
            raise
        print(f"error: {options.command} needs the package {package}, which is not installed", file=sys.stderr)
        return commands.BAD_INPUT
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        print(f"error: {reason}", file=sys.stderr)
        return commands.BAD_INPUT


def parser() -> argparse.ArgumentParser:
    """All subcommands and their options."""
    top = argparse.ArgumentParser(prog="python -m bundle", description=f"Brain tumor on MRI slices. {NOTICE}")
    top.add_argument("--version", action="version", version=__version__)
    subcommands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = subcommands.add_parser(name, help=text, description=text)
        continues = name in ("predict", "pipeline", "demo", "ablate", "crossvalidate")
        sub.set_defaults(run=run, command=name, on_interrupt="; the same command continues" if continues else "")
        return sub

    sub = command("predict", commands.predict, "Prediction for scans: probability, state, mask on the scan's own grid.")
    sub.add_argument("paths", nargs="+", metavar="PATH", help="PNG, JPEG, NIfTI or DICOM file, or a folder of them")
    sub.add_argument("--output", required=True, help="folder for NAME.json, NAME_mask.png / .nii.gz and index.json")
    sub.add_argument("--model", help="plain weights (default: the bundle's)")
    sub.add_argument("--network", choices=NETWORKS, help="where nothing beside the weights tells")
    sub.add_argument("--overwrite", action="store_true", help="replace predictions that are there")
    sub.add_argument("--dicom-seg", action="store_true", help="DICOM series: write NAME_seg.dcm as well")
    sub.add_argument("--batch-size", type=positive, default=8, help="slices a pass (default: 8)")
    add_device(sub)
    sub.add_argument("--runtime", choices=list(FORMATS), help="run the network as `export` wrote it")

    sub = command("pipeline", commands.pipeline, "Preprocess, train in three stages, evaluate.")
    sub.add_argument("--brats", metavar="DIR", required=True, help="folder of BraTS volumes")
    sub.add_argument("--kaggle", metavar="[NAME=]DIR", action="append", required=True, help=IMAGES)
    sub.add_argument("--output", metavar="DIR", default="runs/pipeline", help="default: runs/pipeline")
    sub.add_argument("--preset", choices=list(PRESETS), default="quick", help="how long to train (default: quick)")
    add_training(sub)
    sub.add_argument("--seed", type=int, default=0, help="of all that is drawn at random (default: 0)")
    sub.add_argument("--fold", type=int, default=0, help="which fold is the test set (default: 0)")
    add_device(sub)
    sub.add_argument("--tracking", choices=["mlflow"], help="also log to MLflow")
    sub.add_argument("--skip-unreadable", action="store_true", help="go on without the cases that cannot be read")

    sub = command("evaluate", commands.score, "Score weights on folders of labeled cases.")
    add_data(sub)
    add_model(sub)
    sub.add_argument("--allow-training-cases", action="store_true", help="score what the weights have seen as well")

    sub = command("audit", commands.look_for_shortcuts, "Does the classifier see the tumor, or the source?")
    add_data(sub)
    add_model(sub)
    sub.add_argument("--predict", metavar="MODULE:FUNCTION", help="audit this classifier instead of the network")

    sub = command("crossvalidate", commands.crossvalidate, "Train and score in every fold, by patient and cluster.")
    add_data(sub)
    sub.add_argument("--preset", choices=list(PRESETS), default="quick", help="how long to train (default: quick)")
    sub.add_argument("--folds", type=positive, default=5, help="as many as patients leave one out (default: 5)")
    sub.add_argument("--image-folds", type=positive, help="of the images: each is tested once (default: as --folds)")
    sub.add_argument("--seeds", type=positive, default=1, help="repetitions (default: 1)")
    sub.add_argument(
        "--learn-from", metavar="NAME", action="append", help="only these sources, test the others; repeatable"
    )
    sub.add_argument("--release", metavar="DIR", help="then train on every case, and put weights and report there")
    add_training(sub)
    add_processes(sub)

    sub = command("ablate", commands.ablate, "Train and score variants of the recipe; one table out.")
    add_data(sub)
    sub.add_argument("--plan", metavar="FILE", help="what to compare (default: bundle/workflows/ablations.yaml)")
    sub.add_argument("--seeds", type=positive, help="repetitions of every variant (default: the plan's)")
    add_training(sub)
    add_processes(sub)

    sub = command("report", commands.report, "Make the evaluation report of committed results, or of a finished run.")
    sub.add_argument(
        "--run", dest="finished", metavar="DIR", help="output of ablate or crossvalidate: collect its results first"
    )
    sub.add_argument(
        "--output", metavar="DIR", default="docs", help="gets the page, images/ and results/ (default: docs)"
    )
    sub.add_argument("--gallery", metavar="DEMO", help="take the pictures of phantoms from this output of demo")
    sub.add_argument("--picture", metavar="FILE", action="append", default=[], help="add to the HTML page; repeatable")

    sub = command("export", commands.export, "The network in another format, checked against the original.")
    sub.add_argument("--format", choices=list(FORMATS), required=True)
    sub.add_argument("--model", metavar="FILE", help="plain weights, which it is put beside (default: the bundle's)")
    sub.add_argument("--network", choices=NETWORKS, help="where nothing beside the weights tells")
    sub.add_argument("--triton", metavar="DIR", help="also lay it out in this model repository of Triton")

    sub = command("pack", commands.pack, "The bundle as a folder and a zip, for other tools.")
    sub.add_argument("--output", metavar="DIR", default="dist", help="default: dist")
    sub.add_argument("--weights-url", metavar="URL", help="leave the weights out, to be fetched from here")

    sub = command("verify", commands.verify, "Ask a packed bundle what a model zoo description, offline.")
    sub.add_argument("folder", metavar="DIR", help="the packed bundle")
    sub.add_argument("--schema", metavar="FILE", help="the metadata's schema, where it is at hand")

    sub = command("serve", commands.serve, "Prediction over HTTP, on this machine alone unless BUNDLE_TOKEN is set.")
    add_model(sub, skip=False)
    sub.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; any other needs BUNDLE_TOKEN")
    sub.add_argument("--port", type=int, default=8000, help="default: 8000")

    sub = command("ui", commands.ui, "A web page: upload a scan, see the prediction and its reasons.")
    add_model(sub, skip=False)
    sub.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1; any other needs BUNDLE_TOKEN")
    sub.add_argument("--port", type=int, default=8501, help="default: 8501")

    sub = command("health", commands.health, "Ask a service on this machine whether it predictions; exit code 0 if so.")
    sub.add_argument("--port", type=int, default=8000, help="default: 8000")
    sub.add_argument("--path", default="/readyz", help="default: /readyz")

    sub = command("demo", commands.demo, "The whole job on synthetic data, in up to half an hour.")
    sub.add_argument("--output", metavar="DIR", default="runs/demo", help="default: runs/demo")

    sub = command("phantoms", commands.phantoms, "Write synthetic volumes and images with known truth.")
    sub.add_argument("--output", metavar="DIR", required=True, help="gets brats/ and kaggle/")
    sub.add_argument("--patients", type=positive, default=12, help="volumes (default: 12)")
    sub.add_argument("--images", type=positive, default=80, help="default: 80")
    sub.add_argument("--seed", type=int, default=0, help="another one, other phantoms (default: 0)")
    sub.add_argument("--shortcut", action="store_true", help="tie the images' look to their label, to test audits")

    sub = command("data", commands.data, "Download an open data set; its license is printed first.")
    sub.add_argument("source", choices=["brats", "kaggle"])
    sub.add_argument("--root", metavar="DIR", required=True, help="where to put it")
    return top


def add_data(sub: argparse.ArgumentParser) -> None:
    """Options that name labeled data."""
    sub.add_argument("--brats", metavar="DIR", help="folder of BraTS volumes with masks")
    sub.add_argument("--kaggle", metavar="[NAME=]DIR", action="append", default=[], help=IMAGES)
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for all results")


def add_model(sub: argparse.ArgumentParser, skip: bool = True) -> None:
    """Options that name weights, and whether cases may be skipped."""
    sub.add_argument("--model", metavar="FILE", help="plain weights (default: the bundle's)")
    sub.add_argument("--network", choices=NETWORKS, help="where nothing beside the weights tells")
    add_device(sub)
    if skip:
        sub.add_argument("--skip-unreadable", action="store_true", help="go on without the cases that cannot be read")


def add_device(sub: argparse.ArgumentParser) -> None:
    """Option that names the device."""
    sub.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")


def add_training(sub: argparse.ArgumentParser) -> None:
    """Options of any training."""
    sub.add_argument("--network", choices=NETWORKS, default="cpu", help="its size (default: cpu)")
    sub.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16 halves the time where the hardware computes in it (default: float32)",
    )


def add_processes(sub: argparse.ArgumentParser) -> None:
    """Options of many trainings."""
    sub.add_argument("--processes", type=positive, default=1, help="trainings side by side, a core each (default: 1)")


def positive(text: str) -> int:
    """A whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above zero")
    return number
