"""Patients from the names of data sets' cases, by a table of rules.

All scans of a patient are on one side of a split, and weights trained on one visit were trained on the patient.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["canonical_group", "group_of", "like_visits", "patient_of", "read_groups"]


@dataclass(frozen=True)
class PatientRule:
    """How one data set names patients and visits.

    Args:
        of: the data set, in words.
        pattern: matches a case's whole name; its groups make the patient's.
        patient: the patient's name, a format of the groups.
        everywhere: the name means the same patient in every source.
    """

    of: str
    pattern: str
    patient: str = "{0}"
    everywhere: bool = False


RULES = (
    PatientRule(
        "TCGA (LGG, GBM, kaggle_3m)",
        r"(?:.*[^A-Z0-9])?TCGA[-_. ]?([A-Z0-9]{2})[-_. ]?([A-Z0-9]{4})(?:[-_. ].*)?",
        "TCGA-{0}-{1}",
        True,
    ),
    PatientRule("BraTS 2023 to 2025", r"(BraTS-(?:[A-Z]+-)+\d+)-\d{1,3}", everywhere=True),
    PatientRule("BraTS 2013", r"(brats.*2013.*?)_\d"),
    PatientRule("BraTS 2017 and 2018", r"(brats1\d_.*)_\d"),
    PatientRule("UPENN-GBM", r"(UPENN-GBM-\d+)_\d{2}", everywhere=True),
    PatientRule("UCSF-PDGM", r"(UCSF-PDGM-\d+)(?:_FU\d+d?)?(?:_nifti)?", everywhere=True),
    PatientRule("BIDS", r"(sub-[A-Za-z0-9]+)(?:_.*)?"),
    PatientRule("MU-Glioma-Post", r"(PatientID_\d+)[-_]Timepoint_?\d+"),
    PatientRule("LUMIERE", r"(Patient-\d+)[-_ /]week-\d+(?:-\d+)?"),
    PatientRule(
        "UCSF-ALPTDG, and others of the kind",
        r"(.*\d.*?)[-_](?:time|tp|timepoint|visit|ses|session|scan|week|day|month)[-_]?\d+",
    ),
    PatientRule(
        "visits in words",
        r"(.*\d.*?)[-_](?:pre|intra|post|preop|intraop|postop|baseline|followup|follow-up|fu)[-_]?\d{0,3}d?",
    ),
)
COMPILED = [(rule, re.compile(rule.pattern, re.IGNORECASE)) for rule in RULES]
# The end of a name that may count visits: P01_2, P01_a, P01B, P01_m12, P01_6mo, CASE_20190312
LIKE_A_VISIT = re.compile(
    r"(?P<patient>.*\d.*?)(?:[-_. ](?:\d{1,2}|[a-c]|(?:[vtmwy]|wk|mo)\d+|\d+(?:[dmwy]|wk|mo))|(?<=\d)[a-c])"
    r"|(?P<dated>.+?)[-_. ](?:19|20)\d{2}[-.]?\d{2}[-.]?\d{2}",
    re.IGNORECASE,
)


def patient_of(case: str) -> str:
    """Patient of a case by its name: the name itself where no rule of `RULES` fits.

    >>> [patient_of(n) for n in ("BraTS-GLI-00002-001", "sub-01_ses-pre", "TCGA_DU_7294_19890104", "PHANTOM_001")]
    ['BraTS-GLI-00002', 'sub-01', 'TCGA-DU-7294', 'PHANTOM_001']
    """
    return _by_rule(case)[0]


def group_of(source: str, case: str) -> str:
    """The unit of the split: "source/patient", or the patient where names are the same in all sources.

    >>> group_of("brats", "TCGA-DU-7294"), group_of("lgg", "TCGA_DU_7294_19890104"), group_of("lgg", "A_flair")
    ('TCGA-DU-7294', 'TCGA-DU-7294', 'lgg/A_flair')
    """
    patient, everywhere = _by_rule(case)
    return patient if everywhere else f"{source}/{patient}"


def canonical_group(group: str) -> str:
    """A group as `group_of` writes it, from one that an earlier version wrote.

    >>> canonical_group("brats/TCGA-DU-7294"), canonical_group("cluster/81c0"), canonical_group("brats/PHANTOM_001")
    ('TCGA-DU-7294', 'cluster/81c0', 'brats/PHANTOM_001')
    """
    source, separator, case = group.partition("/")
    if source == "cluster":
        return group
    return group_of(source, case) if separator else patient_of(group)


def _by_rule(case: str) -> tuple[str, bool]:
    """Patient, and whether the name is the same in all sources."""
    for rule, pattern in COMPILED:
        if match := pattern.fullmatch(case):
            return _one_case_of_letters(rule.patient.format(*match.groups()), rule), rule.everywhere
    return case, False


def _one_case_of_letters(patient: str, rule: PatientRule) -> str:
    return patient.upper() if rule.patient != "{0}" else patient


def like_visits(cases: Iterable[str]) -> dict[str, list[str]]:
    """Names that differ only in what may be the number, date or letter of a visit, and match no rule.

    >>> like_visits(["P07_1", "P07_2", "P08_1", "scan_1"])
    {'P07': ['P07_1', 'P07_2']}
    """
    found: dict[str, list[str]] = defaultdict(list)
    for case in sorted(set(cases)):
        if patient_of(case) == case and (match := LIKE_A_VISIT.fullmatch(case)):
            found[match["patient"] or match["dated"]].append(case)
    return {patient: names for patient, names in found.items() if len(names) > 1}


def read_groups(file: str | Path) -> dict[str, str]:
    """Patients from a table: a CSV file with the columns `case` and `patient`.

    Returns:
        Patient by the case's name.

    Raises:
        ValueError: when the file cannot be read, a column is missing, or a case has two patients.
    """
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            rows, names = list(reader), {str(name).strip().lower(): name for name in reader.fieldnames or ()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: cannot be read as CSV ({type(error).__name__})") from None
    if missing := {"case", "patient"} - names.keys():
        raise ValueError(f"{file}: has no column '{sorted(missing)[0]}'; the first line must be: case,patient")
    groups: dict[str, str] = {}
    for row in rows:
        case, patient = (str(row[names[name]] or "").strip() for name in ("case", "patient"))
        if (case and groups.setdefault(case, patient) != patient) or (case and not patient):
            raise ValueError(f"{file}: {case} has no patient, or two")
    return groups
