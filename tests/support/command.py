"""The command line as a test calls it: the fixture `nmg` of conftest.py."""

from collections.abc import Callable
from typing import NamedTuple


class Answer(NamedTuple):
    code: int
    out: str
    err: str


Nmg = Callable[..., Answer]
"""Words of a command, as text or paths → what it answered."""
