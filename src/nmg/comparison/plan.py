"""The plan of a comparison: maskings, seeds, and points on the learning curves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Self

from nmg.base.errors import UserError
from nmg.base.files import is_folder
from nmg.base.settings import DataSettings, Evaluation
from nmg.base.trial import Condition, Labelled, TrialSpec, slug
from nmg.masking.names import LEARNED
from nmg.masking.registry import RULES
from nmg.policies.maskings import CONTROLS, control_folder
from nmg.tasks import load


@dataclass(frozen=True)
class Plan:
    """The maskings, seeds and conditions of a comparison."""

    maskings: Mapping[str, Path | None]
    """Name → folder of a policy, or None for a rule; in the order of tables."""
    seeds: Sequence[int]
    labelled: Sequence[Labelled] = (None,)
    """Numbers of labelled examples, one per point on the learning curve; None: as the configuration says."""
    adapt_steps: Sequence[int | None] = (None,)
    """Numbers of adaptation steps, one per point on the learning curve; None: as the configuration says."""
    lora_ranks: Sequence[int | None] = (None,)
    """Ranks of LoRA, 0 for training the whole model; None: as the configuration says."""
    evaluation: Evaluation = "finetune"

    @classmethod
    def of(cls, names: Sequence[str], policies: Mapping[str, Path], seeds: Sequence[int], **curves: Any) -> Self:
        """Build a plan from names as a user gives them.

        Args:
            names: Rules, controls, folders of policies, or keys of `policies`.
            policies: Name → folder of a learned policy. Policies that are not among `names` come last.
            seeds: The seeds of every masking.
            **curves: `labelled`, `adapt_steps` and `lora_ranks`.

        Returns:
            The plan.

        Raises:
            UserError: A policy is missing, or two maskings would have the same file name.
        """
        if LEARNED in names and LEARNED not in policies:
            raise UserError(f"--maskings {LEARNED}: name the trained policy (--policy RUN, or --policies NAME=RUN)")
        folders = {name: Path(name) for name in names if name not in RULES and is_folder(name)} | dict(policies)
        folders |= {name: control_folder(name, policies) for name in names if name in CONTROLS}
        plan = cls({name: folders.get(name) for name in [*names, *policies]}, seeds, **curves)
        plan._check()
        return plan

    @property
    def names(self) -> list[str]:
        """The names of all maskings, in the order of tables."""
        return list(self.maskings)

    @property
    def learned(self) -> dict[str, Path]:
        """Name → folder, for every masking that is a policy."""
        return {name: folder for name, folder in self.maskings.items() if folder is not None}

    @property
    def settings(self) -> list[Condition]:
        """The conditions: all combinations of `labelled`, `adapt_steps` and `lora_ranks`."""
        return [Condition(*each) for each in product(self.labelled, self.adapt_steps, self.lora_ranks)]

    def adaptations(self) -> Iterator[list[TrialSpec]]:
        """Yield the trials in groups that share an adaptation.

        The outermost loop is over seeds, so an interrupted comparison has complete seeds. The masking `none` does not
        adapt, so it has one group per seed.
        """
        for seed in self.seeds:
            for name in self.names:
                adaptations = product(self.adapt_steps, self.lora_ranks) if name != "none" else [(None, None)]
                for steps, rank in adaptations:
                    conditions = [Condition(labelled, steps, rank) for labelled in self.labelled]
                    yield [TrialSpec(name, seed, one, evaluation=self.evaluation) for one in conditions]

    def specs(self) -> list[TrialSpec]:
        """Return all trials, in the order of `adaptations`."""
        return [spec for specs in self.adaptations() for spec in specs]

    def _check(self) -> None:
        """Raise UserError if two maskings would have the same file name."""
        by_slug: dict[str, str] = {}
        for name in self.names:
            key = slug(name).lower()  # used as a file name, which may be case-insensitive
            if key in by_slug:
                raise UserError(
                    f"the maskings '{by_slug[key]}' and '{name}' would share a file; rename one: --policies NAME=FOLDER"
                )
            by_slug[key] = name


def parse_labelled(words: str) -> list[Labelled]:
    """Parse numbers of labelled examples: '4,16,all' → [4, 16, 'all'].

    Raises UserError for an empty list, and for words other than positive integers and 'all'.
    """
    return ["all" if word == "all" else _count(word, "--shots", " or 'all'") for word in _split(words, "--shots")]


def parse_steps(words: str) -> list[int]:
    """Parse numbers of steps: '50,100' → [50, 100].

    Raises UserError for an empty list, and for words other than positive integers.
    """
    return [_count(word, "--adapt-steps", "") for word in _split(words, "--adapt-steps")]


def parse_ranks(words: str) -> list[int]:
    """Parse ranks of LoRA: '0,8' → [0, 8]; 0 trains the whole model.

    Raises UserError for an empty list, and for words other than 0 and positive integers.
    """
    return [0 if word == "0" else _count(word, "--lora-ranks", " or 0") for word in _split(words, "--lora-ranks")]


def _split(words: str, option: str) -> list[str]:
    """Return the distinct words of a comma-separated list. Raises UserError, which names `option`, if it has none."""
    split = list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    if not split:
        raise UserError(f"{option}: give at least one number")
    return split


def _count(word: str, option: str, also: str) -> int:
    """Parse a positive integer.

    Args:
        word: The word to parse.
        option: Name of the command-line option, for the message.
        also: Other accepted words, to end the message.

    Returns:
        The number.

    Raises:
        UserError: The word is not a positive integer.
    """
    if not word.isdecimal() or int(word) < 1:
        raise UserError(f"{option}: '{word}' is not a positive integer{also}")
    return int(word)


def with_labels(settings: DataSettings, labelled: Labelled) -> DataSettings:
    """Return the settings with `labelled` as the number of labelled examples; None leaves the settings unchanged."""
    return settings if labelled is None else load.with_labels(settings, None if labelled == "all" else labelled)
