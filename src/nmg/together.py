"""Whether this process is one of several that train together (`accelerate launch`): they share every training batch.

Each does everything else for itself, from the same settings, data and randomness; the first one alone speaks and
writes. What can fail on one of them alone (writing, memory) must fail on all, or the others wait for gradients that
never come: see `as_one`. What only the first one knows (its disk) it tells the others: see `from_first`.

Processes *meet* at the end of every such step, and wherever one fails, by the same exchange. So a process that fails
meets the others at the next step that they end, and all raise together. An exchange of tensors must follow a meeting
directly, so that no process can fail between the two.
"""

import functools
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from nmg.errors import UserError, problem_line

Value = TypeVar("Value")


class FailedTogether(UserError):  # noqa: N818 it says what happened to the processes
    """What failed on one or several of the processes that train together; all of them raise it."""

    def __init__(self, message: str, problem: str, report: str) -> None:
        super().__init__(message)
        self.problem = problem
        """in one line, with the types of the errors"""
        self.report = report
        """tracebacks of the processes that failed"""


@dataclass(frozen=True)
class _Failure:
    """What a process tells the others of its error."""

    message: str
    problem: str
    report: str

    @classmethod
    def of(cls, error: Exception) -> "_Failure":
        problem, report = described(error)
        return cls(str(error) if isinstance(error, UserError) else f"{problem}\n{report}", problem, report)


def described(error: Exception) -> tuple[str, str]:
    """(the error in one line, its traceback); those of the processes that failed if it is a `FailedTogether`."""
    if isinstance(error, FailedTogether):
        return error.problem, error.report
    return problem_line(error), "".join(traceback.format_exception(error))


def train_together() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """True, too, of a process that trains alone."""
    return not train_together() or os.environ.get("RANK", "0") == "0"


@contextmanager
def as_one() -> Iterator[None]:
    """Make a step fail in all processes if it fails in one, at the end of the step.

    Steps may contain steps. In a process that trains alone, and before processes are joined, errors stay as they are.
    Raises FailedTogether.
    """
    try:
        yield
    except FailedTogether:
        raise
    except Exception as error:
        _meet(_Failure.of(error))
        raise
    else:
        _meet(None)


def from_first(value: Value) -> Value:
    """What the first process has as `value`, in all of them."""
    if not _are_joined():
        return value
    import torch.distributed as dist

    _meet(None)
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0, group=_group())
    return box[0]  # type: ignore[no-any-return]


def check_same(facts: Mapping[str, str]) -> None:
    """Raises UserError, with their names, in all processes if facts (name → digest) differ from those of the first."""
    if not _are_joined():
        return
    of_all = _gathered(dict(facts))
    names = dict.fromkeys(name for one in of_all for name in one)
    differing = [name for name in names if len({one.get(name) for one in of_all}) > 1]
    if differing:
        raise UserError(f"{', '.join(differing)}: not the same for all processes that train together")


def _meet(failure: _Failure | None) -> None:
    """Wait for the other processes. Raises FailedTogether in all of them if one brings a failure."""
    if not _are_joined():
        return
    import torch
    import torch.distributed as dist

    some_failed = torch.tensor([failure is not None], dtype=torch.int32)
    dist.all_reduce(some_failed, group=_group())
    if some_failed.item():
        _fail(_exchanged(failure))


def _fail(failures: Sequence[_Failure | None]) -> NoReturn:
    """Raise what the processes, in their order, bring."""

    def joined(of_each: Sequence[str | None]) -> str:
        texts = dict.fromkeys(text for text in of_each if text is not None)
        numbers = {text: [str(n) for n, one in enumerate(of_each) if one == text] for text in texts}
        where = {text: f" (process {', '.join(of)} of {len(of_each)})" for text, of in numbers.items()}
        return "; ".join(text + (where[text] if len(numbers[text]) < len(of_each) else "") for text in texts)

    messages, problems, reports = (
        [None if one is None else getattr(one, name) for one in failures] for name in ("message", "problem", "report")
    )
    report = "\n".join(f"process {number}:\n{one}" for number, one in enumerate(reports) if one is not None)
    raise FailedTogether(joined(messages), joined(problems), report)


def _gathered(value: Value) -> list[Value]:
    """The value of each process, in their order."""
    _meet(None)
    return _exchanged(value)


def _exchanged(value: Value) -> list[Value]:
    import torch.distributed as dist

    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value, group=_group())
    return found


def _are_joined() -> bool:
    if not train_together():
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


@functools.cache
def _group() -> Any:
    """Processes meet on the CPU, so that no GPU is waited for; None is the group of all, if it is there already."""
    import torch.distributed as dist

    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
