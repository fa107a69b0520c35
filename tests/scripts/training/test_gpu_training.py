"""Training with slices that stay on the device and are augmented in batches, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.loading import load_workflow, suppress_monai_warnings
from bundle.workflows.stages import preprocess, source_folders
from scripts.dataset.resident_slices import ResidentLoader
from scripts.dataset.sampling import SliceDataset, SourceLoader
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.splits import load_split
from scripts.training.batch_augmentation import BatchAugmentation
from scripts.transforms.preprocessing import BACKGROUND, BRIGHTEST

ROOT = Path(__file__).resolve().parents[3]
SETTINGS: dict[str, Any] = {"kinds": ["volume", "image"], "order": "mixed", "batch_size": 4, "samples_per_epoch": 12}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resident")
    write_volumes(folder / "volumes", 5, slices=12, side=96)
    write_images(folder / "images", 20)
    preprocess(folder / "store", source_folders(str(folder / "volumes"), [str(folder / "images")]))
    return folder / "store"


@pytest.fixture(scope="module")
def dataset(store: Path) -> SliceDataset:
    cases = load_split(store / "splits.json", store, fold=0)["train"]
    return SliceDataset(SliceRecords(cases, min_tumor_pixels=50), store)


def nothing(batch: dict[str, Any], seed: int) -> dict[str, Any]:
    return {**batch, "seed": seed}


def made_batch(count: int = 6, side: int = 64) -> dict[str, Any]:
    """A disk of tissue with a brighter square, and its mask."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    disk, square = (x**2 + y**2 < 0.7).float(), ((x - 0.2).abs() < 0.2) & (y.abs() < 0.2)
    image = torch.where(disk > 0, 0.2 * x + 2 * square, BACKGROUND)[None, None].repeat(count, 1, 1, 1)
    statistics = torch.tensor([[[0.0]], [[1.0]]]).view(1, 2, 1).repeat(count, 1, 1)
    mask = square.float()[None, None].repeat(count, 1, 1, 1)
    return {
        "image": image,
        "mask": mask,
        "foreground": disk[None, None].repeat(count, 1, 1, 1),
        "statistics": statistics,
    }


def test_the_batches_are_those_of_the_loader_that_reads_each_slice(dataset: SliceDataset) -> None:
    ours, theirs = ResidentLoader(dataset, nothing, **SETTINGS), SourceLoader(dataset, **SETTINGS)
    assert len(ours) == len(theirs) == 3
    for loader in (ours, theirs):
        loader.set_epoch(2, first=1)
    pairs = list(zip(ours, theirs, strict=True))
    assert len(pairs) == 2, "from the first batch that is asked for"
    for both in pairs:
        for own, other in zip(*both, strict=True):
            assert own["case"] == other["case"] and own["index"] == other["index"].tolist()
            assert torch.equal(own["image"], other["image"]) and torch.equal(own["foreground"], other["foreground"])
            assert torch.equal(own["cls"].nan_to_num(-1), other["cls"].float().nan_to_num(-1))
            known = other.get("mask", torch.full_like(own["mask"], torch.nan))
            assert torch.equal(own["mask"].nan_to_num(-1), known.nan_to_num(-1))


def test_each_batch_has_a_seed_of_its_own_that_comes_back(dataset: SliceDataset) -> None:
    loader = ResidentLoader(dataset, nothing, **SETTINGS)
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        epochs.append([part["seed"] for parts in loader for part in parts])
    assert epochs[0] == epochs[2] and len(set(epochs[0] + epochs[1])) == 12


def test_the_same_seed_augments_alike_and_another_does_not() -> None:
    augment = BatchAugmentation(size=48)
    first, again, other = (augment(made_batch(), seed)["image"] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1]), "each slice has its own draw"


def test_the_background_and_the_range_are_kept_and_the_mask_moves_with_the_image() -> None:
    found = BatchAugmentation(size=64, style=False, inverted=1.0)(made_batch(16), 3)
    image, mask = found["image"], found["mask"]
    assert image.shape == mask.shape == (16, 1, 64, 64) and set(found) == {"image", "mask"}
    assert float(image.min()) == BACKGROUND and float(image.max()) <= BRIGHTEST
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    for plane, square in zip(image, mask, strict=True):
        assert float(plane[square > 0].median()) > 1.5 > float(plane[square == 0].max()) - 2, "the square stays bright"


@pytest.fixture
def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that choose no slice but for a share of 1."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, 0.999))


def test_unknown_masks_stay_unknown_and_only_theirs_are_inverted(unmoved: None) -> None:
    batch = made_batch(2)
    batch["mask"][1] = torch.nan
    found = BatchAugmentation(size=64, style=False, inverted=1.0)(dict(batch), 0)
    assert found["mask"][1].isnan().all() and not found["mask"][0].isnan().any()
    inside = batch["foreground"][0] > 0
    assert torch.allclose(found["image"][0][inside], batch["image"][0][inside], atol=1e-5)
    assert torch.allclose(found["image"][1][inside], -batch["image"][1][inside], atol=1e-5)


def test_without_a_draw_that_moves_it_a_slice_is_cut_from_the_middle(unmoved: None) -> None:
    augment, batch = BatchAugmentation(size=48, style=False), made_batch(1)
    found = augment(dict(batch), 0)
    assert torch.allclose(found["mask"], batch["mask"][..., 8:56, 8:56])
    assert torch.allclose(found["image"], batch["image"][..., 8:56, 8:56], atol=1e-5)


@pytest.mark.parametrize("stage", [[], ["stage3_joint.yaml"]], ids=["stage 1", "stage 3"])
def test_a_training_with_the_overlay_lowers_no_check_and_writes_weights(
    stage: list[str], store: Path, tmp_path: Path
) -> None:
    """All of it but the GPU: mixed precision, CUDA graphs and the compiler's code run on one alone."""
    settings = {"precision": "float32", "compile_backend": "eager", "cuda_graphs": False, "batch_size": 4}
    settings |= {"max_epochs": 1, "samples_per_epoch": 8, "initial_weights": None, "device": "$torch.device('cpu')"}
    workflow = load_workflow(
        ["train.yaml", *stage, "gpu_train.yaml"], ROOT, dataset_dir=str(store), output_dir=str(tmp_path), **settings
    )
    workflow.run_id = "training"
    with suppress_monai_warnings(ROOT):
        workflow.initialize()
        workflow.run()
    assert type(workflow.parser.get_parsed_content("train#dataloader")).__name__ == "ResidentLoader"
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
    assert not any(name.startswith("_orig_mod") for name in weights), "of the network, not of the compiled one"
