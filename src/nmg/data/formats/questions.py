"""A question on a passage: what the formats of extractive question answering read and write."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QAExample:
    """A question on a context; `answers` are the answer texts in it, `answer_starts` their character offsets.

    Both are empty if the context has no answer.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    context_id: int
    accepted_texts: tuple[str, ...] = ()
    """what predictions are scored by, if a format names other texts than the spans (MRQA); empty: `answers`"""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The texts that a prediction is scored by; empty if the context has no answer."""
        return self.accepted_texts or self.answers

    @property
    def passage(self) -> str:
        return self.context
