"""Addresses such as `s3://BUCKET/SCANS` in a command: copied here before it, the results copied back after it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core import files
from ..remote_folder import RemoteFolder
from .outcome import Outcome

__all__ = ["LocalCopies"]

INPUTS = ("paths", "folders", "volumes", "images")  # options that name folders of scans
ADDRESS = re.compile(r"(?:(?P<name>[^=:/]+)=)?(?P<address>[A-Za-z][\w+.-]*://.+)")
NAMING = ("index.json", "lesions.csv")  # of predictions; they name the scans


class LocalCopies:
    """The copies of a command's addresses. They stay, so a repeated command copies what has changed, and can resume.

    Args:
        options: of the command; addresses in it become paths of their copies.

    Raises:
        UserError: when an address cannot be read or, for the output, not be written to.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.of: dict[str, Path] = {}  # address -> its copy
        self.output: RemoteFolder | None = None
        for option in INPUTS:
            if isinstance(given := getattr(options, option, None), list):
                setattr(options, option, [self._fetched(entry) for entry in given])
        output = str(getattr(options, "output", None) or "")
        if ADDRESS.fullmatch(output):
            self.output = RemoteFolder(output)
            self.output.fetch_results()
            self.of[output.rstrip("/")] = self.output.copy
            self._rename_scans(self._as_paths)
            options.output = str(self.output.copy)

    def _fetched(self, entry: str) -> str:
        """An entry [NAME=]ADDRESS with the path of its copy; any other entry as it is."""
        found = ADDRESS.fullmatch(str(entry))
        if found is None or Path(entry).exists():
            return entry
        folder = RemoteFolder(found["address"])
        folder.fetch()
        self.of[found["address"].rstrip("/")] = folder.copy
        return f"{found['name']}={folder.copy}" if found["name"] else str(folder.copy)

    @contextmanager
    def returned(self) -> Iterator[None]:
        """Copy the results to the address of the output when the work ends, also with an error."""
        try:
            yield
        finally:
            if self.output is not None:
                self._rename_scans(self._as_addresses)
                self.output.send()

    def named(self, outcome: Outcome) -> Outcome:
        """An outcome with the addresses in place of the copies."""
        if not self.of:
            return outcome
        content = json.loads(self._as_addresses(json.dumps(outcome.content, default=str)))
        text = outcome.text if outcome.text is None else self._as_addresses(outcome.text)
        return Outcome(content, text, outcome.code)

    def _as_addresses(self, text: str) -> str:
        for address, copy in self.of.items():
            text = text.replace(str(copy), address)
        return text

    def _as_paths(self, text: str) -> str:
        for address, copy in self.of.items():
            text = text.replace(address, str(copy))
        return text

    def _rename_scans(self, change: Callable[[str], str]) -> None:
        for file in () if self.output is None else map(self.output.copy.joinpath, NAMING):
            if not file.is_file():
                continue
            before = file.read_text()
            if (after := change(before)) != before:
                files.write_bytes(file, after.encode())
