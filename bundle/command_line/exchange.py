"""The subcommands that hand predictions to other systems."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .outcome import Outcome


def send(options: argparse.Namespace) -> Outcome:
    """Send DICOM files to an archive; the token comes from the environment, as others can read a command line."""
    from ..exchange.send import send as store

    sent = store(Path(options.folder), options.to, os.environ.get("BUNDLE_DICOMWEB_TOKEN"), say=print)
    count = sum(map(len, sent.values()))
    return Outcome({"to": options.to, "sent": sent}, f"{count} files stored and read back unchanged: {options.to}")


def fhir(options: argparse.Namespace) -> Outcome:
    """Write FHIR reports."""
    from ..exchange.fhir import write_reports

    written = [str(path) for path in write_reports(Path(options.folder))]
    return Outcome({"reports": written}, f"{len(written)} reports in {options.folder}")
