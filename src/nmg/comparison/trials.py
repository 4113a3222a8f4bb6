"""The cells of a comparison, and the folder that stores them.

A cell is one (masking, seed, number of labels, adaptation steps): adapt, fine-tune, score. Each has its own file,
written when the cell is done. An interrupted comparison continues from these files.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from nmg.base.errors import Diverged, bad_input
from nmg.base.files import write_text
from nmg.trials.provenance import check_provenance

Labelled: TypeAlias = int | Literal["all"] | None
"""Number of labelled examples to fine-tune on (per class in a classification). None: as the configuration says."""


@dataclass(frozen=True)
class Condition:
    """A point on the learning curves. Maskings are compared only within the same condition."""

    labelled: Labelled = None
    adapt_steps: int | None = None
    """Number of adaptation steps. None: the number that `adapt.epochs` gives."""


@dataclass(frozen=True)
class CellKey:
    """Identifies one cell of a comparison."""

    masking: str
    seed: int
    condition: Condition

    @property
    def name(self) -> str:
        """Name of the cell's file without its extension, e.g. 'random.seed-0.labelled-16.steps-50'."""
        parts = [slug(self.masking), f"seed-{self.seed}"]
        if self.condition.labelled is not None:
            parts.append(f"labelled-{self.condition.labelled}")
        if self.condition.adapt_steps is not None:
            parts.append(f"steps-{self.condition.adapt_steps}")
        return ".".join(parts)


def slug(masking: str) -> str:
    """Turn a masking's name, which may be the path of a folder, into a valid file name.

    >>> slug("0.5*idf+random"), slug("idf*"), slug("runs/a/policy")
    ('0.5-of-idf-and-random', 'idf-tuned', 'runs-a-policy')
    """
    shares = re.sub(r"([\d.]+)\s*\*\s*(?=\w)", r"\1-of-", masking)  # weights of a mixture
    name = re.sub(r"\s*\+\s*", "-and-", shares).replace("*", "-tuned")
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "policy"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The scores and the cost of one masking under one seed.

    `seconds` count a shared adaptation in full for each cell that uses it. Keys: `adapt` (which includes `masks`, the
    drawing of masks), `finetune`, `evaluate` and their sum `total`; `held_out` is not part of `total`.
    """

    masking: str
    seed: int
    scores: Mapping[str, float]
    """Metric name → score on the test set."""
    lm_loss: float | None
    """Mean masked-LM loss over the last epoch of the adaptation, in nats; None without adaptation."""
    lm_steps: int
    """Number of optimizer steps of the adaptation."""
    task_steps: int
    """Number of optimizer steps of the fine-tuning."""
    masked_tokens: int
    """Number of tokens masked in the adaptation."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Phase → wall time, in seconds (see the class)."""
    labelled: Labelled = None
    adapt_steps: int | None = None
    n_labelled: int
    """Number of labelled examples used for fine-tuning, summed over classes."""
    tokens: int
    """Number of tokens read in the adaptation, including special tokens but not padding."""
    held_out_loss: float | None
    """Mean masked-LM loss on held-out text under fixed random masks, in nats; None without held-out text."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Digests of everything that determines the cell (`Origins.of`)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Properties of the environment that affect rounding (`Runtime.environment`)."""

    @property
    def total_seconds(self) -> float:
        """Wall time of adaptation, fine-tuning and evaluation, in seconds."""
        return self.seconds["total"]

    @property
    def key(self) -> CellKey:
        """The key that identifies the cell."""
        return CellKey(self.masking, self.seed, Condition(self.labelled, self.adapt_steps))

    def check_finite(self) -> None:
        """Raise Diverged, with the name of the number, if a score or a loss is not finite."""
        numbers = {**self.scores, "lm_loss": self.lm_loss, "held_out_loss": self.held_out_loss}
        for name, value in numbers.items():
            if value is not None and not math.isfinite(value):
                raise Diverged(f"{name} is {value}: the training diverged")


@dataclass(frozen=True)
class CellEvent:
    """Reports that one cell is done, was already there, or failed."""

    key: CellKey
    cell: Cell | None = None
    problem: str | None = None
    """What went wrong; None if the cell did not fail."""
    was_there: bool = False
    """Whether an earlier call finished the cell."""

    def line(self) -> str:
        """One line about the cell, for the terminal."""
        if self.cell is None:
            return f"{self.key.name}  failed: {self.problem}"
        score = "  ".join(f"{name} {value:.4f}" for name, value in self.cell.scores.items())
        return f"{self.key.name}  {score}  {self.cell.total_seconds:.0f} s"


@dataclass(frozen=True)
class Origins:
    """The provenance of the cells of a comparison."""

    common: Mapping[str, str]
    """Name of a condition, data file or model → digest; the same for all cells."""
    of_maskings: Mapping[str, Mapping[str, str]]
    """Masking → its identity (`policies.named.masking_identity`)."""

    def of(self, masking: str) -> dict[str, str]:
        """The provenance of the cells of `masking`: name → digest."""
        return {**self.common, **self.of_maskings[masking]}

    def check(self, out: Path, file: str, cell: Cell) -> None:
        """Check that a cell was made from the inputs of this comparison.

        Args:
            out: The folder of the comparison.
            file: The name of the cell's file.
            cell: A cell of the folder. Its masking may be absent from this comparison.

        Raises:
            UserError: The cell was made from other inputs.
        """
        then = cell.provenance
        if cell.masking not in self.of_maskings:
            then = {name: digest for name, digest in then.items() if name in self.common}
            check_provenance(out, file, then, self.common)
        else:
            check_provenance(out, file, then, self.of(cell.masking))


class CellFolder:
    """The folder `cells/` of a comparison: one file per finished cell, and one per failed cell."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / "cells"

    def load(self, keys: Iterable[CellKey], provenances: Origins) -> dict[CellKey, Cell]:
        """The finished cells among `keys`.

        Raises UserError if any cell in the folder, requested or not, was made from inputs other than `origins`.
        """
        found = {}
        for path, cell in self.finished():
            provenances.check(self.out, path.name, cell)
            found[cell.key] = cell
        return {key: found[key] for key in keys if key in found}

    def finished(self) -> Iterator[tuple[Path, Cell]]:
        """Yield every finished cell with its path, whatever its provenance. Raises UserError for a damaged file."""
        for path in sorted(self.folder.glob("[!.]*.json")):  # names of partially written files begin with a dot
            yield path, _read(path)

    def save(self, cell: Cell) -> None:
        """Save a finished cell, and delete the error report of an earlier attempt."""
        write_text(self._path(cell.key, "json"), json.dumps(asdict(cell), indent=1, allow_nan=False) + "\n")
        self._path(cell.key, "error.txt").unlink(missing_ok=True)

    def save_error(self, key: CellKey, traceback: str) -> None:
        """Save the traceback of a failed cell."""
        write_text(self._path(key, "error.txt"), traceback)

    def _path(self, key: CellKey, ending: str) -> Path:
        return self.folder / f"{key.name}.{ending}"


_CELL = TypeAdapter(Cell)


def _read(path: Path) -> Cell:
    try:
        return _CELL.validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise bad_input(path, "is not the file of a cell; remove it to run the cell again") from error
