"""`nmg.check_collator`: tests any collator for masked language models, with rows whose tokens are known."""

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError, problem_line, shown
from nmg.collation.check_rows import Comparison, RowCounts, tokenized, vocabulary_texts
from nmg.collation.claims import Claims
from nmg.collation.repeats import FEWEST_MASKS, Collate, Repeats, collated, find_repeats
from nmg.collation.verdicts import Check, Verdict, check_counts, of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RAISED = re.compile(r"[\w.]+(Error|Exception|Warning): .")
"""Matches the line of a traceback that names the exception."""


@dataclass(frozen=True)
class CollatorReport:
    """The results of all checks of one collator."""

    collator: str
    """Name of the collator."""
    text: str
    """Description of the source of the rows."""
    rows: int
    epochs: int
    workers: int
    checks: tuple[Check, ...]

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that found a fault."""
        return tuple(check for check in self.checks if check.verdict == "fault")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as content of a JSON file."""
        return {**asdict(self), "faults": len(self.faults)}


@dataclass(frozen=True)
class LoaderOptions:
    """Options by which a check passes rows to a collator."""

    workers: int = 2
    epochs: int = 2
    batch_size: int = 16
    max_length: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UserError for an invalid value."""
        least = {"workers": 0, "epochs": 2, "batch_size": 1, "max_length": 8, "seed": 0}
        for name, value in vars(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < least[name]:
                raise UserError(f"check-collator, {name}: must be a whole number ≥ {least[name]}, not {shown(value)}")


def check_collator(
    collator: Any,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    texts: Iterable[str] | None = None,
    rate: float | None = None,
    whole_words: bool = False,
    name: str | None = None,
    **options: int,
) -> CollatorReport:
    """Check what a collator for masked language models really does.

    Args:
        collator: a collator (rows → a batch), or a factory. A factory is a class, or a function whose first parameter
            is named `tokenizer`; it returns a collator. Each part of the check uses a new collator or copy.
        tokenizer: a fast tokenizer with a mask token.
        texts: the texts of the rows. Without them, texts are random pieces of the vocabulary.
        rate: fraction of tokens that should be masked. Without it, the claim of the collator counts:
            `mlm_probability`, or the rate of a `MaskingCollator`.
        whole_words: whether a cut word is a fault.
        name: name of the collator in the report.
        options: `workers=2` (0 skips their checks), `epochs=2`, `batch_size=16`, `max_length=128` tokens per row,
            `seed=0` of the texts and of the global random generators.

    Returns:
        The report; its `faults` are empty if the collator is sound.

    Raises:
        UserError: If an option is invalid, or if the collator fails or does not return the rows that it was given.

    Example:
        ```python
        report = nmg.check_collator(DataCollatorForLanguageModeling(tokenizer, seed=0), tokenizer)
        print([check.sentence for check in report.faults])
        ```
    """
    try:
        loader = LoaderOptions(**options)
    except TypeError:
        raise UserError(f"check-collator: options are {', '.join(vars(LoaderOptions()))}") from None
    if rate is not None and not 0.0 < rate < 1.0:
        raise UserError(f"check-collator, rate: must be a number between 0 and 1, not {shown(rate)}")
    name = name or str(getattr(collator, "__name__", type(collator).__name__))
    new = _factory(collator, tokenizer, name)
    first = new()
    given = vocabulary_texts(tokenizer, loader.seed) if texts is None else texts
    has_offsets = bool(getattr(first, "whole_word_mask", False))
    rows = tokenized(given, tokenizer, loader.max_length, with_offsets=has_offsets)
    comparison, claims = Comparison(tokenizer, name), Claims.of(first, rate)
    with _failures_named(name):
        counts = _counts(first, rows, comparison, loader)
        of_epochs = counts.epochs(loader.epochs)
        checks = list(check_counts(of_epochs, counts.rows(len(rows)), claims, whole_words=whole_words))
        checks += _repeats(new, rows[: loader.batch_size], comparison, claims, loader)
    source = "random pieces of the vocabulary" if texts is None else "the given text"
    return CollatorReport(name, source, len(rows), loader.epochs, loader.workers, tuple(checks))


def _factory(collator: Any, tokenizer: "PreTrainedTokenizerBase", name: str) -> Callable[[], Collate]:
    """Return the function that makes a new collator. Raises UserError if `collator` is neither collator nor factory."""
    if not callable(collator):
        raise UserError(f"{name}: must be a collator or a function that returns one, not {shown(collator)}")

    def made() -> Collate:
        try:
            new = collator(tokenizer)
        except Exception as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{name}: cannot make a collator ({problem_line(error)})") from error
        if not callable(new):
            raise UserError(f"{name}: must return a collator, not {shown(new)}")
        return new  # type: ignore[no-any-return]

    def copied() -> Collate:
        try:
            return copy.deepcopy(collator)  # type: ignore[no-any-return]
        except Exception as error:
            raise UserError(f"{name}: cannot be copied ({problem_line(error)}). Pass a factory instead.") from error

    return made if _is_factory(collator) else copied


def _is_factory(collator: Callable[..., Any]) -> bool:
    """Return whether `collator` is a class, or its first parameter is named `tokenizer`."""
    if inspect.isclass(collator):
        return True
    try:
        return next(iter(inspect.signature(collator).parameters), None) == "tokenizer"
    except (TypeError, ValueError):  # some built-in callables have no signature
        return False


@contextmanager
def _failures_named(name: str) -> Iterator[None]:
    """Convert an exception of the collator into a UserError that names the collator."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name}: failed on a batch of tokenized rows ({problem_line(error)}). If it is a function that returns a "
            "collator, name its first parameter `tokenizer`."
        ) from error


