"""What a comparison compares: maskings, seeds, and points on the learning curves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nmg.comparison.cells import CellKey, Labelled, Setting, slug
from nmg.errors import UserError
from nmg.files import is_folder
from nmg.masking.registry import RULES
from nmg.policies.named import CONTROLS, control_folder
from nmg.settings import DataSettings
from nmg.tasks import load


@dataclass(frozen=True)
class Plan:
    maskings: Mapping[str, Path | None]
    """name → folder of a policy, None for a rule; in the order of tables"""
    seeds: Sequence[int]
    labelled: Sequence[Labelled] = (None,)
    adapt_steps: Sequence[int | None] = (None,)

    @classmethod
    def of(cls, names: Sequence[str], policies: Mapping[str, Path], seeds: Sequence[int], **curves: Any) -> Self:
        """`names`: rules, controls, folders of policies, names of `policies`; policies not among them come last.

        Raises UserError for maskings that cannot stand beside each other.
        """
        if "neural" in names and "neural" not in policies:
            raise UserError("--maskings neural: name the trained policy (--policy RUN, or --policies NAME=RUN)")
        folders = {name: Path(name) for name in names if name not in RULES and is_folder(name)} | dict(policies)
        folders |= {name: control_folder(name, policies) for name in names if name in CONTROLS}
        plan = cls({name: folders.get(name) for name in [*names, *policies]}, seeds, **curves)
        plan._check()
        return plan

    @property
    def names(self) -> list[str]:
        return list(self.maskings)

    @property
    def learned(self) -> dict[str, Path]:
        """Every masking that is a policy, name → folder."""
        return {name: folder for name, folder in self.maskings.items() if folder is not None}

    @property
    def settings(self) -> list[Setting]:
        return [Setting(labelled, steps) for labelled in self.labelled for steps in self.adapt_steps]

    def adaptations(self) -> Iterator[list[CellKey]]:
        """The cells, those together that share an adaptation.

        Seeds outermost: an interrupted comparison has whole seeds first. Without masks there are no steps to vary.
        """
        for seed in self.seeds:
            for name in self.names:
                for steps in (None,) if name == "none" else self.adapt_steps:
                    yield [CellKey(name, seed, Setting(labelled, steps)) for labelled in self.labelled]

    def keys(self) -> list[CellKey]:
        return [key for keys in self.adaptations() for key in keys]

    def _check(self) -> None:
        by_slug: dict[str, str] = {}
        for name in self.names:
            key = slug(name).lower()  # a file's name, also where capitals do not count
            if key in by_slug:
                raise UserError(
                    f"the maskings '{by_slug[key]}' and '{name}' cannot be told apart; name one otherwise: "
                    "--policies NAME=FOLDER"
                )
            by_slug[key] = name


def parse_labelled(words: str) -> list[Labelled]:
    """'4,16,all' → [4, 16, 'all']. Raises UserError for anything else."""
    return [
        "all" if word == "all" else _count(word, "--labelled", " or the word all")
        for word in _split(words, "--labelled")
    ]


def parse_steps(words: str) -> list[int]:
    """'50,100' → [50, 100]. Raises UserError for anything else."""
    return [_count(word, "--adapt-steps", "") for word in _split(words, "--adapt-steps")]


def _split(words: str, option: str) -> list[str]:
    """The words, each once. Raises UserError for none."""
    split = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    if not split:
        raise UserError(f"{option}: give at least one number")
    return split


def _count(word: str, option: str, also: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise UserError(f"{option}: '{word}' is none of the numbers from 1{also}")
    return int(word)


def with_labels(settings: DataSettings, labelled: Labelled) -> DataSettings:
    """The settings with so many labelled examples; None: as they are."""
    return settings if labelled is None else load.with_labels(settings, None if labelled == "all" else labelled)
