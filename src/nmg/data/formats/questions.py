"""A question on a passage: the record that all readers of extractive question answering return."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QAExample:
    """A question on a context, with answer texts from the context and their character offsets.

    `answers` and `answer_starts` are empty if the context contains no answer.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]
    context_id: int
    accepted_texts: tuple[str, ...] = ()
    """Texts that predictions are scored against, if they differ from the spans (MRQA); empty means `answers`."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The texts that predictions are scored against; empty if the context contains no answer."""
        return self.accepted_texts or self.answers

    @property
    def passage(self) -> str:
        """The context."""
        return self.context
