"""States, flags and notes of a prediction: each has a stable code for programs and a text for people."""

from __future__ import annotations

from typing import NamedTuple

from typing_extensions import TypedDict

__all__ = ["FLAGS", "NOTICE", "REPORTS", "STATES", "Message", "State", "flag", "report_note"]

NOTICE = "Research use only. Not a medical device."


class Message(TypedDict):
    """A code that stays the same in every version, and its sentence, which may change."""

    code: str
    text: str


class State(NamedTuple):
    """How a state is shown: a title, and a sentence about what it means."""

    title: str
    text: str


STATES = {
    "no_tumor": State("No tumor detected", "The network sees no tumor pattern. That is no proof that there is none."),
    "uncertain": State("Uncertain: review", "The network is not sure. An expert reader has to look at the image."),
    "tumor": State("Tumor pattern", "The network sees what looks like a tumor. That is no diagnosis."),
    "no_prediction": State("No prediction", "The network sees no brain here, or too little of it."),
}

# What to know before believing a prediction, by code.
FLAGS = {
    "spacing_implausible": "the file's pixel spacing is implausible for a head and was not used",
    "spacing_estimated": "the files tell no spacing: scale, areas and volumes are estimates from the size of a head",
    "orientation_unknown": "the file tells no orientation: which side is left, and which slice uppermost, is a guess",
    "background_missing": "no dark background is seen around the head: the intensities may be misread",
    "image_colored": "the image has colors: it may be a photograph, a drawing or a screenshot, but hardly a scan",
    "too_little_brain": "too little brain is seen for a prediction",
    "tumor_without_mask": "the two outputs disagree: a tumor is probable, but the mask is empty",
    "mask_without_tumor": "the two outputs disagree: a region is segmented, but a tumor is improbable",
    "mask_too_large": "the mask covers more than half of the head: this is no plausible tumor, or no head",
    "mask_at_head_edge": "most of the mask lies along the edge of the head: it may be scalp or skull",
    "out_of_distribution": "the scan differs from the training data: it may be no head, or another kind of image",
    "ood_score_missing": "no out-of-distribution score was computed: the scan may differ from the training data",
    "report_of_other_weights": "the report beside the weights belongs to other weights: no scores are known for these",
}

# Whether the report beside the weights belongs to them, by code.
REPORTS = {
    "matching": "matches these weights",
    "of_other_weights": "of other weights, or these were changed",
    "missing": "no report for these weights",
}


def flag(code: str) -> Message:
    """A flag by its code.

    >>> flag("too_little_brain")["text"]
    'too little brain is seen for a prediction'
    """
    return {"code": code, "text": FLAGS[code]}


def report_note(code: str) -> Message:
    """Whether the report belongs to the weights, by its code."""
    return {"code": code, "text": REPORTS[code]}
