"""A question on a passage: what the formats of extractive question answering read and write."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QAExample:
    """A question on a context; `answers` are the accepted answer texts, `answer_starts` their character offsets.

    Both are empty where the context has no answer.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    context_id: int

    @property
    def passage(self) -> str:
        return self.context
