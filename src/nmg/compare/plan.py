"""What a comparison compares: maskings, seeds, and points on the learning curves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nmg.compare.cells import CellKey, Labelled, Setting, slug
from nmg.config import Config
from nmg.errors import UserError
from nmg.masking.registry import RULES


@dataclass(frozen=True)
class Plan:
    maskings: Sequence[str]
    """rules and folders of policies, in the order of tables"""
    policies: Mapping[str, Path]
    """further maskings, learned, by name"""
    seeds: Sequence[int]
    labelled: Sequence[Labelled] = (None,)
    adapt_steps: Sequence[int | None] = (None,)

    @property
    def names(self) -> list[str]:
        return [*self.maskings, *self.policies]

    @property
    def learned(self) -> dict[str, Path]:
        """Every masking that is a policy, name → folder."""
        return {name: Path(name) for name in self.maskings if name not in RULES} | dict(self.policies)

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

    def check(self) -> None:
        """Raises UserError for maskings that cannot stand beside each other."""
        if "neural" in self.maskings:
            raise UserError("--maskings neural: name trained policies with --policies RUN or --policies NAME=RUN")
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


def with_labels(config: Config, labelled: Labelled) -> Config:
    """The settings with so many labelled examples: of each class in a classification, in all for questions."""
    if labelled is None:
        return config
    counts: dict[str, int | None] = {"labelled_per_class": None, "labelled_examples": None}
    if labelled != "all":
        counts["labelled_per_class" if config.data.task == "classification" else "labelled_examples"] = labelled
    return config.model_copy(update={"data": config.data.model_copy(update=counts)})
