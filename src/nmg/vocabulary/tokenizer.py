"""Adds whole words to a fast tokenizer so that no text gets more tokens than before.

How depends on the model of the tokenizer:

- WordPiece (BERT): an added token that matches between characters that are not of a word (`\\w`). The greedy search for
  the longest piece does not see the word, so "inhibitors" keeps its pieces. One exception: a word that is joined to a
  symbol such as "™" may have been one unknown token before; then the word becomes known, and the symbol is one more.
- BPE of bytes (RoBERTa, ModernBERT): an entry of the vocabulary that is used if a whole word equals it
  (`ignore_merges`). Every other word is merged as before.
- Unigram (XLM-R, ALBERT, DeBERTa v2 and v3): a piece whose score is the sum of the scores of the pieces that it
  replaces. The best segmentation of any text stays the best one, with those pieces contracted. "inhibitors" may
  therefore become "inhibitor" and "s" if it was split there before.
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
"""Added to the score of a Unigram piece, so that it wins against its own pieces despite rounding. Far less than the
differences between scores, which are stored as 32-bit numbers."""
KEPT = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces")
"""Properties that a tokenizer keeps when it is built from another backend."""


def pieces_of(tokenizer: "PreTrainedTokenizerBase", words: Sequence[str]) -> list[list[tuple[str, Ids]]]:
    """Return what the tokenizer makes of each text after a space: its words, each with the ids of its pieces.

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
    """Return whether words with characters that the tokenizer does not know can be added."""
    return bool(json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("type") == "WordPiece")


def extend_tokenizer(tokenizer: "PreTrainedTokenizerBase", words: Sequence[str]) -> "PreTrainedTokenizerBase":
    """Return a copy of the tokenizer in which each word is one token after a space.

    The new ids follow the largest id, in the order of `words`.

    Args:
        tokenizer: A fast tokenizer.
        words: Distinct words, normalised, each one word of the tokenizer with more than one piece.

    Returns:
        The new tokenizer. It stays a fast one when it is saved and loaded.

    Raises:
        UserError: The tokenizer is of another kind, or does not split texts into words first.
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
                "so no words can be added to it"
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
    """Enter the words with these pieces in the vocabulary of a serialised BPE or Unigram tokenizer.

    Added tokens with ids after the vocabulary, such as [MASK], are entered as well: on loading, their ids would
    otherwise move after the new entries.
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
    """Return a tokenizer with another backend. Its class is a plain one: others are rebuilt on loading, from their
    vocabulary and merges alone."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    kept = {name: getattr(tokenizer, name) for name in KEPT if hasattr(tokenizer, name)}
    roles = {role: token for role, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    kept["extra_special_tokens"] = [one for one in tokenizer.all_special_tokens if one not in roles.values()]
    backend = Tokenizer.from_str(json.dumps(facts))
    extended = PreTrainedTokenizerFast(tokenizer_object=backend, **roles, **kept)
    extended.name_or_path = tokenizer.name_or_path
    return extended
