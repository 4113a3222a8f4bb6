"""Measures how well a model predicts the terms of a domain in held-out text, before and after an adaptation.

In each text, all pieces of one occurrence of a term are masked. The model predicts them in one pass.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from nmg.adaptation.held_out import ROWS_PER_PASS
from nmg.base.progress import Reporter
from nmg.base.training_settings import AUTO_WORDS
from nmg.base.types import FloatArray, IntArray
from nmg.data.corpus import Corpus
from nmg.training.context import TrainingContext
from nmg.training.lm import PretrainedLM, masked_logits
from nmg.training.memory import in_passes
from nmg.vocabulary.fragments import Ids
from nmg.vocabulary.terms import choose_terms, forms_of

MAX_OCCURRENCES = 8
"""Maximum number of occurrences of a term that are measured, each in another block."""
MAX_ROWS = 512
"""Maximum number of occurrences that are measured, over all terms together."""


@dataclass(frozen=True)
class Occurrence:
    """One occurrence of a term in a block."""

    term: int
    """Index of the term."""
    block: int
    """Number of the block in its corpus."""
    first: int
    """Position of the first piece in the block."""
    pieces: Ids
    """Token ids of the pieces."""


@dataclass(frozen=True)
class TermScore:
    """Scores of how well a model predicts a term, before and after the adaptation."""

    term: str
    pieces: tuple[str, ...]
    """The pieces of the term, as the tokenizer writes them."""
    occurrences: int
    """Number of occurrences that were measured."""
    before: float
    """Log-probability in nats of the right pieces before the first step, averaged over pieces, then occurrences."""
    after: float
    """The same log-probability under the saved model."""
    rank_before: float
    """Median over occurrences of the rank of the right first piece among all pieces, from 1, before the first step."""
    rank_after: float

    def to_json(self) -> dict[str, Any]:
        """Return the scores as an entry of nmg.json."""
        return {
            "term": self.term,
            "pieces": list(self.pieces),
            "occurrences": self.occurrences,
            "log_probability": {"before": self.before, "after": self.after},
            "rank": {"before": self.rank_before, "after": self.rank_after},
        }


@dataclass(frozen=True)
class TermsResult:
    """Scores of how well a model predicts terms, before and after the adaptation."""

    source: str
    """The setting `adapt.terms`."""
    measured: tuple[TermScore, ...]
    """Terms that occur in held-out text."""
    left_out: tuple[str, ...]
    """Terms without a measured occurrence: absent from held-out text, or beyond `MAX_ROWS` occurrences in all."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry `terms` of nmg.json."""
        measured = [one.to_json() for one in self.measured]
        return {"source": self.source, "measured": measured, "left_out": list(self.left_out)}


