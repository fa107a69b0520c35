"""Copy what this distribution shares with the bundle's `scripts/` into the package, when it is built."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SHARED = (
    *("core/__init__.py", "core/statistics.py"),
    *("evaluation/__init__.py", "evaluation/classification_scores.py", "evaluation/intervals.py"),
    *("dataset/__init__.py", "dataset/near_duplicates.py"),
    *("transforms/__init__.py", "transforms/image_edits.py", "transforms/intensities.py"),
    *("audit/__init__.py", "audit/baselines.py", "audit/questions.py"),
)


class BuildWithShared(build_py):
    """Copy the shared modules after the package's own."""

    def run(self) -> None:
        """Build."""
        super().run()
        for name in SHARED:
            target = Path(self.build_lib) / "shortcut_audit" / "shared" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SCRIPTS / name, target)


setup(cmdclass={"build_py": BuildWithShared})
