"""The command `web`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .outcome import Outcome

__all__ = ["web"]


def web(options: argparse.Namespace) -> Outcome:
    """Write the app that runs in a browser alone."""
    from ..predictor import Predictor
    from ..web.site import write_site

    output = Path(options.output)
    archives = Path(options.packages) if options.packages else None
    sizes = write_site(Predictor(options.model, device="cpu"), output, archives)
    parts = "\n".join(f"{size:8.1f} MB  {name}" for name, size in sizes.items())
    total = round(sum(sizes.values()), 1)
    text = f"{parts}\n{total:8.1f} MB  in all\nTry it: python -m http.server --directory {output}"
    return Outcome({"site": output, "megabytes": total}, text)
