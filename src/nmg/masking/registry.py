"""The rules by name."""

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nmg.errors import UserError
from nmg.masking.base import Draw, Ingredients, Rule
from nmg.masking.entity import entity_masking
from nmg.masking.idf import idf_masking
from nmg.masking.rules import draw_nothing, draw_random, draw_whole_words, punctuation_masking, span_masking
from nmg.settings import MaskingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus


class RuleKind(NamedTuple):
    about: str
    """what is masked"""
    build: Callable[[Ingredients], Draw]
    """Raises UserError where something that the rule needs is missing."""


RULES = {
    "none": RuleKind("no tokens: no further pre-training", lambda _: draw_nothing),
    "random": RuleKind("tokens, uniformly at random", lambda _: draw_random),
    "whole-word": RuleKind("whole words, in random order", lambda _: draw_whole_words),
    "span": RuleKind("spans of consecutive words, of random length", span_masking),
    "entity": RuleKind("named entities first, then other tokens at random", entity_masking),
    "punctuation": RuleKind("punctuation first, then other tokens at random", punctuation_masking),
    "idf": RuleKind("rare tokens or words more often than frequent ones", idf_masking),
}
"""A line a rule, in the order of tables."""

MASKINGS = {name: rule.about for name, rule in RULES.items()} | {"neural": "what a trained policy chooses"}
"""name → what is masked"""


def build_masking(name: str, tokenizer: "PreTrainedTokenizerBase", corpus: "Corpus", settings: MaskingSettings) -> Rule:
    """The rule of that name. Raises UserError where there is none, or where something that it needs is missing."""
    if name not in RULES:
        raise unknown_masking(name)
    return Rule(name, RULES[name].build(Ingredients(tokenizer, corpus, settings)))


def unknown_masking(name: str) -> UserError:
    if name in MASKINGS:
        return UserError(f"the masking '{name}' is a trained policy: name the folder of one")
    matches = difflib.get_close_matches(name.lower().replace("_", "-"), MASKINGS, n=1)
    hint = f"did you mean '{matches[0]}'?" if matches else f"known: {', '.join(MASKINGS)}."
    return UserError(f"There is no masking '{name}'; {hint}")
