"""Table of the masking rules, and functions that build a rule or mixture from its name."""

import difflib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, cast

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.masking.base import Draw, Masking, MaskingContext, ReadingDraw, ReadingRule, Rule
from nmg.masking.difference import difference_masking
from nmg.masking.entity import entity_masking
from nmg.masking.frequency import frequency_masking
from nmg.masking.idf import idf_masking
from nmg.masking.keyword import keyword_masking
from nmg.masking.mixture import Mixture, parse_mixture
from nmg.masking.names import LEARNED, PAPER_NAME
from nmg.masking.pmi import pmi_masking
from nmg.masking.rules import draw_nothing, draw_random, draw_whole_words, punctuation_masking, span_masking
from nmg.masking.selective import selective_masking
from nmg.masking.surprise import entropy_masking, loss_masking
from nmg.masking.tfidf import tfidf_masking
from nmg.masking.weights import weights_masking

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from nmg.data.corpus import Corpus


class RuleKind(NamedTuple):
    """The description of a rule and the function that builds it."""

    about: str
    """What the rule masks."""
    source: str
    """The publication of the rule."""
    build: Callable[[MaskingContext], Draw | ReadingDraw]
    """Builds the rule. Raises UserError if an input of the rule is missing."""
    reads_states: bool = False
    """Whether the rule reads the language model; if so, `build` returns a `ReadingDraw`."""


RULES = {
    "none": RuleKind("nothing; the model is not adapted", "control", lambda _: draw_nothing),
    "random": RuleKind("tokens chosen uniformly at random", "Devlin et al. 2019", lambda _: draw_random),
    "whole-word": RuleKind("whole words chosen at random", "BERT's code, 2019", lambda _: draw_whole_words),
    "span": RuleKind("spans of consecutive words, with random lengths", "Joshi et al. 2020", span_masking),
    "entity": RuleKind("named entities first, then other tokens at random", "Kang et al. 2020", entity_masking),
    "punctuation": RuleKind("punctuation first, then other tokens at random", "Kang et al. 2020", punctuation_masking),
    "idf": RuleKind("rare tokens or words more often than frequent ones", "nmg", idf_masking),
    "tf-idf": RuleKind("words frequent in the text but rare in the corpus", "Belfathi et al. 2024", tfidf_masking),
    "frequency": RuleKind("rare tokens more often (count ** -alpha)", "Lample and Conneau 2019", frequency_masking),
    "pmi": RuleKind("whole collocations and single words at random", "Levine et al. 2021", pmi_masking),
    "keyword": RuleKind("words of your list first, then other words at random", "Golchin et al. 2023", keyword_masking),
    "weights": RuleKind("words by the weights that you give them", "nmg", weights_masking),
    "difference": RuleKind("words similar to typical words of the domain", "Wilf et al. 2023", difference_masking),
    "selective": RuleKind("tokens important for the task first, then others", "Gu et al. 2020", selective_masking),
    "loss": RuleKind("tokens that the LM predicts poorly", "Zhong et al. 2023", loss_masking, reads_states=True),
    "entropy": RuleKind("tokens that the LM is unsure about", "Zhong et al. 2023", entropy_masking, reads_states=True),
}
"""Maps the name of a rule to its description, in the order of the rules in tables."""

READS = {
    "entity": ("spacy_model",),
    "keyword": ("keywords",),
    "weights": ("weights",),
    "difference": ("general_corpus",),
    "selective": ("selective_model",),
}
"""Maps a rule to those `masking` settings that name content it reads (`settings.NamedContent`)."""

_WITHOUT_WORDS = frozenset({"none", "random", "punctuation", "frequency", "selective", "loss", "entropy"})
_BY_UNIT = frozenset({"idf", "tf-idf"})


def _reads_words(name: str, settings: MaskingSettings) -> bool:
    """Return whether the rule needs to know which tokens form a word. If not, a collator can skip the search."""
    return name not in _WITHOUT_WORDS and (name not in _BY_UNIT or settings.idf_unit == "word")


MASKINGS = {name: rule.about for name, rule in RULES.items()} | {LEARNED: "tokens that a trained policy selects"}
"""Maps the name of a masking to a description of what it masks."""
SOURCES = {name: rule.source for name, rule in RULES.items()} | {LEARNED: "Kang et al. 2020, arXiv 2010.02705"}
"""Maps the name of a masking to its publication."""


def is_rule(name: str) -> bool:
    """Return whether `name` is a rule or a mixture of rules. Raises UserError for a malformed mixture."""
    members = [member for _, member in parse_mixture(name)] or [name]
    return all(member in RULES for member in members)


def about_masking(name: str) -> str:
    """Return a description of what a masking or a mixture masks."""
    return MASKINGS.get(name, "one of the named maskings per block, drawn with probability ∝ its share")


def build_masking(
    name: str,
    tokenizer: "PreTrainedTokenizerBase",
    corpus: "Corpus",
    settings: MaskingSettings,
    embeddings: "Tensor | None" = None,
    notify: Callable[[str], None] | None = None,
) -> Masking:
    """Build a rule, or a mixture of rules such as `0.7*idf+0.3*random`, for the blocks of `corpus`.

    Args:
        name: name of the rule or mixture.
        tokenizer: tokenizer of the language model.
        corpus: the blocks to mask; rules also count words in its text.
        settings: the `masking` settings.
        embeddings: float [≥ V, H], input embeddings of the language model.
        notify: called with one line that describes what a rule found in the text, e.g. its anchors.

    Returns:
        The rule or mixture.

    Raises:
        UserError: If the name is unknown or an input of the rule is missing.
    """
    ingredients = MaskingContext(tokenizer, corpus, settings, corpus, embeddings)
    return build_rule(name, ingredients if notify is None else replace(ingredients, notify=notify))


def build_rule(name: str, ingredients: MaskingContext) -> Masking:
    """Build a rule or mixture from `ingredients`. Raises UserError if the name is unknown or an input is missing."""
    members = parse_mixture(name)
    if members:
        return Mixture(name, [(share, build_rule(member, ingredients)) for share, member in members])
    if name not in RULES:
        raise unknown_masking(name)
    kind = RULES[name]
    draw, reads_words = kind.build(ingredients), _reads_words(name, ingredients.settings)
    if kind.reads_states:
        return ReadingRule(name, cast(ReadingDraw, draw), reads_words)
    return Rule(name, cast(Draw, draw), reads_words)


def unknown_masking(name: str) -> UserError:
    """Return the error for an unknown masking, with a suggestion."""
    if name in {LEARNED, PAPER_NAME}:
        return UserError(f"the masking '{name}' needs a trained policy: give the folder of one instead")
    if name.endswith((".tsv", ".csv", ".json", ".txt")):
        return UserError(
            f"there is no masking '{name}': if it is a file of weights, use --masking weights --masking.weights {name}"
        )
    matches = difflib.get_close_matches(name.lower().replace("_", "-"), MASKINGS, n=1)
    hint = f"; did you mean '{matches[0]}'?" if matches else f" (known: {', '.join(MASKINGS)})"
    return UserError(f"there is no masking '{name}'{hint}")
