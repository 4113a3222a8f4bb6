"""Conversion of the `texts` argument of a collator into a corpus, for rules that count words."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nmg.base.errors import UserError
from nmg.base.files import default_cache_dir
from nmg.collation.given import rows_of
from nmg.data.corpus import Corpus

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BLOCK_SIZE = 510
"""Number of tokens per block of the corpus; counts per context do not depend on it."""


def corpus_of(texts: "Iterable[Any] | Corpus", tokenizer: "PreTrainedTokenizerBase") -> Corpus:
    """Return a cached corpus of texts, or of rows with `text` or `input_ids`.

    Raises UserError for a row that has neither.
    """
    if isinstance(texts, Corpus):
        return texts
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    found = [_text_of(row, tokenizer, special) for row in rows_of(texts, "texts")]
    return Corpus.build(found, tokenizer, BLOCK_SIZE, default_cache_dir(None))


def _text_of(row: Any, tokenizer: "PreTrainedTokenizerBase", special: set[int]) -> str:
    """Return the text of a row, decoded without `special` tokens if it contains only ids."""
    if isinstance(row, str):
        return row
    if isinstance(row, Mapping) and isinstance(row.get("text"), str):
        return str(row["text"])
    if isinstance(row, Mapping) and "input_ids" in row:
        ids = [int(token) for token in row["input_ids"] if int(token) not in special]
        return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
    raise UserError("texts: each must be a text, or a row with the field text or input_ids")
