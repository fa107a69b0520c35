"""Modules of the bundle's `scripts/` that need no torch: copied here when the wheel is built, else used in place."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
if not (HERE / "audit").is_dir():  # in the repository
    __path__ = [str(HERE.parents[2] / "scripts")]
