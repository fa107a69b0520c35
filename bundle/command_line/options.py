"""Options that several subcommands share, and how their values are read."""

from __future__ import annotations

import argparse

VOLUMES = "folder of volumes in any known layout (docs/reference/data.md); repeatable"
IMAGES = "folder of yes/ and no/ images; NAME: what to call this source (default: the folder's name); repeatable"
NETWORKS = ["cpu", "base", "large"]


def add_data(sub: argparse.ArgumentParser) -> None:
    """Options that name labeled data, and where the results go."""
    add_sources(sub, required=False)
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for all results")


def add_sources(sub: argparse.ArgumentParser, required: bool) -> None:
    """Options that name labeled data; --brats and --kaggle are their older names."""
    for names, dest, text in (
        (("--volumes", "--brats"), "volumes", VOLUMES),
        (("--images", "--kaggle"), "images", IMAGES),
    ):
        sub.add_argument(
            *names,
            dest=dest,
            metavar="[NAME=]DIR",
            action="append",
            required=required,
            default=None if required else [],
            help=text,
        )
    add_reading(sub)


def add_reading(sub: argparse.ArgumentParser) -> None:
    """Options that say how folders of data are to be read."""
    sub.add_argument("--groups", metavar="FILE", help="CSV table with the columns case,patient: whose the volumes are")
    sub.add_argument("--labels", metavar="1,2,3", type=codes, help="codes of masks that are tumor (default: the set's)")
    sub.add_argument("--masks", metavar="NAME", help="file name of masks, if not a known one: '{case}_roi.nii.gz'")
    sub.add_argument(
        "--four-classes", action="store_true", help="glioma, meningioma and pituitary count as yes, notumor as no"
    )


def add_model(sub: argparse.ArgumentParser, skip: bool = True) -> None:
    """Options that name weights; with `skip` also whether cases may be left out."""
    sub.add_argument("--model", metavar="FILE", help="weights, a state dict (default: the bundle's)")
    sub.add_argument("--network", choices=NETWORKS, help="its size, if no report beside the weights names it")
    add_device(sub)
    if skip:
        sub.add_argument("--skip-unreadable", action="store_true", help="leave out the cases that cannot be read")


def add_strip(sub: argparse.ArgumentParser) -> None:
    """Option that cuts the brain out first."""
    sub.add_argument("--strip", action="store_true", help="cut the brain out of volumes with a skull (needs deepbet)")


def add_device(sub: argparse.ArgumentParser) -> None:
    """Option that names the device."""
    sub.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")


def add_training(sub: argparse.ArgumentParser) -> None:
    """Options of any training."""
    sub.add_argument("--brains", action="store_true", help="also train on the brain alone of heads (needs deepbet)")
    sub.add_argument("--network", choices=NETWORKS, default="cpu", help="its size (default: cpu)")
    add_precision(sub)


def add_precision(sub: argparse.ArgumentParser) -> None:
    """Option of any training: how it computes."""
    sub.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16 halves the time where the hardware computes in it (default: float32)",
    )


def add_processes(sub: argparse.ArgumentParser) -> None:
    """Option of commands that run many trainings."""
    sub.add_argument("--processes", type=positive, default=1, help="trainings in parallel, one core each (default: 1)")


def codes(text: str) -> list[int]:
    """Codes of a mask, with commas between them."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a code is above zero")
    return found


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return number


def positive(text: str) -> int:
    """Parse a whole number above zero."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above zero")
    return number