@dataclass(frozen=True)
class Terms:
    """Terms and their occurrences in held-out text."""

    source: str
    names: tuple[str, ...]
    occurrences: tuple[Occurrence, ...]
    """Occurrences to measure, in the order of their terms."""
    corpus: Corpus
    """The held-out blocks."""

    @classmethod
    def find(cls, source: str, names: Sequence[str], corpus: Corpus, lm: PretrainedLM) -> Self:
        """Find terms in a corpus.

        Args:
            source: The setting `adapt.terms`.
            names: The terms.
            corpus: Held-out blocks.
            lm: The model with the tokenizer of the corpus.

        Returns:
            The terms, with at most `MAX_OCCURRENCES` occurrences each and `MAX_ROWS` in all.
        """
        of_term: dict[int, list[Occurrence]] = defaultdict(list)
        for one in _occurrences(corpus, forms_of(names, lm.tokenizer)):
            if len(of_term[one.term]) < MAX_OCCURRENCES:
                of_term[one.term].append(one)
        each = min(max(MAX_ROWS // max(len(of_term), 1), 1), MAX_OCCURRENCES)
        kept = [one for term in sorted(of_term) for one in of_term[term][:each]]
        return cls(source, tuple(names), tuple(kept[:MAX_ROWS]), corpus)

    @property
    def digest(self) -> str:
        """Digest of the terms: 16 hex digits of their SHA-256."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]

    def measure(self, context: TrainingContext) -> tuple[FloatArray, IntArray]:
        """Measure how well `context.model` predicts the O occurrences, in evaluation mode.

        Returns the mean log-probability of the right pieces of each occurrence in nats, float64 [O], and the rank of
        the right first piece from 1, int64 [O].
        """
        model, n = context.model, len(self.occurrences)
        scores, ranks = np.zeros(n), np.zeros(n, dtype=np.int64)
        order = np.argsort([-self.corpus.lengths[one.block] for one in self.occurrences], kind="stable")

        def read(part: slice) -> tuple[Tensor, Tensor]:
            return self._read(context, [self.occurrences[number] for number in order[part]])

        was_training = model.training
        model.eval()
        for part, (score, rank) in in_passes(n, ROWS_PER_PASS, read):
            scores[order[part]], ranks[order[part]] = score.numpy(), rank.numpy()
        model.train(was_training)
        return scores, ranks

    @torch.no_grad()
    def _read(self, context: TrainingContext, some: Sequence[Occurrence]) -> tuple[Tensor, Tensor]:
        """Return float64 [O] mean log-probabilities and int64 [O] ranks of some occurrences."""
        blocks = self.corpus.blocks(np.array([one.block for one in some]))
        is_masked = torch.zeros_like(blocks.is_token)
        for number, one in enumerate(some):
            is_masked[number, one.first : one.first + len(one.pieces)] = True
        ids = blocks.input_ids.masked_fill(is_masked, context.vocabulary.mask_id)
        with context.runtime.autocast():
            logits = masked_logits(context.model, ids, blocks.is_token, is_masked).float()
        right = blocks.input_ids[is_masked].to(logits.device)[:, None]
        log_p = logits.log_softmax(dim=1).gather(1, right).squeeze(1).cpu().double()
        rank = (logits > logits.gather(1, right)).sum(dim=1).cpu() + 1
        sizes = is_masked.sum(dim=1)
        row = torch.arange(len(some)).repeat_interleave(sizes)
        scores = torch.zeros(len(some), dtype=torch.float64).index_add(0, row, log_p) / sizes
        return scores, rank[sizes.cumsum(0) - sizes]

    def result(
        self, before: tuple[FloatArray, IntArray], after: tuple[FloatArray, IntArray], lm: PretrainedLM
    ) -> TermsResult:
        """Summarise two measurements per term.

        Args:
            before: Result of `measure` for the model before the first step.
            after: Result of `measure` for the saved model.
            lm: The model with its tokenizer.

        Returns:
            The scores of each term, and the terms that were not measured.
        """
        of_term = np.array([one.term for one in self.occurrences], dtype=np.int64)
        measured = []
        for term in np.unique(of_term).tolist():
            index = np.flatnonzero(of_term == term)
            pieces = lm.tokenizer.convert_ids_to_tokens(list(self.occurrences[index[0]].pieces))
            means = (float(scores[index].mean()) for scores, _ in (before, after))
            medians = (float(np.median(ranks[index])) for _, ranks in (before, after))
            measured.append(TermScore(self.names[term], tuple(pieces), len(index), *means, *medians))
        found = {one.term for one in measured}
        return TermsResult(self.source, tuple(measured), tuple(name for name in self.names if name not in found))


def find_terms(
    setting: str,
    given: Sequence[str],
    texts: Collection[str],
    general: Collection[str] | None,
    held_out: Corpus | None,
    lm: PretrainedLM,
    reporter: Reporter,
) -> Terms | None:
    """Find the terms of `adapt.terms` in held-out text.

    Args:
        setting: The setting `adapt.terms`.
        given: The terms of its file; empty for `auto:N`.
        texts: The texts to adapt on, among whose words `auto:N` chooses.
        general: General texts to compare `texts` with; None if there are none.
        held_out: Held-out blocks; None if no text is held out.
        lm: The model with the tokenizer of the blocks.
        reporter: Receives a message if terms cannot be measured.

    Returns:
        The terms; None without held-out text.

    Raises:
        UserError: `auto:N` finds no term.
    """
    if held_out is None:
        reporter.notify("adapt.terms: no text is held out, so no terms are measured.")
        return None
    auto = AUTO_WORDS.fullmatch(setting)
    names = given if auto is None else choose_terms(texts, general, lm.tokenizer, int(auto[1]), reporter)
    terms = Terms.find(setting, names, held_out, lm)
    n_found = len({one.term for one in terms.occurrences})
    if n_found < len(names):
        reporter.notify(f"adapt.terms: {n_found} of {len(names)} terms occur in held-out text and are measured.")
    return terms


def _occurrences(corpus: Corpus, forms: Sequence[Sequence[Ids]]) -> Iterator[Occurrence]:
    """Yield the first whole-word occurrence of each term in each block.

    `forms` has, for each term, the token id sequences that may represent it (`forms_of`).
    """
    by_first: dict[int, list[tuple[Ids, int]]] = defaultdict(list)
    for term, of_term in enumerate(forms):
        for pieces in of_term:
            by_first[pieces[0]].append((pieces, term))
    for first_row in range(0, len(corpus), ROWS_PER_PASS):
        rows = np.arange(first_row, min(first_row + ROWS_PER_PASS, len(corpus)))
        blocks = corpus.blocks(rows)
        ids, words = blocks.input_ids.tolist(), blocks.word_index.tolist()
        for row, block in enumerate(rows.tolist()):
            seen: set[int] = set()
            for place, token in enumerate(ids[row]):
                for pieces, term in by_first.get(token, ()):
                    if term not in seen and _is_at(pieces, place, ids[row], words[row]):
                        seen.add(term)
                        yield Occurrence(term, block, place, pieces)


def _is_at(pieces: Ids, first: int, ids: Sequence[int], words: Sequence[int]) -> bool:
    """Return whether a block has the given pieces at a position, as whole words.

    Args:
        pieces: Token ids of the pieces.
        first: Position of the first piece.
        ids: Token ids of the block.
        words: Word number of each token of the block.

    Returns:
        Whether `ids` continues with `pieces` at `first`, and words begin and end with them.
    """
    end = first + len(pieces)
    if tuple(ids[first:end]) != pieces or min(words[first:end]) < 0:
        return False
    is_start = first == 0 or words[first - 1] != words[first]
    return is_start and (end == len(words) or words[end] != words[end - 1])
