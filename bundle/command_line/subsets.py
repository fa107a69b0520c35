"""The subcommand that scores combinations of sequences."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .commands import score_folders
from .outcome import Outcome


def subsets(options: argparse.Namespace) -> Outcome:
    """Score weights on every combination of their sequences."""
    from ..workflows.subsets import score_subsets, weights_to_compare

    weights_to_compare(options.model, options.other, options.baseline)
    told = {"strip": options.strip, "on_device": options.device, "others": options.other, "baselines": options.baseline}
    options.device = None  # of the predictors alone
    if options.images:
        raise UserError(f"{options.images[0]}: an image has one sequence, name volumes (--volumes)")
    score_folders(score_subsets, options, **told)
    return Outcome({"scores": Path(options.output) / "subsets.json"})