def _counts(
    collate: Collate, rows: Sequence[Mapping[str, Any]], comparison: Comparison, loader: LoaderOptions
) -> RowCounts:
    """Count what the collator does with each row in all epochs.

    Args:
        collate: The collator.
        rows: The rows.
        comparison: Compares batches with rows.
        loader: Number of epochs, batch size and seed.

    Returns:
        The counts of all rows, one epoch after the other.
    """
    size = loader.batch_size
    return RowCounts.joined(
        [
            comparison.counts(batch, rows[number * size : (number + 1) * size])
            for _, number, batch in collated(collate, rows, size, loader.epochs, seed=loader.seed)
        ]
    )


def _repeats(
    new: Callable[[], Collate],
    rows: Sequence[Mapping[str, Any]],
    comparison: Comparison,
    claims: Claims,
    loader: LoaderOptions,
) -> Iterator[Check]:
    """Check for repeated masks: in one process, with workers, and with workers that are kept between epochs.

    Args:
        new: Makes a new collator.
        rows: The rows of every batch.
        comparison: Returns the columns of a batch.
        claims: Claims of the collator.
        loader: Number of epochs, number of workers and seed.

    Yields:
        The checks.
    """
    epochs, seed = loader.epochs, loader.seed
    alone = find_repeats(new(), rows, comparison.columns, epochs=epochs, seed=seed)
    yield _repeat("repeats between epochs", alone.of_epochs, alone.later_epochs, [alone], claims)
    of_workers = []
    for kind, is_kept in (("new workers", False), ("persistent workers", True)) if loader.workers else ():
        name = f"repeats between epochs, {kind}"
        try:
            found = find_repeats(
                new(), rows, comparison.columns, epochs=epochs, workers=loader.workers, is_persistent=is_kept, seed=seed
            )
        except Exception as error:  # whatever a collator raises is the result of the check
            lines = str(error).strip().splitlines()
            reason = next((line for line in lines if _RAISED.match(line)), lines[0])
            yield Check(name, "fault", f"Worker processes fail: {reason}", 1, 1)
            continue
        yield _repeat(name, found.of_epochs, found.later_epochs, [found], claims)
        of_workers.append(found)
    if of_workers and loader.workers > 1:
        count, total = (sum(getattr(one, name) for one in of_workers) for name in ("of_workers", "later_workers"))
        yield _repeat("repeats between workers", count, total, of_workers, claims)


def _repeat(name: str, count: int, total: int, found: Sequence[Repeats], claims: Claims) -> Check:
    """Return the check that `count` of `total` batches repeat the masks of another epoch or worker.

    Args:
        name: Name of the check. It contains "epoch" if batches of different epochs were compared.
        count: Number of batches that repeat masks.
        total: Number of batches that were compared.
        found: The counts that `count` and `total` come from.
        claims: Claims of the collator. Repeated masks are no fault if it has fixed masks.

    Returns:
        The check.
    """
    is_epoch = "epoch" in name
    where = "after the first epoch" if is_epoch else "of the other workers"
    have = "has" if count == 1 else "have"
    sentence = (
        f"{of(count, total)} batches {where} {have} exactly the masks of another {'epoch' if is_epoch else 'worker'}."
    )
    verdict: Verdict = "fault" if count else "ok"
    if count and claims.is_fixed:
        verdict, sentence = "note", f"{sentence} The collator has fixed=True."
    elif min(one.fewest_masks for one in found) < FEWEST_MASKS:
        fewest = min(one.fewest_masks for one in found)
        verdict, sentence = "note", f"A batch has {fewest} masks, too few to compare batches."
    return Check(name, verdict, sentence, count, total)
