"""Token features for linear policies.

Most features depend only on the word piece. Each of them is a column of a table over the vocabulary, computed on the
corpus that the policy is built for. A policy that uses only word-piece features adds almost no cost. The other features
also depend on the context of the token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from nmg.base.seeding import stream
from nmg.base.types import FloatArray, StateEncoder, TokenBlocks
from nmg.masking.idf import InverseDocumentFrequency, piece_keys
from nmg.masking.rules import punctuation_table

if TYPE_CHECKING:
    from nmg.policies.base import PolicyContext

COUNTED_BLOCKS = 512
"""Maximum number of blocks on which the LM's mean loss and entropy per word piece are measured."""
BLOCKS_AT_A_TIME = 64
"""Number of blocks per batch."""
_ENGLISH = """
a about after all also an and any are as at be been before both but by can could did do does each for from had has have
he her him his how i if in into is it its may me might more most must my no nor not of on one only or other our out over
s shall she should so some such t than that the their them then there these they this those to under up upon us was we
were what when where which while who whom whose why will with would you your
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""English function words. In other languages the feature is not informative, and its weight has little effect."""


class Vocabulary:
    """Statistics of the V word pieces of a vocabulary, from which their features are computed.

    Args:
        ground: The context that provides the tokenizer, the corpus, the LM and its embeddings.
    """

    def __init__(self, ground: "PolicyContext") -> None:
        self.ground = ground
        vocabulary = ground.tokenizer.get_vocab()
        self.size = max(vocabulary.values()) + 1
        self.words = [""] * self.size
        for token, index in vocabulary.items():
            self.words[index] = ground.tokenizer.convert_tokens_to_string([token]).strip().removeprefix("##")

    @cached_property
    def counts(self) -> FloatArray:
        """float64 [V]: number of maskable occurrences in the corpus."""
        counts = np.zeros(self.size)
        for blocks in self._blocks(len(self.ground.corpus)):
            counts += np.bincount(blocks.input_ids[blocks.is_maskable].numpy(), minlength=self.size)
        return counts

    @property
    def weights(self) -> FloatArray:
        """float64 [V]: fraction of all maskable occurrences in the corpus."""
        share: FloatArray = self.counts / max(self.counts.sum(), 1)
        return share

    @cached_property
    def log_frequency(self) -> FloatArray:
        """float64 [V]: natural logarithm of the smoothed relative frequency in the corpus."""
        share: FloatArray = np.log((self.counts + 1) / (self.counts.sum() + self.size))
        return share

    @cached_property
    def components(self) -> FloatArray:
        """float64 [V, 3]: first principal components of the LM's input embeddings, weighted by frequency.

        The sign of each axis is fixed so that its entry with the largest absolute value is positive.
        """
        embeddings = self.ground.embeddings.cpu().double().numpy()[: self.size]
        embeddings = np.pad(embeddings, ((0, self.size - len(embeddings)), (0, 0)))
        centred = embeddings - self.weights @ embeddings
        _, axes = np.linalg.eigh((centred * self.weights[:, None]).T @ centred)
        axes = axes[:, ::-1][:, :3]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        components: FloatArray = centred @ axes
        return components

    @cached_property
    def surprise(self) -> FloatArray:
        """float64 [V, 2]: loss and entropy of the LM in nats, averaged over the occurrences of each word piece.

        The averages are shrunk towards the mean over all occurrences, which counts as five occurrences.
        """
        sums, seen = np.zeros((self.size, 2)), np.zeros(self.size)
        for blocks in self._blocks(min(len(self.ground.corpus), COUNTED_BLOCKS)):
            ids = blocks.input_ids[blocks.is_maskable].numpy()
            values = self.ground.encode.surprise(blocks).cpu()[blocks.is_maskable].double().numpy()
            seen += np.bincount(ids, minlength=self.size)
            for column in range(2):
                sums[:, column] += np.bincount(ids, weights=values[:, column], minlength=self.size)
        mean = sums.sum(axis=0) / max(seen.sum(), 1)
        means: FloatArray = (sums + 5 * mean) / (seen[:, None] + 5)
        return means

    def _blocks(self, n: int) -> "list[TokenBlocks]":
        """Return `n` evenly spaced blocks of the corpus in batches of `BLOCKS_AT_A_TIME`."""
        corpus = self.ground.corpus
        rows = np.linspace(0, len(corpus) - 1, n).astype(np.int64)
        return [corpus.blocks(rows[first : first + BLOCKS_AT_A_TIME]) for first in range(0, n, BLOCKS_AT_A_TIME)]


