"""Progress reports of long work. The command line shows progress bars; tests and library users may stay silent."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Callback that is called after each step with (steps done, total steps)."""


class Reporter(Protocol):
    """Interface for messages and progress of long work."""

    def notify(self, line: str) -> None:
        """Show a line of text permanently."""

    def steps(self, phase: str, /) -> Progress:
        """Start a progress bar for the named phase and return the callback that advances it."""


class Silent:
    """Reporter that discards all messages and progress."""

    def notify(self, line: str) -> None:
        """Ignore the line."""
        pass

    def steps(self, _phase: str, /) -> Progress:
        """Return a callback that does nothing."""
        return lambda _done, _total: None
