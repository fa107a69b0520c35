"""Plans: which chains of training steps to compare, in which folds, with which seeds. `run_plan.py` runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from . import stages
from .presets import PRESETS

__all__ = ["Plan", "Task", "Variant", "ablation_plan", "cross_validation_plan", "nested_plan"]

Chain = tuple[str, ...]
CROSS_VALIDATION = "crossvalidation"


@dataclass(frozen=True)
class Variant:
    """A chain of steps to compare.

    Args:
        steps: names of steps, in order.
        seeds: number of repetitions.
        description: the variant in words, for tables.
    """

    steps: Chain
    seeds: int
    description: str


@dataclass(frozen=True)
class Task:
    """A chain of trainings with one seed, in one fold; without a fold all cases are training data.

    An inner one is trained without the next fold too, and scored on that.
    """

    fold: int | None
    seed: int
    chain: Chain
    inner: bool = False

    @property
    def folder(self) -> str:
        """Folder of the weights of the chain's last step."""
        fold = "all" if self.fold is None else f"fold{self.fold}"
        return f"{'inner' if self.inner else 'runs'}/{fold}_seed{self.seed}/{'+'.join(self.chain)}"

    def starts(self) -> list[Task]:
        """The chain's prefixes, from its first step to the whole chain."""
        return [replace(self, chain=self.chain[:length]) for length in range(1, 1 + len(self.chain))]


@dataclass(frozen=True)
class Plan:
    """Which variants to train and compare.

    Args:
        folds: of the split; the number of patients or more gives leave-one-patient-out.
        image_folds: of the images; None: as many.
        only: the folds that are trained and tested; none named: all.
        audited: names of the variants whose first seed is explained and audited; None: of the reference.
        prints_scores: whether the scores of each fold and of all variants are printed as tables.
        common: settings of every training.
        steps: by name: "overlays" of train.yaml and "settings"; or "weights", a file that is scored as it is.
        variants: by name.
        reference: the variant that the others are compared with.
        network: cpu, base or large.
        name: of the experiment: "crossvalidation", or the name of the plan's file.
        command: the command that runs this plan, for the report.

    Raises:
        UserError: when a variant names an unknown step, or an audited variant is none of the plan's.
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
    only: tuple[int, ...] = ()
    audited: tuple[str, ...] | None = None
    prints_scores: bool = True

    def __post_init__(self) -> None:
        for name, variant in self.variants.items():
            unknown = [step for step in variant.steps if step not in self.steps]
            if unknown or not variant.steps:
                raise UserError(f"variant '{name}' names an unknown step: {', '.join(unknown) or 'it has none'}")
        for name in (name for name in self.audited or () if name not in self.variants):
            raise UserError(f"'audited' names '{name}', which is none of the variants: {', '.join(self.variants)}")

    def is_audited(self, chain: Chain) -> bool:
        """Whether a chain's first seed is explained and audited."""
        names = (self.reference,) if self.audited is None else self.audited
        return any(chain == self.variants[name].steps for name in names)

    @property
    def identity(self) -> dict[str, str]:
        """What tells its folder from that of another experiment."""
        return {} if self.name == CROSS_VALIDATION else {"experiment": self.name}

    def chosen(self, folds: int) -> Sequence[int]:
        """The folds that are trained and tested, of as many as the split has.

        Raises:
            UserError: when the split has no such fold.
        """
        for fold in self.only:
            if not 0 <= fold < folds:
                raise UserError(f"fold {fold}: the split has folds 0 to {folds - 1}")
        return self.only or range(folds)

    def rounds(self, folds: int) -> Iterator[list[Task]]:
        """All chains in rounds; no two chains of a round train the same prefix. The first seed comes first."""
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
                yield [Task(fold, seed, chain) for chain in chosen for fold in self.chosen(folds)]
                trained |= claimed
                waiting = [chain for chain in waiting if chain not in chosen]