def _idf(vocabulary: Vocabulary) -> FloatArray:
    """Return the natural logarithm of the inverse document frequency of each word piece, float64 [V]."""
    counted = InverseDocumentFrequency.count(vocabulary.ground.corpus, piece_keys)
    idf: FloatArray = np.log(counted(np.arange(vocabulary.size, dtype=np.uint64)))
    return idf


def _frequency_squared(vocabulary: Vocabulary) -> FloatArray:
    """Return the squared deviation of the log frequency of each word piece from its mean, float64 [V]."""
    centre = vocabulary.weights @ vocabulary.log_frequency
    squared: FloatArray = (vocabulary.log_frequency - centre) ** 2
    return squared


def _domain(vocabulary: Vocabulary) -> FloatArray:
    """Return the log frequency in the corpus minus an estimate of that in general text, float64 [V].

    Vocabularies are sorted by frequency in general text, so −ln(id + 1) approximates the log frequency there.
    """
    domain: FloatArray = vocabulary.log_frequency + np.log(np.arange(vocabulary.size) + 1.0)
    return domain


def _relevance(vocabulary: Vocabulary) -> FloatArray:
    """Return the relevance of each word piece to the training labels, float64 [V]; 0 without labels."""
    return _known(vocabulary, vocabulary.ground.relevance)


def _credit(vocabulary: Vocabulary) -> FloatArray:
    """Return the gradient credit of each word piece, float64 [V]; 0 if it was not measured."""
    return _known(vocabulary, vocabulary.ground.credit)


def _known(vocabulary: Vocabulary, values: Callable[[], FloatArray] | None) -> FloatArray:
    """Return `values()` with one entry per word piece, float64 [V]; 0 for pieces beyond its end and without values."""
    known = np.zeros(0) if values is None else values()[: vocabulary.size]
    padded: FloatArray = np.pad(known, (0, vocabulary.size - len(known)))
    return padded


def _chance(vocabulary: Vocabulary) -> FloatArray:
    """Return a fixed normal random number for each word piece, float64 [V]."""
    drawn: FloatArray = stream(0, "features", "concentration").standard_normal(vocabulary.size)
    return drawn


def _of_words(test: Callable[[str], bool]) -> Callable[[Vocabulary], FloatArray]:
    """Return a feature that is 1 for word pieces that pass `test`, and 0 for others."""
    return lambda vocabulary: np.array([float(test(word)) for word in vocabulary.words])


def _component(number: int) -> Callable[[Vocabulary], FloatArray]:
    """Return a feature: principal component `number` (0, 1 or 2) of the embeddings."""
    return lambda vocabulary: np.asarray(vocabulary.components[:, number])


def _continuation(blocks: TokenBlocks, _encode: StateEncoder) -> Tensor:
    """Return 1 for each token that continues the word of the previous token, else 0: float32 [B, T]."""
    is_continued = F.pad(blocks.word_index[:, 1:] == blocks.word_index[:, :-1], (1, 0)) & blocks.is_maskable
    return is_continued.float()


def _repeated(blocks: TokenBlocks, _encode: StateEncoder) -> Tensor:
    """Return the natural logarithm of the number of occurrences of each token's id in its block, float32 [B, T]."""
    is_same = (blocks.input_ids[:, :, None] == blocks.input_ids[:, None, :]) & blocks.is_maskable[:, None, :]
    return is_same.sum(dim=2).clamp(min=1).float().log()


