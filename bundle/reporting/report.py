"""The evaluation report: Markdown and HTML, generated from committed JSON."""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..core import files
from ..errors import UserError
from ..pictures.views import area_range
from .comparisons import clear_differences, scored_sources
from .estimates import mean
from .results import load
from .robustness import worst_of
from .targets import attempted, evaluated

__all__ = ["write_report"]

PAGE = "MULTITASK_EVALUATION_REPORT"


def write_report(results: Path, docs: Path, pictures: Sequence[Path] = ()) -> Path:
    """Write the report as Markdown and HTML, and its charts.

    Args:
        results: folder of JSON files, see `collect`.
        docs: folder for MULTITASK_EVALUATION_REPORT.md and .html, and images/.
        pictures: further images for the HTML version only, such as scans, which do not belong into the repository.

    Returns:
        Path of the Markdown report.

    Raises:
        UserError: when there are no results, or no such image.
    """
    import jinja2

    from .charts import draw_charts

    for path in pictures:
        if not path.is_file():
            raise UserError(f"{path}: no such image")
    facts = load(results)
    facts["targets"] = evaluated(facts)
    facts["attempted"] = attempted(facts, facts["targets"])
    files.write_json(results / "targets.json", facts["targets"])
    gallery = {path.stem: path for path in sorted((docs / "images").glob("phantoms_*.png"))}
    charts = {**draw_charts(facts, docs / "images"), **gallery}

    def picture(name: str, caption: str) -> str:
        return f"![{caption}](images/{charts[name].name})" if name in charts else ""

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the page is Markdown, and every value is our own number or name
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "mean": mean,
        "area_range": area_range,
        "states": states,
        "estimate": estimate,
    }
    own: dict[str, object] = {"worst_of": worst_of, "version": __version__, "picture": picture, "gallery": gallery}
    own |= {"scored_sources": scored_sources, "clear_differences": clear_differences, "counted": counted}
    page = tidied(environment.get_template("report.md.j2").render(**facts, **own))
    docs.mkdir(parents=True, exist_ok=True)
    (docs / f"{PAGE}.md").write_text(page)
    (docs / f"{PAGE}.html").write_text(as_html(page, docs, pictures))
    return docs / f"{PAGE}.md"


def inlined(picture: Path) -> str:
    """An image as a data URL."""
    kind = mimetypes.guess_type(picture.name)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(picture.read_bytes()).decode()}"


def tidied(page: str) -> str:
    """A page without trailing blanks and repeated empty lines."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +$", "", page, flags=re.MULTILINE))


def number(value: float | int | None) -> str:
    """A number with three decimals, a dash for None."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else digits(value)


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "fold"), counted(3, "fold")
    ('1 fold', '3 folds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def states(counts: Mapping[str, int]) -> str:
    """How many volumes have each state.

    >>> states({"tumor": 3, "no_tumor": 1})
    '3 tumor, 1 no_tumor'
    """
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "-"


def digits(value: float) -> str:
    """A number with three decimals, without a minus before zero."""
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(bounds: Sequence[float] | None) -> str:
    """An interval as text."""
    return "(no interval)" if not bounds else f"({digits(bounds[0])} to {digits(bounds[1])})"


def estimate(found: Mapping[str, Any]) -> str:
    """A value with its interval.

    >>> estimate({"value": 0.5, "ci95": [0.25, 0.75]})
    '0.500 (0.250 to 0.750)'
    """
    return f"{number(found['value'])} {interval(found['ci95'])}" if found["value"] is not None else "-"


def as_html(page: str, docs: Path, pictures: Sequence[Path]) -> str:
    """The page as one HTML file with embedded images, and further ones."""
    import markdown

    body = markdown.markdown(page, extensions=["tables", "fenced_code"])
    for source in {part.split('"')[0] for part in body.split('src="')[1:]}:
        body = body.replace(f'src="{source}"', f'src="{inlined(docs / source)}"')
    for path in pictures:
        caption = html.escape(path.stem.replace("_", " "))
        body += f'\n<h2>{caption}</h2>\n<p><img alt="{caption}" src="{inlined(path)}"></p>'
    style = (Path(__file__).parent / "report.css").read_text()
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Evaluation</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{style}</style></head>\n<body>{body}</body></html>\n'
