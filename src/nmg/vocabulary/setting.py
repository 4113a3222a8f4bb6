"""Adds the words that the setting `adapt.add_words` selects: those of a file, or those that save the most tokens."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from nmg.base.files import user_path
from nmg.base.progress import Reporter
from nmg.base.training_settings import AUTO_WORDS
from nmg.training.lm import PretrainedLM
from nmg.vocabulary.add import add_words
from nmg.vocabulary.fragments import count_fragments, count_tokens
from nmg.vocabulary.words import check_word_list, choose_words, read_word_list


@dataclass(frozen=True)
class AddedWords:
    """Facts about the words that were added to a vocabulary."""

    source: str
    """The setting: `auto:N` or the name of a file."""
    number: int
    """Number of words added."""
    digest: str
    """Digest (16 hex digits) of the words, in the order of their ids."""
    tokens_before: int
    """Number of tokens of the corpus without the words, without special tokens."""
    tokens_after: int
    """Number of tokens of the corpus with the words."""

    def to_json(self) -> dict[str, Any]:
        """Return the facts as an entry of nmg.json."""
        facts = {"source": self.source, "number": self.number, "digest": self.digest}
        return {**facts, "tokens": {"before": self.tokens_before, "after": self.tokens_after}}

    def summary(self, left_out: str = "") -> str:
        """Return one line for the user: number of added words, and tokens of the corpus before and after.

        `left_out` says which lines of the file are not added, e.g. '2 already in the vocabulary'; "" for none.
        """
        change = self.tokens_after / max(self.tokens_before, 1) - 1
        line = f"adapt.add_words {self.source}: {self.number:,} words are added"
        line += f" (left out: {left_out})" if left_out else ""
        tokens = f"{self.tokens_after:,} tokens instead of {self.tokens_before:,} ({change:+.1%})"
        return f"{line}. The corpus has {tokens}."


@dataclass(frozen=True)
class WordsToAdd:
    """The words to add to the vocabulary of a model."""

    setting: str
    """`auto:N` or the name of a file."""
    lines: Sequence[tuple[int, str]]
    """Line numbers and words of the file; empty for `auto:N`."""

    @classmethod
    def read(cls, setting: str) -> Self:
        """Read the file of a setting, if it names one. Raises UserError if the file cannot be read or has no word."""
        return cls(setting, [] if AUTO_WORDS.fullmatch(setting) else read_word_list(user_path(setting)))

    def add_to(self, lm: PretrainedLM, texts: Collection[str], reporter: Reporter) -> tuple[PretrainedLM, AddedWords]:
        """Add the words to a model, in place, and to a copy of its tokenizer.

        Args:
            lm: The model and its tokenizer.
            texts: The texts to adapt on. They are iterated over twice; `auto:N` chooses among their words.
            reporter: Receives a message with the numbers of words and tokens.

        Returns:
            The model with the new tokenizer, and the facts.

        Raises:
            UserError: A line of the file is not one word, or the model cannot be extended.
        """
        left_out = ""
        if auto := AUTO_WORDS.fullmatch(self.setting):
            counted = count_fragments(texts, lm.tokenizer, reporter.steps("counting pieces of words"))
            words = [one.word for one in choose_words(counted, lm.tokenizer, int(auto[1]))]
            before = counted.n_tokens
        else:
            path = Path(self.setting)
            found = check_word_list(path, self.lines, lm.tokenizer)
            words, left_out = list(found.words), found.left_out()
            before = count_tokens(texts, lm.tokenizer)
        extended = add_words(lm, words)
        digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
        added = AddedWords(self.setting, len(words), digest, before, count_tokens(texts, extended.tokenizer))
        reporter.notify(added.summary(left_out))
        return extended, added
