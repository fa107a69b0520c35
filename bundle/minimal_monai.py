"""Import MONAI without its optional packages: predictions do not use them, and most of the start would go to them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Any

__all__ = ["OPTIONAL", "import_minimal_monai"]

# of MONAI's optional packages those that take long to import
OPTIONAL = (
    *("fire", "ignite", "itk", "jsonschema", "matplotlib", "mlflow", "pandas", "skimage", "sklearn", "tensorboard"),
    *("torchvision", "transformers"),
)


class _Absent(MetaPathFinder):
    """Finds none of some packages, as if they were not installed; other threads, such as the page's, find them."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages, self.thread = packages, threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self.packages and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


@contextmanager
def _without(packages: Collection[str]) -> Iterator[None]:
    """Import in this thread as if packages were not installed."""
    finder = _Absent(packages)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def import_minimal_monai(without: Collection[str] = OPTIONAL) -> None:
    """Import MONAI as it is where only torch and numpy are installed, which is what its authors test, too.

    What of MONAI needs one of the packages cannot be used in this process; the packages themselves can be imported
    afterwards. Only for a process of our own. If MONAI is imported already, or cannot be imported without the packages,
    nothing is changed.

    Args:
        without: names of packages.
    """
    import torch  # noqa: F401 - not without the packages

    if "monai" in sys.modules:
        return
    try:
        with _without(without):
            import_module("monai.bundle")
    except ImportError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
            del sys.modules[name]
