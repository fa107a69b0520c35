from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.core.files import sha256_of
from scripts.core.geometry import pixel_mm2, voxel_mm3
from scripts.dataset.slice_records import SliceRecords
from scripts.evaluation.score_cases import ScoreCases, provenance, scoring_list
from scripts.evaluation.segmentation_scores import segmentation_scores
from scripts.inference.decision import Calibration, Decision
from scripts.inference.postprocessing import SummarizePredictiond
from scripts.io.datalists import Case

UPRIGHT, UPSIDE_DOWN = (-1.0, -1.0, 1.0), (-1.0, -1.0, -1.0)
UNKNOWN = math.nan


class Scorer:
    """A `ScoreCases` that is fed by hand."""

    def __init__(self, folder: Path, decision: Decision | None = None, **facts: Any) -> None:
        self.folder, self.decision, self.facts = folder, decision or Decision(), facts
        self.scored: list[tuple[Case, MetaTensor, np.ndarray, np.ndarray]] = []

    def volume(
        self,
        name: str,
        reference: np.ndarray,
        predicted: np.ndarray,
        logits: Sequence[float],
        spacing: Sequence[float] = UPRIGHT,
        affine: np.ndarray | None = None,
        canvas: np.ndarray | None = None,
    ) -> None:
        """Add a volume; masks are on the file's axes, logits run from the lowest slice to the highest.

        The canvas has pixels of 1 mm2 and the slices' thickness, or those of its affine.
        """
        affine = np.diag([*spacing, 1.0]) if affine is None else affine
        label = self.folder / f"{name}_seg.nii.gz"
        nib.save(nib.Nifti1Image(reference.astype(np.uint8), affine), label)  # type: ignore[no-untyped-call]
        case = {"id": f"brats/{name}", "source": "brats", "group": f"brats/{name}", "kind": "volume"}
        mask = MetaTensor(predicted[None].astype(np.float32), meta={"original_affine": affine})
        if canvas is None:
            canvas = np.diag([1.0, 1.0, voxel_mm3(affine) / pixel_mm2(affine), 1.0])
        self.scored.append(({**case, "label": str(label)}, mask, np.array(logits), canvas))

    def image(self, name: str, cls: int, logit: float, source: str = "kaggle") -> None:
        case = {"id": f"{source}/{name}", "source": source, "group": f"cluster/{name}", "kind": "image", "cls": cls}
        mask = MetaTensor(np.zeros((1, 4, 4, 1), np.float32), meta={"original_affine": np.eye(4)})
        self.scored.append((case, mask, np.array([logit]), np.eye(4)))

    def picture_with_mask(self, name: str, logit: float) -> None:
        """Add a picture whose mask teaches, as one is written of a volume's T2."""
        self.volume(name, np.ones((4, 4, 1)), np.ones((4, 4, 1)), [logit])
        case, *rest = self.scored.pop()
        self.scored.append(({**case, "kind": "image", "cls": 1}, *rest))

    def run(self) -> dict[str, Any]:
        """What was written for later fits and tables."""
        cases = [case for case, *_ in self.scored]
        scores = ScoreCases(cases, self.decision, 50, self.folder / "output", self.facts)
        engine = Engine(lambda engine, batch: None)
        scores.start(engine)
        for scored in self.scored:
            scores.score(*scored)
        scores.finish(engine)
        content: dict[str, Any] = json.loads((self.folder / "output/predictions.json").read_text())
        return content

    def report(self) -> dict[str, Any]:
        """What was written to disk; no NaN is in it."""
        self.run()

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} in the report")

        text = (self.folder / "output/report.json").read_text()
        report: dict[str, Any] = json.loads(text, parse_constant=refuse)
        return report


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return Scorer(tmp_path)


def box(*pixels: int) -> np.ndarray:
    """Mask (20, 20, D) with this many pixels in each slice of the file."""
    mask = np.zeros((400, len(pixels)), bool)
    for index, count in enumerate(pixels):
        mask[:count, index] = True
    return mask.reshape(20, 20, len(pixels))


def slices_of(report: dict[str, Any]) -> dict[int, float]:
    """Class of each slice that was scored, by its place from the bottom."""
    return {entry["slice"]: entry["cls"] for entry in report["classification"]["brats"]["cases"]}


