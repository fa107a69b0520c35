"""Whole predictions, from a file to files: a volume and its steps, a picture, and MONAI's own transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .clock import Measured
from .comparison import Benchmark, Number, Prepare, Ratio
from .material import BATCH, Material

__all__ = ["BENCHMARKS", "dice"]

STEPS = {"reading": 0.02, "preprocessing": 0.04, "inference": 1.0, "postprocessing": 0.03, "writing": 0.02}
SIZE = (256, 256)


def volumes(material: Material) -> Mapping[str, Prepare]:
    """A volume: the passes of its slices alone, the whole prediction, and the same with MONAI's own components."""
    return {
        "raw forward": lambda: material.raw_forward(material.brain_slices),
        "volume": lambda: predicting(material, material.volume),
        "served": lambda: predicting(material, material.volume, served=True),
        "stock MONAI": lambda: stock_monai(material),
        **{step: step_of(material, step) for step in STEPS},
    }


def pictures(material: Material) -> Mapping[str, Prepare]:
    """A picture, and one pass."""
    return {
        "raw forward": lambda: material.raw_forward(material.batch[:1]),
        "picture": lambda: predicting(material, material.picture),
    }


def inputs(material: Material) -> Mapping[str, Prepare]:
    """From a file to the network's input."""
    return {
        "ours": lambda: lambda: [step() for step in reading_and_preprocessing(material)],
        "MONAI": lambda: per_slice_transforms(material),
    }


def predicting(material: Material, scan: Any, served: bool = False) -> Callable[[], Any]:
    """Predict a scan, as served or each slice once, and write mask and JSON; returns mask and reference (H, W, D)."""
    write, predictor = writer_of(material), material.served if served else material.predictor

    def run() -> Any:
        material.decode(scan)
        prediction = predictor.predict(scan)
        write(prediction)
        return prediction["pred"][0].numpy() > 0, material.reference

    return run


def writer_of(material: Material) -> Callable[[Any], Any]:
    """Writes a prediction's files."""
    folder = str(material.folder / "predictions")
    write: Callable[[Any], Any] = material.predictor.parsed(["writer"], output_dir=folder, overwrite=True)["writer"]
    return write


def step_of(material: Material, name: str) -> Prepare:
    """One step of the prediction of a volume."""

    def prepare() -> Callable[[], Any]:
        read, preprocess = reading_and_preprocessing(material)
        parts, network = material.predictor.parts, material.predictor.parts["extended_network"](material.network)
        item = {**material.preprocessed(), "scan": material.image, "planes": network.planes}
        item["pred"] = infer(parts["inferer"], item["image"], network)
        finished, write = parts["postprocessing"](dict(item)), writer_of(material)
        works: dict[str, Callable[[], Any]] = {
            "reading": read,
            "preprocessing": preprocess,
            "inference": lambda: infer(parts["inferer"], item["image"], network),
            "postprocessing": lambda: parts["postprocessing"](dict(item)),
            "writing": lambda: write(finished),
        }
        return works[name]

    return prepare


def reading_and_preprocessing(material: Material) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Read the volume; make the network's input of it."""

    def read() -> None:
        material.decode(material.volume)
        material.predictor.read(material.volume)

    return read, material.preprocessed


def infer(inferer: Any, image: Any, network: Any) -> Any:
    """Packed logits of the network's input."""
    import torch

    with torch.inference_mode():
        return inferer(image.as_tensor()[None], network)[0]


def stock_monai(material: Material) -> Callable[[], Any]:
    """The same network within MONAI's own components: LoadImage, SliceInferer, SaveImage; as `predicting`."""
    import torch
    from monai.inferers import SliceInferer
    from monai.transforms import Compose, Invertd, LoadImaged, Orientationd, ResizeWithPadOrCropd, SaveImage

    before = Compose(
        [
            LoadImaged("image", image_only=True, ensure_channel_first=True),
            Orientationd("image", axcodes="PLS", labels=None),
            ResizeWithPadOrCropd("image", (*SIZE, -1)),
        ]
    )
    back = Invertd("pred", before, orig_keys="image", nearest_interp=True)
    inferer = SliceInferer(spatial_dim=2, roi_size=SIZE, sw_batch_size=BATCH)
    save = SaveImage(material.folder / "stock", output_postfix="mask", output_dtype="uint8", print_log=False)

    def mask_logits(image: Any) -> Any:
        return material.network(image)[:, :1]

    def run() -> Any:
        item = before({"image": str(material.volume)})
        with torch.inference_mode():
            item["pred"] = inferer(standardized(item["image"])[None], mask_logits)[0] > 0
        item = back({**item, "pred": item["pred"].to(torch.uint8)})
        save(item["pred"])
        return item["pred"][0].numpy() > 0, material.reference

    return run


def standardized(image: Any) -> Any:
    """Standard deviations of what is above zero, and the network's value of the background elsewhere."""
    import torch
    from monai.transforms import NormalizeIntensity

    from scripts.transforms.preprocessing import BACKGROUND, BRIGHTEST, DARKEST

    return torch.where(image > 0, NormalizeIntensity(nonzero=True)(image).clamp(DARKEST, BRIGHTEST), BACKGROUND)


def per_slice_transforms(material: Material) -> Callable[[], Any]:
    """MONAI's LoadImage, and its transforms of each slice."""
    import torch
    from monai.transforms import (
        Compose,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        ResizeWithPadOrCrop,
        ScaleIntensity,
    )

    load = Compose([LoadImage(image_only=True, ensure_channel_first=True), Orientation("PLS", labels=None)])
    each = Compose([ScaleIntensity(), NormalizeIntensity(nonzero=True), ResizeWithPadOrCrop(SIZE)])

    def run() -> Any:
        image = load(str(material.volume))
        return torch.stack([each(plane) for plane in image.unbind(-1)])

    return run


def dice(mask: Any, reference: Any) -> float:
    """Dice of two boolean arrays of one shape."""
    return float(2 * (mask & reference).sum() / max(1, mask.sum() + reference.sum()))


def dice_change(found: Mapping[str, Measured]) -> float:
    """How much the whole prediction's Dice is above that of MONAI's components."""
    return dice(*found["volume"].result) - dice(*found["stock MONAI"].result)


VOLUME_GOALS: list[Ratio | Number] = [
    Ratio("a volume, from .nii.gz to mask and JSON / raw forward of its brain slices", "volume", "raw forward", 1.05),
    Ratio("a volume / stock MONAI (LoadImage, SliceInferer, SaveImage)", "volume", "stock MONAI", 0.4),
    Number(
        "Dice of a volume, difference to stock MONAI",
        *(["volume", "stock MONAI"], dice_change, -0.002, "Dice", "at least"),
    ),
    Ratio("a volume as served, with the mirrored slices / each slice once", "served", "volume", 1.95),
    *(Ratio(f"{step} of a volume / raw forward", step, "raw forward", goal) for step, goal in STEPS.items()),
]
BENCHMARKS = [
    Benchmark("volume", volumes, VOLUME_GOALS, rounds=5),
    Benchmark(
        "picture",
        pictures,
        [Ratio("a picture, from file to mask and JSON / raw forward of one slice", "picture", "raw forward", 1.5)],
        rounds=15,
    ),
    Benchmark(
        "input",
        inputs,
        [
            Ratio(
                "reading and normalizing a volume / MONAI's LoadImage and transforms of each slice",
                "ours",
                "MONAI",
                0.15,
            )
        ],
    ),
]
