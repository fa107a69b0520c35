"""Errors of the command line's usage, in one line with the remedy."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

__all__ = ["Parser", "remedy_of"]

EXTRAS = {  # what to install for a package that is missing
    "app": ("fastapi", "fastapi_offline", "prometheus_client", "python_multipart", "starlette", "streamlit", "uvicorn"),
    "dicom": ("contourpy", "highdicom", "pydicom"),
    "exchange": ("dicomweb_client", "fhir", "requests"),
    "export": ("onnx", "onnxruntime", "onnxscript", "openvino"),
    "kaggle": ("kagglehub",),
    "mlflow": ("mlflow",),
    "pack": ("cyclonedx", "packageurl"),
    "risk": ("mapie",),
    "robustness": ("torchio",),
    "sign": ("OpenSSL", "cryptography", "model_signing"),
    "strip": ("deepbet",),
}

WRONG_COMMAND = re.compile(r"argument COMMAND: invalid choice: '(?P<name>.*)' \(choose from (?P<names>.*)\)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """A parser of options whose errors are one line."""

    given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, and remember the arguments for the errors."""
        self.given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the message, with the nearest command or option if one is misspelled; end with exit code 2."""
        if wrong := WRONG_COMMAND.match(message):
            near = get_close_matches(wrong["name"], re.findall(r"[\w-]+", wrong["names"]), 1)
            remedy = f"did you mean {near[0]}?" if near else f"{self.prog} --help lists the commands"
            self.exit(2, f"error: {wrong['name']}: no such command, {remedy}\n")
        words = [word.partition("=")[0] for word in self.given if word.startswith("--")]
        unknown = [word for word in words if not any(option.startswith(word) for option in self.options())]
        if unknown and "are required" in message:
            self.refuse(unknown)
        self.exit(2, f"error: {message}; {self.prog} --help lists the options\n")

    def options(self) -> list[str]:
        """Names of the options, as `--name`."""
        return re.findall(r"--[\w-]+", self.format_usage())

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Refuse arguments that the parser does not know; name the nearest option."""
        first = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        near = get_close_matches(first, self.options(), 1)
        if near:
            self.exit(2, f"error: {first}: no such option of {self.prog}, did you mean {near[0]}?\n")
        self.error(f"{first}: no such option")


def remedy_of(package: str) -> str:
    """How to install a package that is missing, by the extra that has it.

    >>> remedy_of("uvicorn")
    "; pip install -e '.[app]'"
    """
    extras = [extra for extra, packages in EXTRAS.items() if package in packages]
    return f"; pip install -e '.[{extras[0]}]'" if extras else ""
