"""Maskings by name."""

import difflib
from functools import partial

from transformers import PreTrainedTokenizerBase

from nmg.config import MaskingSettings
from nmg.errors import UserError
from nmg.masking.base import Draw, MaskingPolicy, Rule
from nmg.masking.lexical import (
    UNIT_KEYS,
    BlockCorpus,
    EntityIndex,
    InverseDocumentFrequency,
    draw_entities,
    draw_rare,
    load_recogniser,
)
from nmg.masking.rules import (
    RandomMasking,
    draw_nothing,
    draw_punctuation,
    draw_spans,
    draw_whole_words,
    punctuation_table,
)

RULES = {
    "none": "no tokens: no further pre-training",
    "random": "tokens, uniformly at random",
    "whole-word": "whole words, in random order",
    "span": "spans of consecutive words, of random length",
    "entity": "named entities first, then other tokens at random",
    "punctuation": "punctuation first, then other tokens at random",
    "idf": "rare tokens or words more often than frequent ones",
}
"""name → what is masked, in the order of tables"""

MASKINGS = RULES | {"neural": "what a trained policy chooses"}


def build_masking(
    name: str, tokenizer: PreTrainedTokenizerBase, corpus: BlockCorpus, settings: MaskingSettings
) -> MaskingPolicy:
    """The rule of that name; `neural` is built from a policy folder instead. Raises UserError for any other name."""
    draw: Draw
    match name:
        case "none":
            draw = draw_nothing
        case "random":
            return RandomMasking()
        case "whole-word":
            draw = draw_whole_words
        case "span":
            draw = partial(draw_spans, p=settings.span_p, longest=settings.span_max)
        case "entity":
            draw = partial(draw_entities, entities=EntityIndex(corpus, load_recogniser(settings.spacy_model)))
        case "punctuation":
            draw = partial(draw_punctuation, is_punctuation=punctuation_table(tokenizer))
        case "idf":
            idf = InverseDocumentFrequency.count(corpus, UNIT_KEYS[settings.idf_unit])
            draw = partial(draw_rare, idf=idf, unit=settings.idf_unit, sharpness=settings.idf_sharpness)
        case "neural":
            raise UserError("The masking 'neural' needs a trained policy: give the folder of one.")
        case _:
            raise unknown_masking(name)
    return Rule(name, draw)


def unknown_masking(name: str) -> UserError:
    matches = difflib.get_close_matches(name.lower().replace("_", "-"), MASKINGS, n=1)
    hint = f"did you mean '{matches[0]}'?" if matches else f"known: {', '.join(MASKINGS)}."
    return UserError(f"There is no masking '{name}'; {hint}")
