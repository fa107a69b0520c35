"""What to train and compare: chains of steps, in folds, by seeds. `experiments.py` runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from . import stages
from .presets import PRESETS

__all__ = ["Plan", "Task", "Variant", "ablation_plan", "cross_validation_plan"]

Chain = tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """A chain of steps to compare.

    Args:
        steps: names of steps, in order.
        seeds: number of repetitions.
        description: what is tried, in words.
    """

    steps: Chain
    seeds: int
    description: str


@dataclass(frozen=True)
class Task:
    """A chain of trainings, in one fold, by one seed; without a fold every case trains."""

    fold: int | None
    seed: int
    chain: Chain

    @property
    def folder(self) -> str:
        """Where the weights of the chain's last step are."""
        fold = "all" if self.fold is None else f"fold{self.fold}"
        return f"runs/{fold}_seed{self.seed}/{'+'.join(self.chain)}"

    def starts(self) -> list[Task]:
        """The chain's beginnings, from its first step to the whole of it."""
        return [Task(self.fold, self.seed, self.chain[:length]) for length in range(1, 1 + len(self.chain))]


@dataclass(frozen=True)
class Plan:
    """What to train and compare.

    Args:
        folds: of the split; the number of patients or more leaves one patient out.
        image_folds: of the images; None: as many.
        common: settings of every training.
        steps: by name: "overlays" of train.yaml and "settings".
        variants: by name.
        reference: what the others are compared with; by its first seed it is explained and audited too.
        network: cpu, base or large.
        name: of the experiment: "crossvalidation", or that of the plan's file.
        command: that runs this plan, for the report.

    Raises:
        UserError: when a variant names a step that is not there.
    """

    folds: int
    common: Mapping[str, Any]
    steps: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, Variant]
    reference: str = "recipe"
    network: str = "cpu"
    name: str = "ablations"
    command: str = ""
    image_folds: int | None = None

    def __post_init__(self) -> None:
        for name, variant in self.variants.items():
            unknown = [step for step in variant.steps if step not in self.steps]
            if unknown or not variant.steps:
                raise UserError(f"variant '{name}' names no known step: {', '.join(unknown) or 'it has none'}")

    def rounds(self, folds: int) -> Iterator[list[Task]]:
        """Every chain, in rounds in which no two train the same beginning; the first seed's come first."""
        for seed in range(max(variant.seeds for variant in self.variants.values())):
            waiting = list(dict.fromkeys(v.steps for v in self.variants.values() if seed < v.seeds))
            trained: set[Chain] = set()
            while waiting:
                chosen: list[Chain] = []
                claimed: set[Chain] = set()
                for chain in waiting:
                    new = {chain[:length] for length in range(1, 1 + len(chain))} - trained
                    if not new & claimed:
                        chosen.append(chain)
                        claimed |= new
                yield [Task(fold, seed, chain) for chain in chosen for fold in range(folds)]
                trained |= claimed
                waiting = [chain for chain in waiting if chain not in chosen]


def ablation_plan(
    path: str | Path | None = None, network: str = "cpu", seeds: int | None = None, precision: str = "float32"
) -> Plan:
    """The plan in `ablations.yaml`, or in another file of its form, after which the experiment is named.

    Args:
        path: the other file.
        network: cpu, base or large.
        seeds: repetitions of every variant, in place of the plan's.
        precision: of the trainings' convolutions, float32 or bfloat16.

    Raises:
        UserError: when the file is no such plan, or a variant names no known step.
    """
    file = Path(path or Path(__file__).with_name("ablations.yaml"))
    chosen = {"plan": path, "seeds": seeds, "network": None if network == "cpu" else network, "precision": precision}
    command = " ".join(["ablate", *(f"--{name} {value}" for name, value in chosen.items() if value)])
    try:
        content = yaml.safe_load(file.read_text())
        chains = {name: (v["steps"], v["seeds"], v["description"]) for name, v in content["variants"].items()}
        variants = {
            name: Variant(tuple(steps), seeds or n, description) for name, (steps, n, description) in chains.items()
        }
        common = {**content["common"], "precision": precision}
        folds, steps, reference = content["folds"], content["steps"], content["reference"]
        return Plan(folds, common, steps, variants, reference, network, file.stem, command)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{file}: no plan of the form of bundle/workflows/ablations.yaml: {reason}") from None


def cross_validation_plan(
    preset: str,
    folds: int,
    seeds: int,
    network: str = "cpu",
    precision: str = "float32",
    image_folds: int | None = None,
    sources: Sequence[str] = (),
) -> Plan:
    """The recipe of a preset, and its first stage alone, in every fold; no fold is spent on validation.

    Args:
        preset: how long each stage trains.
        folds: of the volumes; as many as patients leave one out.
        seeds: repetitions.
        network: cpu, base or large.
        precision: of the trainings' convolutions, float32 or bfloat16.
        image_folds: of the images; None: as many.
        sources: to learn from; all if empty. The others are tested only.
    """
    steps = {name: {"overlays": stages.OVERLAYS[name], "settings": PRESETS[preset][name]} for name in stages.OVERLAYS}
    variants = {
        "recipe": Variant(tuple(steps), seeds, "the recipe, three stages"),
        "stage_1": Variant(tuple(steps)[:1], seeds, "segmentation alone"),
    }
    chosen = {"preset": preset, "folds": folds, "image-folds": image_folds, "seeds": seeds}
    chosen |= {"network": None if network == "cpu" else network, "precision": precision}
    words = [f"--{name} {value}" for name, value in chosen.items() if value]
    command = " ".join(["crossvalidate", *words, *(f"--learn-from {source}" for source in sources)])
    common = {"validation": False, "num_workers": 0, "precision": precision, "sources": list(sources) or None}
    return Plan(folds, common, steps, variants, "recipe", network, "crossvalidation", command, image_folds)
