"""Tasks by name."""

from nmg.errors import UserError
from nmg.tasks.base import TaskKind
from nmg.tasks.classification import CLASSIFICATION
from nmg.tasks.qa import QUESTION_ANSWERING
from nmg.tasks.tokens import TOKEN_CLASSIFICATION

TASKS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        CLASSIFICATION,
        QUESTION_ANSWERING,
        TOKEN_CLASSIFICATION,
    )
}
"""The registry: a line a task."""


def task_kind(name: str) -> TaskKind:
    """Raises UserError where there is no such task."""
    if name not in TASKS:
        raise UserError(f"there is no task '{name}' (known: {', '.join(TASKS)})")
    return TASKS[name]
