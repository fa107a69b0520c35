"""Options that several subcommands share, and how their values are read."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core import filenames
from ..core.regions import require_regions
from ..core.tumor_types import require_types, source_and_type
from ..workflows.robustness import CORRUPTIONS

VOLUMES = "folder of volumes in any known layout (docs/reference/data.md); repeatable"
IMAGES = "folder of yes/ and no/ images; NAME: what to call this source (default: the folder's name); repeatable"
NETWORKS = ["cpu", "base", "large"]


def add_data(sub: argparse.ArgumentParser) -> None:
    """Options that name labeled data, and where the results go."""
    add_sources(sub)
    sub.add_argument("--output", metavar="DIR", required=True, help="folder for all results")


def add_sources(sub: argparse.ArgumentParser) -> None:
    """Options that name labeled data; --brats and --kaggle are their older names."""
    for names, dest, text in (
        (("--volumes", "--brats"), "volumes", VOLUMES),
        (("--images", "--kaggle"), "images", IMAGES),
    ):
        sub.add_argument(*names, dest=dest, metavar="[NAME=]DIR", action="append", default=[], help=text)
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


def add_training_cases(sub: argparse.ArgumentParser) -> None:
    """Option that also scores training cases."""
    sub.add_argument(
        "--allow-training-cases", action="store_true", help="also score cases that the weights were trained on"
    )


def add_compared_weights(sub: argparse.ArgumentParser) -> None:
    """Options that name further weights of several sequences, and of one."""
    sub.add_argument(
        "--other", metavar="FILE", action="append", default=[], help="further weights, as of another fold; repeatable"
    )
    sub.add_argument(
        "--baseline", metavar="FILE", action="append", default=[], help="weights of one sequence; repeatable"
    )


def add_corruptions(sub: argparse.ArgumentParser) -> None:
    """Options that choose what is done to scans."""
    add_training_cases(sub)
    sub.add_argument(
        "--corruptions",
        metavar="NAME",
        nargs="+",
        choices=CORRUPTIONS,
        help=f"default: all of {', '.join(CORRUPTIONS)}",
    )
    sub.add_argument(
        "--severities", metavar="N", nargs="+", type=int, choices=range(6), help="0 to 5, 0: unchanged (default: all)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the artifacts and the intervals (default: 0)")


def add_device(sub: argparse.ArgumentParser) -> None:
    """Option that names the device."""
    sub.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")


def add_training(sub: argparse.ArgumentParser) -> None:
    """Options of any training."""
    sub.add_argument("--brains", action="store_true", help="also train on the brain alone of heads (needs deepbet)")
    sub.add_argument("--network", choices=NETWORKS, default="cpu", help="its size (default: cpu)")
    add_precision(sub)


def add_modalities(sub: argparse.ArgumentParser, regions: bool = True) -> None:
    """Option that names the sequences of volumes; with `regions` also one that names the regions of the tumor."""
    sub.add_argument(
        "--modalities",
        metavar="flair,t1,...",
        type=sequences,
        help="sequences of volumes that the network reads, as channels: flair, t1, t1ce, t2 (default: flair)",
    )
    if regions:
        text = "regions of the tumor that are segmented: wt,tc,et (whole tumor, tumor core, enhancing; default: wt)"
        sub.add_argument("--regions", metavar="wt,tc,et", type=region_names, help=text)
        add_tumor_types(sub)


def add_tumor_types(sub: argparse.ArgumentParser) -> None:
    """Options that name types of tumors, and sources of volumes whose type is known."""
    sub.add_argument(
        "--tumor-types",
        metavar="glioma,meningioma,...",
        type=type_names,
        help="types that are told apart, from images in --four-classes folders: glioma, meningioma, pituitary",
    )
    sub.add_argument(
        "--volume-types",
        metavar="SOURCE=TYPE",
        type=source_type,
        action="append",
        help="the type of all tumors in a source of volumes, such as brats=glioma (default: unknown); repeatable",
    )


def add_precision(sub: argparse.ArgumentParser) -> None:
    """Option of any training: how it computes."""
    sub.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16 halves the time where the hardware computes in it (default: float32)",
    )


def add_tested_folds(sub: argparse.ArgumentParser) -> None:
    """Option of commands that run a plan's trainings in every fold."""
    sub.add_argument(
        "--fold", type=whole, metavar="K", action="append", help="train and test this fold; repeatable (default: all)"
    )


def add_processes(sub: argparse.ArgumentParser) -> None:
    """Option of commands that run many trainings."""
    sub.add_argument("--processes", type=positive, default=1, help="trainings in parallel, one core each (default: 1)")


def codes(text: str) -> list[int]:
    """Codes of a mask, with commas between them."""
    with suppress(ValueError):
        found = [int(part) for part in text.split(",")]
        if min(found) > 0:
            return found
    raise argparse.ArgumentTypeError(f"{text} is not whole numbers above zero, such as 1,2,3")


def sequences(text: str) -> list[str]:
    """Names of sequences, with commas between them; also as BraTS 2023 and BIDS write them.

    >>> sequences("flair,T1w,t1c")
    ['flair', 't1', 't1ce']
    """
    names = [name.strip() for name in text.split(",")]
    found = [filenames.KIND_OF.get(name.lower(), "") for name in names]
    for name, sequence in zip(names, found, strict=True):
        if sequence not in filenames.SEQUENCES:
            known = ", ".join(filenames.SEQUENCES)
            raise argparse.ArgumentTypeError(f"'{name}' is no sequence, choose from {known}")
        if found.count(sequence) > 1:
            raise argparse.ArgumentTypeError(f"{sequence} is named twice")
    return found


def region_names(text: str) -> list[str]:
    """Names of regions, with commas between them.

    >>> region_names("WT,tc,et")
    ['wt', 'tc', 'et']
    """
    names = [name.strip().lower() for name in text.split(",")]
    try:
        require_regions(names, list(filenames.SEQUENCES))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def type_names(text: str) -> list[str]:
    """Names of types of tumors, with commas between them.

    >>> type_names("Glioma, pituitary")
    ['glioma', 'pituitary']
    """
    names = [name.strip().lower() for name in text.split(",")]
    try:
        require_types(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def source_type(text: str) -> str:
    """A source and the type of its tumors, SOURCE=TYPE."""
    try:
        return "=".join(source_and_type(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    with suppress(ValueError):
        if 0 <= (number := float(text)) <= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")


def positive(text: str) -> int:
    """Parse a whole number above zero."""
    with suppress(ValueError):
        if (number := int(text)) > 0:
            return number
    raise argparse.ArgumentTypeError(f"{text} is not a whole number above zero")


def whole(text: str) -> int:
    """Parse a whole number."""
    with suppress(ValueError):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text} is not a whole number")


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """How folders of data are to be read, as preprocessing's config names it; what is not said is left out."""
    told = {
        "groups_file": str(Path(options.groups).absolute()) if options.groups else None,
        "tumor_codes": options.labels,
        "masks": options.masks,
        "four_classes": options.four_classes or bool(getattr(options, "tumor_types", None)) or None,
        "volume_types": getattr(options, "volume_types", None),
        "brains": getattr(options, "brains", None) or None,  # of commands that train
    }
    return {name: value for name, value in told.items() if value is not None}
