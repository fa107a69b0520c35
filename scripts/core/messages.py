"""Messages of a prediction: states, flags and notes, each with a stable code for programs and a text for people."""

from __future__ import annotations

from typing import NamedTuple, NotRequired

from typing_extensions import TypedDict

__all__ = [
    "BOUND_ABSENT",
    "FLAGS",
    "NOTICE",
    "REMEDIES",
    "REPORTS",
    "STATES",
    "Message",
    "NoTumorBound",
    "State",
    "bound_absent",
    "flag",
    "report_note",
    "with_remedy",
]

NOTICE = "Research use only. Not a medical device."


class Message(TypedDict):
    """A code that is the same in every version, and a text that may change."""

    code: str
    text: str


class NoTumorBound(TypedDict):
    """What bounds the misses behind "no tumor", or why nothing does."""

    population: str | None  # that the user named
    miss_rate: NotRequired[float]  # largest share of its tumors that get this bound
    confidence: NotRequired[float]
    n: NotRequired[int]  # tumors that it was fitted on
    threshold: NotRequired[float]  # below which it holds
    absent: NotRequired[Message]  # why there is none
    needed: NotRequired[int]  # tumors or scans, if these are too few
    p_value: NotRequired[float]  # of the two-sample test, if the folder differs


class State(NamedTuple):
    """Title and explanation of a state."""

    title: str
    text: str


STATES = {
    "no_tumor": State("No tumor detected", "The network detects no tumor pattern. A tumor can still be present."),
    "uncertain": State(
        "Uncertain: review", "The probability is between the thresholds. An expert has to read the image."
    ),
    "tumor": State("Tumor pattern", "The network detects a tumor pattern. This is not a diagnosis."),
    "no_prediction": State(
        "No prediction",
        "Too little brain is shown, another sequence than the weights read, or weights that do not classify.",
    ),
}

# Warnings about a prediction, by code.
FLAGS = {
    "spacing_implausible": "the file's pixel spacing is implausible for a head and was not used",
    "spacing_estimated": "the files have no spacing: scale, areas and volumes are estimated from the size of a head",
    "orientation_unknown": "the file has no orientation: left and right, superior and inferior are a guess",
    "position_missing": "the slices have no positions: ordered by SliceLocation, top and bottom are a guess",
    "series_chosen": "the folder holds several series, echoes or orientations: one was chosen, see `series`",
    "sagittal_slice": "a single sagittal slice: masks were learned on axial slices",
    "coronal_slice": "a single coronal slice: masks were learned on axial slices",
    "thickness_implausible": "the file's distance between slices is implausible for a head: no volume is given",
    "background_missing": "there is no dark background around the head: the intensities may be misread",
    "image_inverted": "the background is white: bright and dark may be exchanged, then the prediction means nothing",
    "image_colored": "the image has colors: it may be a photograph, a drawing or a screenshot, not a scan",
    "too_little_brain": "the image shows too little brain for a prediction",
    "tumor_without_mask": "the two outputs disagree: a tumor is probable, but the mask is empty",
    "mask_without_tumor": "the two outputs disagree: the mask is not empty, but a tumor is improbable",
    "mask_too_large": "the mask covers more than half of the head: implausible for a tumor, or the image shows no head",
    "mask_at_head_edge": "most of the mask lies along the edge of the head: it may be scalp or skull",
    "mask_cut_off": "the mask reaches the edge of the scan: the tumor may continue beyond it, and be larger",
    "out_of_distribution": "the scan differs from the training data: it may show no head, or be another kind of image",
    "ood_score_missing": "no out-of-distribution score was computed: the scan may differ from the training data",
    "other_sequence": "its name or header says another sequence than these weights read",
    "other_sequence_by_look": "the scan looks like another sequence than these weights read, or like no head",
    "sequence_contradicted": "the scan looks like another sequence than its name or header says",
    "sequence_doubtful": "no name or header tells the sequence, and the scan may be of another than these weights read",
    "sequence_unchecked": "what the scan looks like was not checked: it may be of another sequence, or show no head",
    "sequences_missing": "some sequences are missing; these weights were trained with sequences left out",
    "sequences_missing_untrained": "some sequences are missing, and these weights were trained on all of them only",
    "sequence_unknown": "which of these weights' sequences this is, is not known: it is read as any of them",
    "sequence_unknown_untrained": "which sequence this is, is not known; the weights were not trained on such scans",
    "regions_withheld": "the whole tumor alone is given: for its regions these weights need all of their sequences",
    "report_of_other_weights": "the report beside the weights belongs to other weights: no scores are known for these",
    "mask_not_learned": "these weights were not trained on masks: they classify only, there is no mask",
    "class_not_learned": "these weights were trained on masks only: there is no tumor probability",
}

# Whether the report beside the weights belongs to them, by code.
REPORTS = {
    "matching": "the report matches these weights",
    "of_other_weights": "the report belongs to other weights, or these were changed",
    "missing": "there is no report for these weights",
}

# Why nothing bounds the misses behind "no tumor", by code.
BOUND_ABSENT = {
    "population_unknown": "nobody named the population of these scans",
    "other_kind": "the population has volumes and this is an image, or the other way around",
    "too_few_tumors": "the bound was fitted on too few tumors of this population",
    "no_threshold": "no threshold of this population keeps the bound",
    "too_few_scans": "too few scans to compare them with the population",
    "folder_differs": "the probabilities of these scans differ from those of the population",
    "out_of_distribution": "the scan differs from the training data",
    "above_threshold": "the probability is not below the threshold of the bound",
}

# What to do about a file that cannot be read, by the code of the fault.
REMEDIES = {
    "unsupported": "convert it to NIfTI, a picture to PNG",
    "too_large": "crop it, or make its pixels larger",
    "declared_size": "copy or download it again",
    "inflate": "save it without compression",
    "memory": "crop it, or make its pixels larger",
    "missing": "check its path",
    "truncated": "copy or download it again",
    "damaged": "copy or download it again, or export it anew",
    "header": "export it anew, or convert it with another program",
    "geometry": "export all slices of one series anew",
    "rank": "give a picture, or a volume of three axes",
    "nonfinite": "replace these values by 0",
    "time_limit": "crop it, or make its pixels larger",
    "worker_died": "try again",
}


def with_remedy(reason: str, code: str) -> str:
    """A reason why a file cannot be read, and what to do about it; a reason with a semicolon has its own remedy.

    >>> with_remedy("is cut short", "truncated")
    'is cut short; copy or download it again'
    """
    return reason if ";" in reason or code not in REMEDIES else f"{reason}; {REMEDIES[code]}"


def flag(code: str) -> Message:
    """A flag by its code.

    >>> flag("too_little_brain")["text"]
    'the image shows too little brain for a prediction'
    """
    return {"code": code, "text": FLAGS[code]}


def bound_absent(code: str) -> Message:
    """Why there is no bound, by its code."""
    return {"code": code, "text": BOUND_ABSENT[code]}


def report_note(code: str) -> Message:
    """A note about the report beside the weights, by its code."""
    return {"code": code, "text": REPORTS[code]}
