"""Plain language: no private name or phrase stands in code, configs, pages or documentation."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("scripts", "bundle", "benchmarks", "configs", "docs", "tests", "models")
PAGES = (
    "README.md",
    "AGENTS.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "hubconf.py",
    "noxfile.py",
    "Makefile",
    "setup.cfg",
)
TEXT = {".py", ".yaml", ".md", ".j2", ".css", ".json", ".ipynb", ".txt", ".cfg", ".conf", ""}
DATA = ("docs/results/", "models/report.json", "docs/MULTITASK_EVALUATION_REPORT")  # generated from data

# private word or phrase: plain word
NAMES = {
    r"familiar": "out-of-distribution score",
    r"InspectedNetwork|no_code|\btrusting\b|\bquieten\b|alone_in\b": "terms of the field",
    r"\bWish\b|work_off|\bPassage\b|unless_left": "PredictionRequest, process, RequestContext, cancel_on_disconnect",
    r"forerunner|began_unknown": "parent_weights, unknown_lineage",
    r"\bjudges?\b|\bsilver\b|drawn by hand": "per-fold decisions, automatic masks, manual masks",
    r"L_cells|\bcells_weight\b|by_cell\b": "patches, L_patch",
    r"CIRCUMSTANCES|SERVED_BY": "NON_IDENTITY_KEYS, FINGERPRINTED_SOURCES",
    r"\btwins?\b": "synthetic data, near-duplicate",
    r"\b[Tt]umours?\b(?!\"|seg|mask)|\bcolours?\b|\bgrey\b|\bcentred?\b|\blabelled\b": "American spelling",
    r"millimetre|millilitre|neighbour|oedema|(?:normal|standard|initial|recogn)is(?:e|ing)": "American spelling",
    r"(?-i:hospitals)|\bcrowd": "sites, clients",
    r"\bopinions\b|\battentive\b|\bspecks?\b": "constant_weights, weights_with_cam, small components",
    r"\boutlined": "nonempty_masks, segmented",
    r"drawn_mm2|drawn_share|[Pp]assed[ _]?over": "predicted_mm2, predicted_share, skipped",
    r"brats_dir|kaggle_dirs?\b|brats_cases": "volumes, images, volume_cases",
    r"an prediction|predictions? (?:both|the questions)|to prediction\b|which prediction\b": "predict",
    r"Numbers to trust|What is done to a scan|Take away|Why not to trust": "Evaluation, Preprocessing, Downloads",
    r"what was answered|\bunanswered\b": "prediction",
    r"\"\"\"T\d+[ .,:;](?!and T2 show)": "the trap in words",
}


def files() -> list[Path]:
    """Tracked text files, without data and this file."""
    listed = subprocess.run(
        ["git", "ls-files", *FOLDERS, *PAGES], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\n")
    found = [ROOT / name for name in listed if name and not name.startswith(DATA)]
    return [path for path in found if path.suffix in TEXT and path != Path(__file__).resolve() and path.is_file()]


@pytest.mark.parametrize("pattern", NAMES)
def test_private_names_are_not_used(pattern: str) -> None:
    word, found = re.compile(pattern, re.IGNORECASE if pattern.islower() else 0), []
    for path in files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if match := word.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert not found, f"use: {NAMES[pattern]}"


def test_files_are_found() -> None:
    assert len(files()) > 200 or not (ROOT / ".git").exists()
