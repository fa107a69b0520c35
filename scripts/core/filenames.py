"""Case and kind (sequence or mask) from a file's name, by a table of words.

The words are those of BraTS of every year, BIDS, UCSF-PDGM, UCSF-ALPTDG, UPENN-GBM, MU-Glioma-Post, LUMIERE, EGD and
nnU-Net's channel names; DICOM's SeriesDescription is written in the same words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "ABSENT",
    "IMAGE_FOLDER",
    "MASK",
    "OTHER",
    "PREDICTED",
    "SEQUENCES",
    "VOLUME_FOLDER",
    "FileName",
    "first_file",
    "parse_name",
    "sequence_in_text",
    "stem",
]

SEQUENCES = {"flair": "FLAIR", "t1": "T1", "t1ce": "T1 after contrast", "t2": "T2"}  # name: title
MASK, OTHER = "seg", "other"  # a tumor mask; another sequence, a map, a brain mask
ABSENT = os.devnull  # an empty file in the place of a sequence that a case does not have
# Files of a prediction; their ends in place of .json
PREDICTED = re.compile(r"_(?:mask|probability|overlay)\.(?:nii\.gz|png)$|_seg\.dcm$|\.json$")
VOLUME_FOLDER = "volumes with masks, such as CASE_flair.nii.gz and CASE_seg.nii.gz (docs/reference/data.md)"
IMAGE_FOLDER = "images in folders called yes and no"

SUFFIXES = (
    *(".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm"),
    *(".png", ".jpg", ".jpeg", ".tiff", ".tif", ".bmp", ".webp"),
)

# Written without separators and in small letters: "T1_Gd" and "t1gd" are one word.
WORDS = {
    "flair": "flair t2f t2flair flairt2 tirm darkfluid dafl t2spcdafl spcir t2spcir t2tirm flairw",
    "t1": "t1 t1n t1w t1pre pret1 t1precontrast t1native mprage t1mprage bravo t1space t1fspgr unit1",
    "t1ce": "t1ce t1c t1gd t1gad t1post postt1 t1postcontrast t1contrast t1ca t1km t1wce t1cew cet1 cet1w ct1 gdt1 "
    "t1wgd t1mpragegd t1mpragepost t1bravopost t1wpost t1enhanced",
    "t2": "t2 t2w t2tse t2fse t2space t2spc",
    MASK: "seg segm segmentation segmentations mask masks label labels labelmap dseg tumormask tumorseg "
    "tumorsegmentation tumourmask tumourseg tumoursegmentation lesionmask lesionseg lesionsegmentation roi gt "
    "groundtruth gtv ot wholetumor wholetumour tumorroi annotation msk labelstr labelsts "
    "glistrboost glistrboostmanuallycorrected",
    OTHER: "adc dwi dti trace fa dtifa eddyfa dtieddyfa eddymd dtieddymd dtimd eddyl1 dtieddyl1 eddyl2 dtieddyl2 "
    "eddyl3 dtieddyl3 dtieddynoreg eddynoreg hardi swi swan t2s t2star t2starw gre asl cbf cbv rcbv perfusion dsc dce "
    "bold pd pdw tof mra pet ct cta localizer localiser scout survey t1map t2map stir noddi "
    "pwi 4dpwi perf rcbf relcbf relcbv mtt ttp tmax ktrans eadc apparentdiffusion b0 b1000 qsm r2star mip minip pha "
    "phase phasediff magnitude1 magnitude2 fieldmap sbref mp2rage mtr cest aptw suv fdg subtraction t2synth "
    "brainmask brainseg brainsegm brainsegmentation brainparenchymasegmentation parenchymasegmentation "
    "headmask skullmask ventricles ventriclesseg",
}
KIND_OF = {word: kind for kind, words in WORDS.items() for word in words.split()}
# Words of further versions of a scan; the file with the fewest of them is read.
COPIES = """brain bet stripped unstripped skullstripped bias biascorrected n3 n4 n4itk reg registered coreg coregistered
norm normalized normalized zscore resampled iso 1mm sri sri24 mni mni152 final automated approx auto native orig
origspace preprocessed corrected manual denoised tra ax axial transverse sag sagittal cor coronal mr mri"""
VARIANTS = frozenset(COPIES.split())
AUTOMATIC = {"glistrboost"}  # a program's mask: read where no other is
LONGEST = 4  # tokens of a word
TELLING = 3  # letters: a shorter word of another sequence tells it at the end of a name only
TOKEN = re.compile(r"[^\W_]+")
ONTO = {"to", "in", "on", "onto"}  # T1_to_FLAIR is a T1
BIDS = re.compile(r"^(?P<case>sub-[A-Za-z0-9]+(?:_ses-[A-Za-z0-9]+)?)(?P<rest>(?:_[A-Za-z0-9]+(?:-[A-Za-z0-9+]+)?)*)$")
FIRST_RUN = re.compile(r"run-0*1")
UNTELLING = re.compile(r"^VSD\.", re.IGNORECASE)  # BraTS 2013 to 2015: another number in each file of a case


@dataclass(frozen=True)
class FileName:
    """Parts of a file's name.

    Args:
        case: name of the case; "" if the name has only the sequence, such as `FLAIR.nii.gz`.
        kind: a key of `SEQUENCES`, `MASK`, `OTHER`, or None if unknown.
        word: the words of the kind, as written.
        variants: words such as "bias" of a further version of a scan.
    """

    case: str
    kind: str | None = None
    word: str = ""
    variants: tuple[str, ...] = ()


def parse_name(name: str) -> FileName:
    """Parse a file's name.

    >>> parse_name("BraTS-GLI-00005-100-t2f.nii.gz")
    FileName(case='BraTS-GLI-00005-100', kind='flair', word='t2f', variants=())
    >>> parse_name("UCSF-PDGM-0004_FLAIR_bias.nii.gz")
    FileName(case='UCSF-PDGM-0004', kind='flair', word='FLAIR', variants=('bias',))
    """
    name = stem(name).name
    if match := BIDS.match(name):
        return _bids(match["case"], match["rest"].split("_")[1:])
    found = _at_the_end(name) or _anywhere(name)
    if found and UNTELLING.match(name):
        return FileName("", found.kind, found.word, found.variants)
    return found or FileName(name)


def sequence_in_text(text: str) -> str | None:
    """Sequence that a text such as DICOM's SeriesDescription names: a key of `SEQUENCES`, `OTHER`, or None.

    >>> [sequence_in_text(t) for t in ("Ax T2 FLAIR", "t2_tirm_tra_dark-fluid", "AX T1 +C", "AX T1 FLAIR", "HEAD")]
    ['flair', 'flair', 't1ce', 't1', None]
    """
    text = re.sub(r"\+\s*(c|gd|gad|km)\b", " contrast", text.lower()).replace("t2*", "t2star")
    tokens = TOKEN.findall(text)
    kinds = {kind for start in range(len(tokens)) for kind, _ in _words_from(tokens, start)}
    contrast = {"contrast", "post", "gd", "gad", "gado", "gadolinium", "km", "ce", "postcontrast"} & set(tokens)
    if kinds & {"t1", "t1ce"} and "t1ce" not in kinds:  # a T1 FLAIR is a T1
        return "t1ce" if contrast and "pre" not in tokens else "t1"
    return next((kind for kind in (OTHER, "flair", "t1ce", "t2") if kind in kinds), None)


def first_file(files: str | Path | Sequence[str | Path]) -> str:
    """The file of a scan, or the first that is there of a case with a file for each sequence.

    >>> first_file(["/dev/null", "P1_t1.nii.gz", "P1_t2.nii.gz"]), first_file("P1_t1.nii.gz")
    ('P1_t1.nii.gz', 'P1_t1.nii.gz')
    """
    several = [files] if isinstance(files, (str, Path)) else list(files)
    return str(next((file for file in several if str(file) != ABSENT), several[0]))


def stem(path: str | Path) -> Path:
    """A path without the suffix of an image.

    >>> [str(stem(p)) for p in ("a/scan.nii.gz", "Y1.JPG", "none")]
    ['a/scan', 'Y1', 'none']
    """
    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s) and path.name.lower() != s), "")
    return path.with_name(path.name[: len(path.name) - len(suffix)])


def _bids(case: str, parts: Sequence[str]) -> FileName:
    """Entities (`acq-3d`) and suffixes (`FLAIR`, `seg`) after subject and session."""
    entities = [part for part in parts if "-" in part and not FIRST_RUN.fullmatch(part)]
    words = [part for part in parts if "-" not in part]
    kinds = {KIND_OF.get(word.lower()): word for word in words}
    labeled = {part.partition("-")[2].lower() for part in entities if part.startswith(("desc-", "label-"))}
    kind = next((k for k in (MASK, OTHER, *SEQUENCES) if k in kinds), None)
    if kind == MASK and "brain" in labeled:
        kind = OTHER
    enhanced = [part for part in entities if part.startswith("ce-")]
    if kind == "t1" and enhanced:
        kind = "t1ce"
    variants = tuple(part for part in entities if (part not in enhanced and kind != MASK) or part.startswith("space-"))
    return FileName(case, kind, "_".join(words), variants) if kind else FileName("_".join([case, *parts]))


def _at_the_end(name: str) -> FileName | None:
    """Known words at the end of a name: at most one sequence, any mask and variant beside it."""
    tokens = _without_target(list(TOKEN.finditer(name)))
    texts = [token[0].lower() for token in tokens]
    kinds: list[str] = []
    variants: list[str] = []
    told: list[tuple[int, int]] = []
    end = len(texts)
    while end:
        size = next((n for n in range(min(LONGEST, end), 0, -1) if "".join(texts[end - n : end]) in KIND_OF), 0)
        kind = KIND_OF["".join(texts[end - size : end])] if size else None
        if kind is None and texts[end - 1] in VARIANTS:
            variants, size = [texts[end - 1], *variants], 1
        elif kind is None or (kind != MASK and any(other != MASK for other in kinds)):
            break  # a second sequence belongs to the case's name
        else:
            kinds, told = [kind, *kinds], [(tokens[end - size].start(), tokens[end - 1].end()), *told]
            variants = [word for word in texts[end - size : end] if size == 1 and word in AUTOMATIC] + variants
        end -= size
    if not kinds:
        return None
    kind = MASK if MASK in kinds and OTHER not in kinds else kinds[-1]
    case = name[: tokens[end].start()].rstrip("_-. ")
    return FileName(case, kind, name[told[0][0] : told[-1][1]], tuple(variants))


def _anywhere(name: str) -> FileName | None:
    """A mask, or a sequence, at another place of a name; FLAIR comes before T2, and any sequence before a map."""
    tokens = _without_target(list(TOKEN.finditer(name)))
    texts = [token[0].lower() for token in tokens]
    found = [(start, kind, size) for start in range(len(texts)) for kind, size in _words_from(texts, start)]
    kinds = [kind for _, kind, _ in found]
    for start, kind, size in sorted(found, key=lambda one: (one[1] == OTHER, one[1] == "t2" and "flair" in kinds)):
        word = name[tokens[start].start() : tokens[start + size - 1].end()]
        if kind == MASK and start and not UNTELLING.match(name):
            continue
        if kind != OTHER or len(word) >= TELLING:
            parts = (name[: tokens[start].start()], name[tokens[start + size - 1].end() :])
            return FileName("_".join(part for one in parts if (part := one.strip("_-. "))), kind, word)
    return None


def _words_from(texts: Sequence[str], start: int) -> list[tuple[str, int]]:
    """The longest word that begins at a token, with its number of tokens, if there is one."""
    sizes = range(min(LONGEST, len(texts) - start), 0, -1)
    found = [(KIND_OF[word], n) for n in sizes if (word := "".join(texts[start : start + n])) in KIND_OF]
    return found[:1]


def _without_target(tokens: list[re.Match[str]]) -> list[re.Match[str]]:
    """Drop what a scan was registered to: of `T1_to_FLAIR` the T1 is left."""
    for index, token in enumerate(tokens[1:], 1):
        if token[0].lower() in ONTO and KIND_OF.get(tokens[index - 1][0].lower()) in SEQUENCES:
            return tokens[:index]
    return tokens
