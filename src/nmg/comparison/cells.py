"""The cells of a comparison, and the folder that keeps them.

A cell is one (masking, seed, number of labels, adaptation steps): adapt, fine-tune, score. Each is a file of its own,
written when it is done; a comparison that was killed finds it there and goes on.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from nmg.errors import Diverged, bad_input
from nmg.files import write_text
from nmg.runs.inputs import check_origin

Labelled: TypeAlias = int | Literal["all"] | None
"""labelled examples to fine-tune on (of each class in a classification); None: as the configuration says"""


@dataclass(frozen=True)
class Setting:
    """A point on the learning curves. Maskings are compared within a setting."""

    labelled: Labelled = None
    adapt_steps: int | None = None
    """None: as many as `adapt.epochs` gives"""


@dataclass(frozen=True)
class CellKey:
    masking: str
    seed: int
    setting: Setting

    @property
    def name(self) -> str:
        """The name of the cell's file, without its ending: 'random.seed-0.labelled-16.steps-50'."""
        parts = [slug(self.masking), f"seed-{self.seed}"]
        if self.setting.labelled is not None:
            parts.append(f"labelled-{self.setting.labelled}")
        if self.setting.adapt_steps is not None:
            parts.append(f"steps-{self.setting.adapt_steps}")
        return ".".join(parts)


def slug(masking: str) -> str:
    """A masking's name as a file may be named; a masking may be named by its folder.

    >>> slug("0.5*idf+random"), slug("idf*"), slug("runs/a/policy")
    ('0.5-of-idf-and-random', 'idf-tuned', 'runs-a-policy')
    """
    shares = re.sub(r"([\d.]+)\s*\*\s*(?=\w)", r"\1-of-", masking)  # of a mixture
    name = re.sub(r"\s*\+\s*", "-and-", shares).replace("*", "-tuned")
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "policy"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one masking scored under one seed, and what it cost.

    `seconds` are as if the cell stood alone: of an adaptation that several share, all. `adapt`, in it `masks` (the
    drawing of masks), `finetune`, `evaluate`, and their `total`; apart from these `held_out`.
    """

    masking: str
    seed: int
    scores: Mapping[str, float]
    """metric name → score on the test set"""
    lm_loss: float | None
    """mean masked-LM loss over the last epoch of the adaptation; None without adaptation"""
    lm_steps: int
    task_steps: int
    masked_tokens: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    labelled: Labelled = None
    adapt_steps: int | None = None
    n_labelled: int
    """labelled examples fine-tuned on, all classes together"""
    tokens: int
    """tokens read in the adaptation, special tokens included, padding not"""
    held_out_loss: float | None
    """mean masked-LM loss on held-out text under fixed random masks; None where there is no held-out text"""
    origin: Mapping[str, str] = field(default_factory=dict)
    """digests of all that gives the cell (`Origins.of`)"""
    circumstances: Mapping[str, str] = field(default_factory=dict)
    """what may have rounded it otherwise (`Runtime.circumstances`)"""

    @property
    def total_seconds(self) -> float:
        return self.seconds["total"]

    @property
    def key(self) -> CellKey:
        return CellKey(self.masking, self.seed, Setting(self.labelled, self.adapt_steps))

    def check_finite(self) -> None:
        """Raises Diverged, naming it, for a number that is none."""
        numbers = {**self.scores, "lm_loss": self.lm_loss, "held_out_loss": self.held_out_loss}
        for name, value in numbers.items():
            if value is not None and not math.isfinite(value):
                raise Diverged(f"{name} is {value}: the training diverged")


@dataclass(frozen=True)
class CellEvent:
    """One cell is done, was there already, or failed."""

    key: CellKey
    cell: Cell | None = None
    problem: str | None = None
    was_there: bool = False

    def line(self) -> str:
        """For the terminal."""
        if self.cell is None:
            return f"{self.key.name}  failed: {self.problem}"
        score = "  ".join(f"{name} {value:.4f}" for name, value in self.cell.scores.items())
        return f"{self.key.name}  {score}  {self.cell.total_seconds:.0f} s"


@dataclass(frozen=True)
class Origins:
    """What the cells of a comparison are made from."""

    common: Mapping[str, str]
    """setting, data, model → digest; the same for all cells"""
    of_maskings: Mapping[str, Mapping[str, str]]
    """masking → its identity (`policies.named.masking_identity`)"""

    def of(self, masking: str) -> dict[str, str]:
        """The origin of the cells of a masking."""
        return {**self.common, **self.of_maskings[masking]}

    def check(self, out: Path, file: str, cell: Cell) -> None:
        """Raises UserError for a cell that was made from something else.

        Args:
            out: the folder of the comparison.
            file: the name of the cell's file.
            cell: one of the folder, of a masking that is compared now or of another.
        """
        then = cell.origin
        if cell.masking not in self.of_maskings:
            then = {name: digest for name, digest in then.items() if name in self.common}
            check_origin(out, file, then, self.common)
        else:
            check_origin(out, file, then, self.of(cell.masking))


class CellFolder:
    """`cells/` of a comparison: a file for each finished cell, and one for each that failed."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "cells"

    def load(self, keys: Iterable[CellKey], origins: Origins) -> dict[CellKey, Cell]:
        """The finished ones of these cells.

        Raises UserError for a cell in the folder, wanted or not, that was made from anything but `origins`.
        """
        found = {}
        for path, cell in self.finished():
            origins.check(self.out, path.name, cell)
            found[cell.key] = cell
        return {key: found[key] for key in keys if key in found}

    def finished(self) -> Iterator[tuple[Path, Cell]]:
        """All that are there, whatever gave them. Raises UserError for a file that is damaged."""
        for path in sorted(self.folder.glob("[!.]*.json")):  # what a kill left half-written begins with a dot
            yield path, _read(path)

    def save(self, cell: Cell) -> None:
        """Keep a finished cell; what an earlier try left of an error goes."""
        write_text(self._path(cell.key, "json"), json.dumps(asdict(cell), indent=1, allow_nan=False) + "\n")
        self._path(cell.key, "error.txt").unlink(missing_ok=True)

    def save_error(self, key: CellKey, traceback: str) -> None:
        write_text(self._path(key, "error.txt"), traceback)

    def _path(self, key: CellKey, ending: str) -> Path:
        return self.folder / f"{key.name}.{ending}"


_CELL = TypeAdapter(Cell)


def _read(path: Path) -> Cell:
    try:
        return _CELL.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise bad_input(path, "is not the file of a cell; remove it to have the cell run again") from error
