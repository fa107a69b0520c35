"""Score weights on corrupted copies of labeled scans, predicted as `predict` does."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..loading import parse
from ..predictor import Predictor

__all__ = ["CORRUPTIONS", "score_corrupted"]

OF_TORCHIO = ("motion", "ghosting", "spikes", "bias_field", "noise", "thickness")
OTHERS = ("jpeg", "looks_like_t1", "looks_like_t2", "cropping")
CORRUPTIONS = (*OF_TORCHIO, *OTHERS)


def require_torchio(corruptions: Sequence[str] | None) -> None:
    """Require the package that the chosen corruptions need, before the work begins.

    Raises:
        ModuleNotFoundError: naming it.
    """
    if set(corruptions or CORRUPTIONS) & set(OF_TORCHIO) and find_spec("torchio") is None:
        raise ModuleNotFoundError("torchio is not installed", name="torchio")


class Scans:
    """The predictor, whose refusals are the ValueError of the components."""

    def __init__(self, predictor: Predictor) -> None:
        self.read, self.predictor = predictor.read, predictor

    def infer(self, image: Any) -> dict[str, Any]:
        """Predict a scan that was read, see `Predictor.infer`."""
        try:
            return self.predictor.infer(image)
        except UserError as error:
            raise ValueError(str(error)) from None


def score_corrupted(
    model: Path,
    output: Path,
    dataset_dir: str,
    network_name: str | None = None,
    on_device: str | None = None,
    strip: bool = False,
    modalities: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    tumor_types: Sequence[str] | None = None,
    **settings: Any,
) -> None:
    """Write `robustness.json` and `robustness.png` to `output`; a job of `scoring.on_folders`.

    Args:
        model: the weights.
        output: folder of the results.
        dataset_dir: the slice store of the cases.
        network_name: the network's name, if no report beside the weights names it.
        on_device: torch device (default: the GPU if there is one).
        strip: cut the brain out of volumes with a skull first.
        modalities: sequences of the weights.
        regions: of the weights' masks, of which the whole tumor is scored.
        tumor_types: that the weights tell apart; they are not scored.
        settings: of `configs/robustness.yaml`.
    """
    from ..reporting.robustness import draw

    told: dict[str, Any] = {"dataset_dir": dataset_dir, "output_dir": str(output), "model_path": str(model), **settings}
    told |= {"modalities": list(modalities)} if modalities else {}
    told |= {"regions": list(regions)} if regions else {}
    scorer = parse("robustness.yaml", ["robustness"], **told)["robustness"]
    predictor = Predictor(model, network_name, on_device, strip=strip)
    found = scorer.run(Scans(predictor), predictor.parts["decision"], dict(predictor.parts["model_card"]))
    draw(found, output / "robustness.png")