def test_dice_and_volume_are_taken_over_the_whole_volume_on_the_files_grid(scorer: Scorer) -> None:
    scorer.volume("A", box(0, 100, 60, 0), box(0, 100, 0, 40), [0.0] * 4, spacing=(-1.0, -2.0, 3.0))
    (patient,) = scorer.report()["segmentation"]["patients"]
    assert patient["dice"] == pytest.approx(200 / 300) and patient["iou"] == pytest.approx(100 / 200)
    assert patient["reference_ml"] == pytest.approx(160 * 6 / 1000)
    assert patient["predicted_ml"] == pytest.approx(140 * 6 / 1000)
    assert (patient["id"], patient["patient"]) == ("brats/A", "brats/A")


def test_boundary_tolerance_is_in_millimeters(scorer: Scorer) -> None:
    reference, shifted = np.zeros((2, 20, 20, 3), bool)
    reference[5:10, 5:10, 1], shifted[6:11, 5:10, 1] = True, True  # one pixel of 2 mm
    scorer.volume("A", reference, shifted, [0.0] * 3, spacing=(-2.0, -1.0, 1.0))
    (patient,) = scorer.report()["segmentation"]["patients"]
    assert patient["boundary_f_1mm"] < patient["boundary_f_2mm"] == 1.0


@pytest.mark.parametrize("spacing", [UPRIGHT, UPSIDE_DOWN])
def test_slice_probabilities_match_slices_in_any_orientation(scorer: Scorer, spacing: Sequence[float]) -> None:
    from_below = (0, 60, 0, 100, 70)  # the logits say the same
    pixels = from_below if spacing == UPRIGHT else from_below[::-1]
    scorer.volume("A", box(*pixels), box(*pixels), [-3.0, 3.0, -3.0, 3.0, 3.0], spacing=spacing)
    report = scorer.report()
    assert slices_of(report) == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0, 4: 1.0}
    scores = report["classification"]["brats"]
    assert (scores["roc_auc"], scores["sensitivity"], scores["specificity"]) == (1.0, 1.0, 1.0)


def test_slices_are_axial_in_any_orientation(scorer: Scorer) -> None:
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])  # second axis is upwards
    upright = box(0, 60, 100)
    coronal = upright.transpose(0, 2, 1)
    scorer.volume("A", coronal, coronal, [-3.0, 3.0, 3.0], affine=affine)
    assert slices_of(scorer.report()) == {0: 0.0, 1: 1.0, 2: 1.0}


def test_slices_between_the_classes_are_left_out_and_counted(scorer: Scorer) -> None:
    scorer.volume("A", box(0, 1, 49, 50, 0), box(0, 0, 0, 0, 0), [0.0, 0.0, 0.0, 0.0, UNKNOWN])
    report = scorer.report()
    assert slices_of(report) == {0: 0.0, 3: 1.0}
    assert report["classification"]["brats"]["n"] == 2 and report["classification"]["brats"]["left_out"] == 2


def test_a_tumor_slice_is_one_of_the_canvas_where_the_files_spacing_was_not_used(scorer: Scorer) -> None:
    """Pixels of 0.1 mm that were not believed: each became one of the canvas, as in training."""
    canvas = np.diag([0.1, 0.1, 1.0, 1.0])
    scorer.volume("A", box(0, 49, 50), box(0, 0, 0), [0.0] * 3, spacing=(-0.1, -0.1, 1.0), canvas=canvas)
    scorer.volume("B", box(0, 49, 50), box(0, 0, 0), [0.0] * 3, spacing=(-0.1, -0.1, 1.0))
    report = scorer.report()
    classes = {(row["case"], row["slice"]): row["cls"] for row in report["classification"]["brats"]["cases"]}
    assert classes == {("brats/A", 0): 0.0, ("brats/A", 2): 1.0, ("brats/B", 0): 0.0}


def test_oblique_slices_are_counted_as_in_training_and_measured_by_volume(scorer: Scorer) -> None:
    """Each pixel of two sides of 1 mm becomes one of the canvas, though it is smaller than 1 mm2."""
    affine = np.array([[-1.0, -0.6, 0, 0], [0, -0.8, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 1.0]])
    scorer.volume("A", box(0, 60, 49), box(0, 60, 0), [0.0] * 3, affine=affine, canvas=affine)
    report = scorer.report()
    assert slices_of(report) == {0: 0.0, 1: 1.0}
    assert report["segmentation"]["patients"][0]["predicted_ml"] == pytest.approx(60 * 0.8 * 2 / 1000)


