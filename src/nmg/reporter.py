"""How long work tells the user where it is. The command line shows bars; a test or a library user may stay silent."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

Progress: TypeAlias = Callable[[int, int], None]
"""Called after each step with the steps done and the steps in all."""


class Reporter(Protocol):
    def notify(self, line: str) -> None:
        """Show a line that stays."""

    def steps(self, phase: str, /) -> Progress:
        """Open a bar for a phase of work; the callback moves it."""


class Silent:
    """Says nothing."""

    def notify(self, line: str) -> None:
        pass

    def steps(self, _phase: str, /) -> Progress:
        return lambda _done, _total: None
