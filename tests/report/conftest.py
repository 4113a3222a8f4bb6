"""Pages without their figures, which take most of their time."""

import pytest

from .helpers import Drawn

DRAWING = {
    "curves_plot": ("run_scores", "actor_critic"),
    "bars_plot": ("run_page", "actor_critic"),
}
"""function → modules that call it"""


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Figures of a page are not drawn; what they would show is noted."""
    drawn = Drawn()
    for name, modules in DRAWING.items():
        for module in modules:
            monkeypatch.setattr(f"nmg.report.{module}.{name}", getattr(drawn, name))
    return drawn
