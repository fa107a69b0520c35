"""Figures of predictions: the scan with contours of the predicted mask and of the reference."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.utils import ensure_tuple

from ..core.files import write_atomic
from ..core.geometry import as_displayed, first_shown
from ..core.label_codes import tumor_of
from ..core.regions import REGIONS, masks_of
from ..core.shared_work import is_first_process, of_all_processes
from ..inference.decision import Decision, kind_of
from ..io.datalists import Case
from ..io.readers import BrainMriReader

__all__ = ["DrawGallery", "draw_tiles"]

matplotlib.use("Agg")

PREDICTED, REFERENCE = "#ff9f1c", "#2ec4b6"  # orange and teal: safe for color blindness


class DrawGallery:
    """Draw one tile per case while an evaluator runs, and one figure per source at the end.

    A volume is shown at the slice with the largest reference, or without one with the largest predicted mask.

    Args:
        cases: id, source, kind, and "label" or "cls".
        decision: for the probability.
        modalities: channels of the images; the first that a case has is shown.
        output_dir: folder for `overlays_SOURCE.png`.
        most: tiles of a figure; with more cases some are shown, evenly spaced by name.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        decision: Decision,
        modalities: Sequence[str],
        output_dir: str | Path,
        most: int = 24,
    ) -> None:
        self.cases = {case["id"]: case for case in cases}
        self.decision, self.output_dir = decision, Path(output_dir)
        self.shown: dict[str, list[str]] = {}  # of each source
        self.count = Counter(case["source"] for case in cases)
        for source, count in self.count.items():
            names = [case["id"] for case in cases if case["source"] == source]
            self.shown[source] = [names[i * count // most] for i in range(most)] if count > most else names
        self.image_reader, self.mask_reader = BrainMriReader(modalities), BrainMriReader(["seg"])

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.draw_batch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        self.tiles: dict[str, dict[str, Any]] = {}  # of each case that is shown

    def draw_batch(self, engine: Engine) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = self.cases[batch["case"]]
            if case["id"] in self.shown[case["source"]]:
                self.tiles[case["id"]] = self._tile(case, output)

    def _tile(self, case: Case, output: Mapping[str, Any]) -> dict[str, Any]:
        affine = output["pred"].meta["original_affine"]
        image = as_displayed(first_shown(self.image_reader.get_data(_paths(case["image"]))[0]), affine)
        labels, regions = output["pred"].as_tensor()[0].numpy(), output.get("result", {}).get("regions", ())
        drawn = as_displayed(labels > 0, affine)
        reference = None
        if "label" in case:
            reference = as_displayed(tumor_of(self.mask_reader.get_data(_paths(case["label"]))[0][0], case), affine)
        shown = reference if reference is not None and reference.any() else drawn
        index = int(shown.sum(axis=(0, 1)).argmax())
        probability = self.decision.probability(output["slice_logits"], kind_of(output["slice_logits"]))[index]
        truth = f"label {case['cls']}" if "cls" in case else f"slice {index}"
        shown_slices = {"image": image, "predicted": drawn, "reference": reference}  # copied, so that no volume is kept
        tile = {name: None if of is None else of[:, :, index].copy() for name, of in shown_slices.items()}
        inner = {name: as_displayed(mask, affine)[:, :, index] for name, mask in masks_of(labels, regions[1:]).items()}
        title = f"{case['id'].split('/')[-1]}  {truth}  p={probability:.2f}"
        return {"title": title, **tile, "regions": inner if len(regions) > 1 else {}}

    def finish(self, engine: Engine) -> None:
        drawn = ChainMap(*of_all_processes(self.tiles))
        for source, shown in self.shown.items() if is_first_process() else ():
            tiles = [drawn[id] for id in shown if id in drawn]
            if tiles:
                draw_tiles(tiles, self.output_dir / f"overlays_{source}.png", f"{len(tiles)} of {self.count[source]}")


def _paths(paths: str | Sequence[str]) -> tuple[Path, ...]:
    return tuple(Path(path) for path in ensure_tuple(paths))


def draw_tiles(tiles: Sequence[Mapping[str, Any]], path: str | Path, which: str, columns: int = 6) -> None:
    """Draw tiles with contours into one PNG.

    Args:
        tiles: "title", "image" (H, W), "predicted" boolean (H, W), "reference" boolean (H, W) or None; "regions":
            predicted masks within that of the whole tumor by their names, may be absent.
        path: of the figure.
        which: number of shown cases, in words.
        columns: tiles in a row.
    """
    columns = max(3, min(columns, len(tiles)))  # room for the legend
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.6 * rows + 0.4), facecolor="black", layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, tile in zip(axes, tiles, strict=False):
        axis.imshow(tile["image"], cmap="gray", interpolation="nearest")  # rows run downwards, to posterior
        for mask, color, width in ((tile["reference"], REFERENCE, 2.4), (tile["predicted"], PREDICTED, 1.0)):
            if mask is not None and mask.any():
                axis.contour(mask, levels=[0.5], colors=color, linewidths=width)
        for name, mask in tile.get("regions", {}).items():
            if mask.any():
                axis.contour(
                    mask, levels=[0.5], colors=[tuple(value / 255 for value in REGIONS[name].color)], linewidths=1.0
                )
        axis.set_title(tile["title"], color="white", fontsize=7)
    inner = dict.fromkeys(name for tile in tiles for name in tile.get("regions", {}))
    words = "".join(f"    {REGIONS[name].color_name}: {REGIONS[name].title}" for name in inner)
    legend = f"{which}    orange: predicted mask{words}    teal: reference    research use only"
    figure.supxlabel(legend, color="white", fontsize=8)
    write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=110, facecolor="black"))
