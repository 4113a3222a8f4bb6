"""Coordination of data-parallel processes (`accelerate launch`), which split every training batch.

Everything else is computed redundantly on every process from the same settings, data and randomness. Only rank 0 logs
and writes files. An error on one process (writing, memory) must be raised on all of them; otherwise the others wait
forever for its gradients: see `as_one`. `from_first` sends values that only rank 0 knows, such as what is on its disk.

Processes synchronise at the end of every `as_one` block and after every failure, with the same collective call. A
process that fails therefore joins the others at the end of their current block, and all of them raise the error. A
collective call on tensors must directly follow a synchronisation, so that no process can fail between the two.
"""

import atexit
import functools
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from nmg.base.errors import UserError, problem_line

Value = TypeVar("Value")


class FailedTogether(UserError):  # noqa: N818 the name says what happened to the processes
    """An error on one or more of the data-parallel processes, raised on all of them."""

    def __init__(self, message: str, problem: str, report: str) -> None:
        """Store the message and its details.

        Args:
            message: message for the user, with the numbers of the processes that failed.
            problem: error types and messages in one line.
            report: tracebacks of the processes that failed.
        """
        super().__init__(message)
        self.problem = problem
        """Error types and messages, in one line."""
        self.report = report
        """Tracebacks of the processes that failed."""


@dataclass(frozen=True)
class _Failure:
    """The description of an error that a process sends to the others."""

    message: str
    problem: str
    report: str

    @classmethod
    def of(cls, error: Exception) -> "_Failure":
        """Return the description of an error."""
        problem, report = described(error)
        return cls(str(error) if isinstance(error, UserError) else f"{problem}\n{report}", problem, report)


def described(error: Exception) -> tuple[str, str]:
    """Return an error as one line of text, and its traceback.

    For a `FailedTogether` both texts describe the errors of all processes that failed.
    """
    if isinstance(error, FailedTogether):
        return error.problem, error.report
    return problem_line(error), "".join(traceback.format_exception(error))


def is_distributed() -> bool:
    """Return whether several data-parallel processes were launched (`WORLD_SIZE` > 1)."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main_process() -> bool:
    """Return whether this process has rank 0 or is the only process."""
    return not is_distributed() or os.environ.get("RANK", "0") == "0"


@functools.cache
def leave_at_exit() -> None:
    """Destroy the process group when the program ends. Otherwise a thread of the group could abort the process."""
    atexit.register(_leave)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def as_one() -> Iterator[None]:
    """Raise an error that occurs on one process in the block on all processes, at the end of the block.

    Blocks may be nested. Raises FailedTogether. If there is only one process or no initialised process group, the error
    is left unchanged.
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
    """Return the `value` of rank 0 on all processes."""
    if not _are_joined():
        return value
    import torch.distributed as dist

    _meet(None)
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0, group=_group())
    return box[0]  # type: ignore[no-any-return]


def of_each(value: Value) -> list[Value]:
    """Return the `value` of each process, in rank order. All processes must call this function at the same point."""
    return _gathered(value) if _are_joined() else [value]


def check_same(facts: Mapping[str, str]) -> None:
    """Check that all processes have the same facts (name → digest).

    Raises UserError with the names of the differing facts, on all processes.
    """
    if not _are_joined():
        return
    of_all = _gathered(dict(facts))
    names = dict.fromkeys(name for one in of_all for name in one)
    differing = [name for name in names if len({one.get(name) for one in of_all}) > 1]
    if differing:
        raise UserError(
            f"{', '.join(differing)}: not the same on all data-parallel processes. Use the same files, settings and "
            "versions on every machine."
        )


def _meet(failure: _Failure | None) -> None:
    """Wait for the other processes. Raises FailedTogether on all processes if one of them passes a failure."""
    if not _are_joined():
        return
    import torch
    import torch.distributed as dist

    some_failed = torch.tensor([failure is not None], dtype=torch.int32)
    dist.all_reduce(some_failed, group=_group())
    if some_failed.item():
        _fail(_exchanged(failure))


def _fail(failures: Sequence[_Failure | None]) -> NoReturn:
    """Raise a FailedTogether that combines the failures of the processes, in rank order."""

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
    """Return the value of each process, in rank order."""
    _meet(None)
    return _exchanged(value)


def _exchanged(value: Value) -> list[Value]:
    """Gather the value of each process, in rank order, without a prior synchronisation."""
    import torch.distributed as dist

    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value, group=_group())
    return found


def _are_joined() -> bool:
    """Return whether the process group is initialised."""
    if not is_distributed():
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


@functools.cache
def _group() -> Any:
    """Return a CPU (gloo) group, so that synchronising does not wait for GPUs; None is the default group."""
    import torch.distributed as dist

    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
