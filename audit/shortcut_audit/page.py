"""The verdict as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .checks import QUESTIONS

__all__ = ["numbers", "page"]

CAVEAT = (
    "A pass means that this question found nothing. It does not mean that the classifier is right for patients, and an "
    "alarm does not tell how much of its score is the shortcut."
)


def page(report: Mapping[str, Any], name: str) -> str:
    """The report of `checks.audit` on one page."""
    alarms = report["summary"]
    verdict = f"**Shortcut suspected: {', '.join(alarms)}.**" if alarms else "**No shortcut found by these questions.**"
    cells = [
        [key, words, str(report[key]["n"]), report[key]["verdict"], "; ".join(numbers(report[key]))]
        for key, words in QUESTIONS.items()
    ]
    rows = [f"| {' | '.join(row)} |" for row in cells]
    head = ["| | question | n | verdict | AUC or share (95 % interval) |", "|---|---|---|---|---|"]
    return "\n".join([f"# Shortcut audit: {name}", "", verdict, "", *head, *rows, "", CAVEAT, ""])


def numbers(part: Mapping[str, Any]) -> Iterator[str]:
    """The numbers of a question in words."""
    values = part["values"]
    if "reason" in values:
        yield values["reason"]
    elif "share" in values:
        yield f"share {values['share']:.3f}"
    else:
        yield from _nested(values.get("sources", values.get("classes", values)), "")


def _nested(values: Mapping[str, Any], place: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping) and "value" in value:
            if value["value"] is not None:
                low_high = value.get("ci95")
                interval = f" ({low_high[0]:.2f} to {low_high[1]:.2f})" if low_high else ""
                yield f"{place}{name} {value['value']:.2f}{interval}"
        elif isinstance(value, Mapping):
            yield from _nested(value, f"{place}{name}, ")