def test_a_tumor_slice_without_a_prediction_is_counted(scorer: Scorer) -> None:
    """Too little brain for a prediction, but a tumor: no row that vanishes."""
    scorer.volume("A", box(0, 100, 60, 0), box(0, 100, 60, 0), [-1.0, 1.0, UNKNOWN, UNKNOWN])
    found = scorer.report()["classification"]["brats"]
    assert (found["n"], found["left_out"], found["unpredicted_tumor"]) == (2, 1, 1)


@pytest.mark.parametrize("pixels", [0, 1, 49, 50, 51, 400])
def test_training_and_evaluation_have_the_same_tumor_slices(scorer: Scorer, pixels: int) -> None:
    case = {"id": "a", "source": "s", "group": "g", "kind": "volume", "slices": [0], "tumor_pixels": [pixels]}
    (record,) = SliceRecords([{**case, "own_statistics": [[[0.0], [1.0]]], "sha256": {"image": "a"}}], 50)
    scorer.volume("A", box(pixels), box(0), [0.0])
    (prediction,) = scorer.run()["predictions"]
    np.testing.assert_equal(UNKNOWN if prediction["cls"] is None else prediction["cls"], record["cls"])


def test_rotated_affine_does_not_change_the_class_of_a_slice(scorer: Scorer) -> None:
    for degrees in range(1, 15):
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        affine = np.array([[-cos, sin, 0, 0], [-sin, -cos, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])
        scorer.volume(f"{degrees}", box(50), box(0), [0.0], affine=affine.astype(np.float32))
    assert {prediction["cls"] for prediction in scorer.run()["predictions"]} == {1.0}


def test_area_of_tumor_is_in_square_millimeters(scorer: Scorer) -> None:
    scorer.volume("A", box(24, 25, 0), box(0, 0, 0), [0.0] * 3, spacing=(-1.0, -2.0, 5.0))
    assert slices_of(scorer.report()) == {1: 1.0, 2: 0.0}


def test_masks_on_slices_without_tumor_are_false_positives(scorer: Scorer) -> None:
    scorer.volume("A", box(0, 0, 0, 90), box(30, 0, 0, 90), [0.0] * 4, spacing=(-1.0, -2.0, 1.0))
    scorer.volume("empty", box(0, 0), box(20, 0), [0.0] * 2)
    segmentation = scorer.report()["segmentation"]
    assert segmentation["empty_slices"] == {
        "n": 5,
        "false_positive_rate": 0.4,
        "mean_false_positive_mm2": pytest.approx((60 + 20) / 5),
    }


def test_a_volume_without_tumor_has_no_dice_and_is_not_in_the_mean(scorer: Scorer) -> None:
    scorer.volume("A", box(90, 0), box(90, 0), [3.0, -3.0])
    scorer.volume("empty", box(0, 0), box(70, 0), [-3.0, -3.0])
    segmentation = scorer.report()["segmentation"]
    dice = {patient["id"]: patient["dice"] for patient in segmentation["patients"]}
    assert dice == {"brats/A": 1.0, "brats/empty": None}
    assert segmentation["mean"]["dice"] == segmentation["mean"]["iou"] == 1.0


def test_mean_is_over_cases_not_over_voxels(scorer: Scorer) -> None:
    scorer.volume("large", box(400), box(400), [3.0])
    scorer.volume("small", box(50), box(0), [3.0])
    segmentation = scorer.report()["segmentation"]
    assert segmentation["mean"]["dice"] == 0.5 and segmentation["n"] == 2
    assert [patient["id"] for patient in segmentation["patients"]] == ["brats/small", "brats/large"]  # worst first


def test_sources_are_scored_separately(scorer: Scorer) -> None:
    scorer.volume("A", box(0, 90), box(0, 90), [-3.0, 3.0])
    for source, sign in (("kaggle", 1.0), ("other", -1.0)):
        for number in range(4):
            scorer.image(str(number), number % 2, sign * (number % 2 - 0.5), source)
    classification = scorer.report()["classification"]
    assert {name: scores["roc_auc"] for name, scores in classification.items()} == {
        "brats": 1.0,
        "kaggle": 1.0,
        "other": 0.0,
    }
    assert [scores["n"] for scores in classification.values()] == [2, 4, 4]


def test_a_volume_of_one_slice_is_scored_as_it_is_predicted(tmp_path: Path) -> None:
    scorer = Scorer(tmp_path, Decision(image=Calibration(4.0, 0.9), volume=Calibration(1.0, 0.5)))
    scorer.volume("A", box(100), box(100), [2.0])
    meta = {"spatial_shape": np.array([20, 20, 1]), "original_affine": np.diag([*UPRIGHT, 1.0])}
    mask = MetaTensor(box(100)[None].astype(np.float32), meta=meta)
    served = SummarizePredictiond("pred", scorer.decision).summarize(mask, np.array([2.0]))
    scores = scorer.report()["classification"]["brats"]
    assert scores["threshold"] == served["threshold"] == 0.9
    assert scores["cases"][0]["probability"] == served["tumor_probability"] == pytest.approx(0.622459)


def test_volume_of_one_slice_does_not_make_its_source_one_of_images(scorer: Scorer) -> None:
    scorer.volume("A", box(100), box(100), [2.0])
    scorer.volume("B", box(0, 100), box(0, 100), [-1.0, 2.0])
    assert [(prediction["case"], prediction["kind"]) for prediction in scorer.run()["predictions"]] == [
        ("brats/A", "image"),
        ("brats/B", "volume"),
        ("brats/B", "volume"),
    ]
    assert scorer.report()["classification"]["brats"]["patients"].keys() == {"brats/A", "brats/B"}


def test_operating_point_and_temperature_decide(tmp_path: Path) -> None:
    scorer = Scorer(tmp_path, Decision(image=Calibration(2.0, 0.6), display_threshold=0.3))
    for number, (cls, logit) in enumerate([(1, 1.0), (1, 0.6), (0, -1.0), (0, -4.0)]):  # 0.62, 0.57, 0.38, 0.12
        scorer.image(str(number), cls, logit)
    scores = scorer.report()["classification"]["kaggle"]
    assert (scores["threshold"], scores["sensitivity"], scores["specificity"]) == (0.6, 0.5, 1.0)
    assert scores["at_display_threshold"] == {"threshold": 0.3, "sensitivity": 1.0, "specificity": 0.5}


def test_the_report_has_the_documented_keys(tmp_path: Path) -> None:
    scorer = Scorer(tmp_path, model={"sha256": "abc"}, seed=7)
    scorer.volume("A", box(0, 90), box(0, 80), [-1.0, 1.0])
    scorer.image("1", 1, 0.5)
    report = scorer.report()
    assert report["model"] == {"sha256": "abc"} and report["seed"] == 7
    assert {"dice", "iou"} <= report["segmentation"]["mean"].keys()
    assert {"id", "dice", "iou"} <= report["segmentation"]["patients"][0].keys()
    for scores in report["classification"].values():
        assert {"roc_auc", "pr_auc", "sensitivity", "specificity", "n", "positives"} <= scores.keys()
    assert report["decision"]["image"]["operating_point"] == 0.5
    assert "50 pixels" in report["rules"]["tumor_slice"]


def test_undefined_scores_are_null(scorer: Scorer) -> None:
    scorer.volume("empty", box(0, 0), box(0, 0), [UNKNOWN, UNKNOWN])
    scorer.image("1", 1, 0.5)
    scorer.image("unpredicted", 0, UNKNOWN)
    report = scorer.report()
    kaggle = report["classification"]["kaggle"]
    assert (kaggle["n"], kaggle["left_out"], kaggle["roc_auc"], kaggle["specificity"]) == (1, 1, None, None)
    assert report["segmentation"]["mean"]["dice"] is None
    assert report["segmentation"]["empty_slices"]["false_positive_rate"] is None


def test_a_report_can_be_of_images_only(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.image("1", 1, 2.0)
    scorer.image("2", 0, -2.0)
    report = scorer.report()
    assert report["segmentation"]["n"] == 0 and report["classification"]["kaggle"]["roc_auc"] == 1.0
    assert "kaggle" in capsys.readouterr().out  # the table is printed


def test_a_volume_of_one_slice_is_measured_along_its_outline(scorer: Scorer) -> None:
    """A disc and one with a spur: few of its pixels are away from the disc, many of its outline."""
    y, x = np.mgrid[:64, :64]
    disc = ((y - 32) ** 2 + (x - 32) ** 2 <= 15**2)[..., None]
    spurred = disc | ((abs(y - 32) <= 2) & (x >= 32) & (x < 60))[..., None]
    scorer.volume("A", disc, spurred, [0.0])
    (row,) = scorer.report()["segmentation"]["patients"]
    plane = segmentation_scores(spurred[..., 0], disc[..., 0], (1.0, 1.0))
    assert row["hd95_mm"] == pytest.approx(plane["hd95_mm"]) and row["hd95_mm"] > 5.0
    assert row["surface_dice_1mm"] == pytest.approx(plane["surface_dice_1mm"]) and row["surface_dice_1mm"] < 0.9


def test_cases_without_mask_and_class_are_counted(scorer: Scorer, capsys: pytest.CaptureFixture[str]) -> None:
    scorer.image("1", 1, 2.0)
    unlabeled = {"id": "brats/B", "source": "brats", "group": "brats/B", "kind": "volume", "image": "B_flair.nii.gz"}
    scorer.scored.append((unlabeled, scorer.scored[0][1], np.array([1.0]), np.eye(4)))
    assert scorer.report()["without_reference"] == 1
    assert "1 of the cases have neither a mask nor a class" in capsys.readouterr().out


def test_scoring_list_names_image_and_case_and_hides_the_label() -> None:
    case = {"id": "brats/A", "image": "A.nii", "label": "A_seg.nii", "cls": 1, "sha256": {"image": "a"}}
    assert scoring_list([case], None) == [{"image": "A.nii", "case": "brats/A"}]
    with pytest.raises(ValueError, match="no cases to score"):
        scoring_list([], None)


@pytest.mark.parametrize(
    "seen",
    [
        {"brats/A": {"sha256": "other", "phash": None, "subset": "train"}},
        {"brats/renamed": {"sha256": "a", "phash": None, "subset": "val"}},
        {"brats/recompressed": {"sha256": "other", "phash": "ff00", "subset": "train"}},
        {"brats/smaller": {"sha256": "other", "phash": "ff03", "subset": "train"}},
        {"brats/A-001": {"sha256": "other", "phash": None, "group": "brats/patient A", "subset": "train"}},
    ],
    ids=["id", "content", "picture", "picture of another size", "patient"],
)
def test_weights_that_saw_a_case_are_refused(tmp_path: Path, seen: dict[str, Any]) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    notes = {"trained_on": seen, "sha256": sha256_of(tmp_path / "model.pt")}
    (tmp_path / "model.json").write_text(json.dumps(notes))
    case = {"id": "brats/A", "image": "A.nii", "label": "A_seg.nii", "sha256": {"image": "a"}}
    case |= {"phash": "ff00", "group": "brats/patient A"}
    with pytest.raises(ValueError, match=r"model\.pt: trained on 1 of the 1 cases to score, such as brats/A"):
        scoring_list([case], tmp_path / "model.pt")
    assert len(scoring_list([case], tmp_path / "model.pt", allow_training_cases=True)) == 1
    if next(iter(seen.values()))["subset"] == "val":  # chosen on it: calibration may look at it
        assert len(scoring_list([case], tmp_path / "model.pt", "val")) == 1
    else:
        with pytest.raises(ValueError, match="trained on 1"):
            scoring_list([case], tmp_path / "model.pt", "val")
    assert provenance([case], tmp_path / "model.pt") == "1 cases, 1 of them scored here"
    other = {**case, "id": "brats/B", "sha256": {"image": "b"}, "phash": "ff3f", "group": "brats/patient B"}
    assert provenance([other], tmp_path / "model.pt") == "1 cases, none of them scored here"
    assert len(scoring_list([other], tmp_path / "model.pt")) == 1


def test_weights_with_unknown_lineage_do_not_claim_known_training_cases(tmp_path: Path) -> None:
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    notes = {"trained_on": {"studies/A": {"sha256": "a", "subset": "train"}}, "sha256": sha256_of(weights)}
    (tmp_path / "model.json").write_text(json.dumps({**notes, "unknown_lineage": True}))
    case = {"id": "brats/B", "image": "B.nii", "label": "B_seg.nii", "sha256": {"image": "b"}}
    expected = "1 cases, none of them scored here; the initial weights may have further training cases"
    assert provenance([case], weights) == expected
    (tmp_path / "model.json").unlink()
    assert provenance([case], weights) == "unknown: they may include cases that are scored here"


def test_a_picture_whose_mask_teaches_is_scored_as_a_picture_and_not_as_a_volume(tmp_path: Path) -> None:
    scorer = Scorer(tmp_path)
    scorer.picture_with_mask("017.png", 2.0)
    scores = scorer.run()
    assert scores["segmentation"] == []
    assert [(row["kind"], row["cls"], row["logit"]) for row in scores["predictions"]] == [("image", 1.0, 2.0)]
