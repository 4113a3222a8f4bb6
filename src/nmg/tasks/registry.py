"""The registry of tasks, by name."""

from nmg.base.errors import UserError
from nmg.tasks.base import TaskKind
from nmg.tasks.classification import CLASSIFICATION
from nmg.tasks.multi_label import MULTI_LABEL
from nmg.tasks.qa import QUESTION_ANSWERING
from nmg.tasks.regression import REGRESSION
from nmg.tasks.similarity import SIMILARITY
from nmg.tasks.tokens import TOKEN_CLASSIFICATION

TASKS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        CLASSIFICATION,
        QUESTION_ANSWERING,
        TOKEN_CLASSIFICATION,
        MULTI_LABEL,
        REGRESSION,
        SIMILARITY,
    )
}
"""Name → task; one line per task."""


def task_kind(name: str) -> TaskKind:
    """Return the task with this name. Raises UserError for an unknown name."""
    if name not in TASKS:
        raise UserError(f"there is no task '{name}' (known: {', '.join(TASKS)})")
    return TASKS[name]
