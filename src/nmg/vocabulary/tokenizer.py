"""Adds whole words to a fast tokenizer so that no text gets more tokens than before.

The method depends on the model of the tokenizer. A new word becomes:

- WordPiece (BERT): an added token, which matches only if no word character (`\\w`) precedes or follows it. The greedy
  search for the longest piece ignores added tokens, so "inhibitors" keeps its pieces. There is one exception to the
  rule above: a word joined to a symbol such as "™" may have been one unknown token, and becomes two tokens.
- BPE of bytes (RoBERTa, ModernBERT): an entry of the vocabulary that is used if a whole word equals it
  (`ignore_merges`). Every other word is merged as before.
- Unigram (XLM-R, ALBERT, DeBERTa v2 and v3): a piece whose score is the sum of the scores of the pieces that it
  replaces. The best segmentation of any text stays the same, except that these pieces become one. "inhibitors" may
  therefore become "inhibitor" and "s" if it was split between these two before.
"""

import copy
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError, shown
from nmg.data.framing import SpecialTokens, vocabulary_size
from nmg.vocabulary.fragments import Ids, encodings, words_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = "a "
"""Text before a word: the form after a space is the one that is added."""
TIE = 1e-9
"""Amount added to the score of a new Unigram piece, so that it wins against its own pieces despite rounding.

The amount is far less than differences between scores, which are stored as 32-bit numbers.
"""
KEPT = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces")
"""Properties that a tokenizer keeps when it is built from another backend."""


def pieces_of(tokenizer: "PreTrainedTokenizerBase", words: Sequence[str]) -> list[list[tuple[str, Ids]]]:
    """Return the words into which the tokenizer splits each text after a space, each with the ids of its pieces.

    >>> pieces_of(bert, ["inhibitor", "il-2"])  # doctest: +SKIP
    [[("inhibitor", (26935,))], [("il", (6335,)), ("-", (1011,)), ("2", (1016,))]]

    Raises UserError if the tokenizer does not split texts into words.
    """
    special = SpecialTokens.of(tokenizer)
    texts = [CONTEXT + word for word in words]
    found = [list(words_of(*one, special)) for one in zip(texts, encodings(tokenizer, texts), strict=True)]
    if any(not of_text or of_text[0][0] != CONTEXT.strip() for of_text in found):
        raise UserError(
            f"model.name: the tokenizer of '{tokenizer.name_or_path}' does not split texts into words before it looks "
            "for pieces, so no words can be added to it. Choose another model."
        )
    return [of_text[1:] for of_text in found]


def can_add_unknown(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Return whether words with characters that are unknown to the tokenizer can be added to it."""
    return bool(json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("type") == "WordPiece")


def extend_tokenizer(tokenizer: "PreTrainedTokenizerBase", words: Sequence[str]) -> "PreTrainedTokenizerBase":
    """Return a copy of the tokenizer in which each word is one token after a space.

    The new ids follow the largest id, in the order of `words`.

    Args:
        tokenizer: A fast tokenizer.
        words: Distinct words, normalised, each one word of the tokenizer with more than one piece.

    Returns:
        The new tokenizer, which is still a fast tokenizer after saving and loading.

    Raises:
        UserError: The tokenizer is of an unsupported kind, or does not split texts into words first.
    """
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = facts["model"].get("type")
    first = vocabulary_size(tokenizer)
    match kind:
        case "WordPiece":
            extended = _with_added_tokens(tokenizer, words)
        case "BPE" | "Unigram":
            pieces = [of_word[0][1] for of_word in pieces_of(tokenizer, words)]
            _enter(facts, tokenizer, pieces, first)
            extended = _rebuilt(tokenizer, facts)
        case _:
            raise UserError(
                f"model.name: the tokenizer of '{tokenizer.name_or_path}' ({kind}) does not split words into pieces, "
                "so no words can be added to it. Choose another model, or leave out adapt.add_words."
            )
    for number, (word, found) in enumerate(zip(words, pieces_of(extended, words), strict=True)):
        if [ids for _, ids in found] != [(first + number,)]:
            raise UserError(f"the tokenizer of '{tokenizer.name_or_path}' does not find the added word {shown(word)}")
    return extended


def _with_added_tokens(tokenizer: "PreTrainedTokenizerBase", words: Sequence[str]) -> "PreTrainedTokenizerBase":
    from tokenizers import AddedToken

    extended = copy.deepcopy(tokenizer)
    extended.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    return extended


def _enter(facts: dict[str, Any], tokenizer: "PreTrainedTokenizerBase", pieces: Sequence[Ids], first: int) -> None:
    """Add words to the vocabulary of a serialised BPE or Unigram tokenizer, in place.

    Added tokens with ids after the vocabulary, such as [MASK], are added to it as well: on loading, their ids would
    otherwise move after the new entries.

    Args:
        facts: The serialised tokenizer.
        tokenizer: The tokenizer before the change.
        pieces: The ids of the pieces of each word.
        first: The id of the first word.
    """
    model = facts["model"]
    added = {token["id"]: token["content"] for token in facts["added_tokens"]}
    forms = ["".join(tokenizer.convert_ids_to_tokens(list(ids))) for ids in pieces]
    if model["type"] == "BPE":
        model["vocab"] |= {content: number for number, content in added.items() if content not in model["vocab"]}
        model["vocab"] |= {form: first + number for number, form in enumerate(forms)}
        model["ignore_merges"] = True
        return
    vocabulary = model["vocab"]
    scores = [score for _, score in vocabulary]
    least = min(scores)
    unknown = least - 10  # the score of an unknown piece in tokenizers
    scores += [least] * (first - len(scores))
    vocabulary += [[added.get(number, f"<unused{number}>"), least] for number in range(len(vocabulary), first)]
    for form, ids in zip(forms, pieces, strict=True):
        score = sum(unknown if one == model["unk_id"] else scores[one] for one in ids)
        vocabulary.append([form, score + TIE])


def _rebuilt(tokenizer: "PreTrainedTokenizerBase", facts: dict[str, Any]) -> "PreTrainedTokenizerBase":
    """Return a tokenizer with the serialised backend `facts` and the properties of `tokenizer`.

    It has a general class, because transformers rebuilds others on loading from their vocabulary and merges alone.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    kept = {name: getattr(tokenizer, name) for name in KEPT if hasattr(tokenizer, name)}
    roles = {role: token for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    kept["extra_special_tokens"] = [one for one in tokenizer.all_special_tokens if one not in roles.values()]
    backend = Tokenizer.from_str(json.dumps(facts))
    extended = PreTrainedTokenizerFast(tokenizer_object=backend, **roles, **kept)
    extended.name_or_path = tokenizer.name_or_path
    return extended