class ObservationCache:
    """Wraps the LM for the features of one batch, so that token loss and entropy are computed only once."""

    def __init__(self, encode: StateEncoder) -> None:
        self._encode = encode
        self._surprise: Tensor | None = None

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        """Return the last hidden states, float [B, T, H]; they are not cached."""
        return self._encode(blocks)

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        """Return loss and entropy per token in nats, float32 [B, T, 2]. The first result is cached."""
        if self._surprise is None:
            self._surprise = self._encode.surprise(blocks)
        return self._surprise


@dataclass(frozen=True)
class TypeFeature:
    """A feature that depends only on the word piece."""

    about: str
    """What a large value means; completes "tokens that are …"."""
    column: Callable[[Vocabulary], FloatArray]
    """Computes the feature of all word pieces, float64 [V], all finite."""


@dataclass(frozen=True)
class TokenFeature:
    """A feature that depends on the token and its context."""

    about: str
    """What a large value means; completes "tokens that are …"."""
    values: Callable[[TokenBlocks, StateEncoder], Tensor]
    """Computes the feature of all tokens, [B, T], on the CPU or the model's device."""


FEATURES: Mapping[str, TypeFeature | TokenFeature] = {
    "idf": TypeFeature("rare (ln of the inverse document frequency)", _idf),
    "frequency": TypeFeature("frequent in the corpus (ln of the relative frequency)", lambda v: v.log_frequency),
    "frequency_squared": TypeFeature("very frequent or very rare", _frequency_squared),
    "domain": TypeFeature("more frequent in the corpus than in general text", _domain),
    "punctuation": TypeFeature("punctuation", lambda v: punctuation_table(v.ground.tokenizer).numpy().astype(float)),
    "digit": TypeFeature("words with a digit", _of_words(lambda word: any(map(str.isdigit, word)))),
    "function_word": TypeFeature("English function words", _of_words(lambda word: word.lower() in FUNCTION_WORDS)),
    "association": TypeFeature("associated with a label or an answer in the training set", _relevance),
    "credit": TypeFeature("useful to train on, by gradient credit", _credit),
    "usual_loss": TypeFeature("hard for the LM to predict on average", lambda v: v.surprise[:, 0]),
    "usual_entropy": TypeFeature("uncertain for the LM on average", lambda v: v.surprise[:, 1]),
    "embedding_1": TypeFeature("high on the 1st principal component of the embeddings", _component(0)),
    "embedding_2": TypeFeature("high on the 2nd principal component of the embeddings", _component(1)),
    "embedding_3": TypeFeature("high on the 3rd principal component of the embeddings", _component(2)),
    "concentration": TypeFeature("among a few randomly chosen tokens, always the same (control)", _chance),
    "continuation": TokenFeature("continuations of a word", _continuation),
    "repeated": TokenFeature("repeated in the text (ln of the count)", _repeated),
    "loss": TokenFeature(
        "hard for the LM to predict in this context", lambda blocks, encode: encode.surprise(blocks)[:, :, 0]
    ),
    "entropy": TokenFeature(
        "uncertain for the LM in this context", lambda blocks, encode: encode.surprise(blocks)[:, :, 1]
    ),
}
"""Name → feature, for all available features."""
READ_THE_LM = frozenset({"loss", "entropy"})
"""Names of the features that need forward passes of the LM when a policy is used."""


def piece_table(names: Sequence[str], vocabulary: Vocabulary) -> FloatArray:
    """Return the word-piece features among `names`, in the given order, as float64 [V, columns]."""
    columns = [kind.column(vocabulary) for name in names if isinstance(kind := FEATURES[name], TypeFeature)]
    table: FloatArray = np.stack(columns, axis=1) if columns else np.zeros((vocabulary.size, 0))
    return table
