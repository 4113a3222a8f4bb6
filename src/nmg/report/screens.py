"""Draws each figure twice, for a wide and for a narrow screen; the page shows the one that fits.

A figure that is scaled down to a phone has letters that nobody can read. So the narrow figure has fewer inches, not
smaller letters.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

from nmg.report.figure_style import STYLE

P = ParamSpec("P")

WIDE, NARROW = 7.2, 3.7
"""Width of a figure on a wide and on a narrow screen, in inches."""
_width: ContextVar[float] = ContextVar("width of figures", default=WIDE)


def for_both_screens(draw: Callable[P, str]) -> Callable[P, str]:
    """Decorate a function that returns a figure as an `<svg>` element: it then returns one for each kind of screen.

    The elements have the classes `on-wide` and `on-narrow`. Without the style of a page, only the wide one is visible.
    """

    @wraps(draw)
    def draw_both(*args: P.args, **kwargs: P.kwargs) -> str:
        wide = draw(*args, **kwargs)
        token = _width.set(NARROW)
        try:
            narrow = draw(*args, **kwargs)
        finally:
            _width.reset(token)
        return "\n".join(
            (
                wide.replace("<svg ", '<svg class="on-wide" ', 1),
                narrow.replace("<svg ", '<svg class="on-narrow" style="display: none" ', 1),
            )
        )

    return draw_both


def figure_width() -> float:
    """Return the width of the figure that is being drawn, in inches."""
    return _width.get()


def is_narrow() -> bool:
    """Return whether the figure that is being drawn is for a narrow screen."""
    return _width.get() == NARROW


@contextmanager
def new_figure(height: float) -> Iterator[Figure]:
    """Yield an empty figure with its height in inches, in the style of the pages and the width of the screen."""
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(_width.get(), height), layout="constrained")