def ablation_plan(
    path: str | Path | None = None,
    network: str = "cpu",
    seeds: int | None = None,
    precision: str = "float32",
    fold: Sequence[int] = (),
) -> Plan:
    """Read the plan in `ablations.yaml`, or in another file of this form; the file's name is the experiment's name.

    Args:
        path: the other file.
        network: cpu, base or large.
        seeds: repetitions of every variant, instead of the plan's.
        precision: of the trainings' convolutions, float32 or bfloat16.
        fold: the folds to train and test; none named: all.

    Raises:
        UserError: when the file is not a plan, or a variant names an unknown step.
    """
    file = Path(path or Path(__file__).with_name("ablations.yaml"))
    chosen = {"plan": path, "seeds": seeds, "network": None if network == "cpu" else network, "precision": precision}
    only = tuple(sorted(set(fold)))
    words = [f"--{name} {value}" for name, value in chosen.items() if value]
    command = " ".join(["ablate", *words, *(f"--fold {number}" for number in only)])
    try:
        content = yaml.safe_load(file.read_text())
        chains = {name: (v["steps"], v["seeds"], v["description"]) for name, v in content["variants"].items()}
        variants = {
            name: Variant(tuple(steps), seeds or n, description) for name, (steps, n, description) in chains.items()
        }
        common = {**content["common"], "precision": precision}
        folds, steps, reference = content["folds"], content["steps"], content["reference"]
        audited = tuple(content["audited"]) if "audited" in content else None
        return Plan(folds, common, steps, variants, reference, network, file.stem, command, None, only, audited)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UserError(f"{file}: not a plan as bundle/workflows/ablations.yaml: {reason}") from None


def cross_validation_plan(
    preset: str,
    folds: int,
    seeds: int,
    network: str = "cpu",
    precision: str = "float32",
    image_folds: int | None = None,
    sources: Sequence[str] = (),
    fold: Sequence[int] = (),
    brains: bool = False,
    modalities: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    tumor_types: Sequence[str] | None = None,
) -> Plan:
    """The three stages of a preset, and its first stage alone, in every fold, without a validation fold.

    Args:
        preset: how long each stage trains.
        folds: of the volumes; the number of patients gives leave-one-patient-out.
        seeds: repetitions.
        network: cpu, base or large.
        precision: of the trainings' convolutions, float32 or bfloat16.
        image_folds: of the images; None: as many.
        sources: training data; all if empty. The others are only tested.
        fold: the folds to train and test; none named: all.
        brains: whether the store has the brains of heads, to train on them alone too.
        modalities: sequences of volumes, as channels; None: FLAIR alone.
        regions: of the tumor, as masks; None: the whole tumor alone.
        tumor_types: that are told apart; None: none.
    """
    steps = {name: {"overlays": stages.OVERLAYS[name], "settings": PRESETS[preset][name]} for name in stages.OVERLAYS}
    variants = {
        "recipe": Variant(tuple(steps), seeds, "three stages"),
        "stage_1": Variant(tuple(steps)[:1], seeds, "segmentation alone"),
    }
    chosen = {"preset": preset, "folds": folds, "image-folds": image_folds, "seeds": seeds}
    chosen |= {"modalities": ",".join(modalities or ()), "regions": ",".join(regions or ())}
    chosen |= {"tumor-types": ",".join(tumor_types or ())}
    chosen |= {"network": None if network == "cpu" else network, "precision": precision}
    words = [f"--{name} {value}" for name, value in chosen.items() if value]
    words += ["--brains"] if brains else []
    only = tuple(sorted(set(fold)))
    words += [f"--fold {number}" for number in only]
    command = " ".join(["crossvalidate", *words, *(f"--learn-from {source}" for source in sources)])
    common = {"validation": False, "num_workers": 0, "precision": precision, "sources": list(sources) or None}
    common |= {"modalities": list(modalities)} if modalities else {}
    common |= {"regions": list(regions)} if regions else {}
    common |= {"tumor_types": list(tumor_types)} if tumor_types else {}
    return Plan(folds, common, steps, variants, "recipe", network, CROSS_VALIDATION, command, image_folds, only)


def nested_plan(
    path: str | Path,
    folds: int,
    network: str = "cpu",
    precision: str = "float32",
    image_folds: int | None = None,
    sources: Sequence[str] = (),
    fold: Sequence[int] = (),
    brains: bool = False,
) -> Plan:
    """The variants of a file to choose among in every outer fold; see `nested` and, for the arguments, the plans above.

    Raises:
        UserError: when the file is not a plan, or a variant names an unknown step.
    """
    plan = ablation_plan(path, network, 1, precision)
    only = tuple(sorted(set(fold)))
    words = [f"--choose-from {path}", f"--folds {folds}"] + ([f"--image-folds {image_folds}"] if image_folds else [])
    words += [f"--network {network}"] if network != "cpu" else []
    words += [f"--precision {precision}", *(["--brains"] if brains else []), *(f"--fold {number}" for number in only)]
    words += [f"--learn-from {source}" for source in sources]
    common = {**plan.common, **({"sources": list(sources)} if sources else {})}
    command = " ".join(["crossvalidate", *words])
    return replace(plan, folds=folds, image_folds=image_folds, only=only, common=common, command=command)
