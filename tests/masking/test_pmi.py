"""Collocations: PMI by hand, and what is masked together."""

import math
import unicodedata
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from nmg.base.settings import MaskingSettings
from nmg.data.corpus import Corpus
from nmg.masking.phrases import Words
from nmg.masking.pmi import DistinctText, _count, _scores, find_collocations
from nmg.masking.registry import build_masking
from support.english import DOMAIN, english_tokenizer
from support.files import model_folder, read_rows
from support.tiny import word_tokenizer

WORDS = ["kuala", "lumpur", "is", "a", "city", "new", "york", "old"]
TEXTS = [
    "kuala lumpur is a city",
    "new york is a city",
    "kuala lumpur is old",
    "new york is new",
    "a city is a city",
    "old is a is a",
    "a kuala lumpur is a city",
]
TOKENIZER = word_tokenizer(WORDS)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.build(TEXTS, TOKENIZER, 32, tmp_path)


def slow_pmi(ngram: tuple[str, ...]) -> float:
    """From the definition: all ways to cut, all counts by search."""
    texts = [text.split() for text in TEXTS]
    total = sum(map(len, texts))

    def p(part: tuple[str, ...]) -> float:
        n = len(part)
        return sum(tuple(text[i : i + n]) == part for text in texts for i in range(len(text) - n + 1)) / total

    values = []
    for n_cuts in range(1, len(ngram)):
        for cuts in combinations(range(1, len(ngram)), n_cuts):
            parts = [ngram[a:b] for a, b in pairwise((0, *cuts, len(ngram)))]
            values.append(math.log(p(ngram) / math.prod(p(part) for part in parts)))
    return min(values)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_pmi_is_that_of_the_definition(corpus: Corpus, n: int) -> None:
    source = DistinctText.of(corpus, TOKENIZER)
    counts = [_count(source, 1, [], 1)]
    for length in range(2, 5):
        counts.append(_count(source, length, counts, 2))
    scores = _scores(source, counts)[n - 2]
    words = Words.of(corpus.blocks(np.arange(len(corpus))))
    keys, is_whole = words.ngrams(n)[-1]
    texts, found = [text.split() for text in TEXTS], {}
    ngrams = [tuple(text[i : i + n]) if i + n <= len(text) else None for text in texts for i in range(len(text))]
    for ngram, key, whole in zip(ngrams, keys.tolist(), is_whole.tolist(), strict=True):
        assert whole == (ngram is not None)
        if ngram is not None and ngrams.count(ngram) >= 2:
            found[ngram] = scores[key]
    assert found
    assert len(found) == len(scores)
    for ngram, score in found.items():
        assert score == pytest.approx(slow_pmi(ngram)), ngram


def test_collocations_are_masked_together(corpus: Corpus) -> None:
    settings = MaskingSettings(pmi_longest=2, pmi_least_count=2, pmi_share=0.3)
    masking = build_masking("pmi", TOKENIZER, corpus, settings)
    blocks = corpus.blocks(np.array([0] * 200))
    masked = masking.plan(blocks, 0.4, np.random.default_rng(0)).is_masked(blocks.input_ids.shape[1])
    assert (masked.sum(dim=1) == 2).all()
    assert masked[:, 1].equal(masked[:, 2]), "kuala lumpur"
    assert 0 < int(masked[:, 1].sum()) < 200
    assert not masked[:, 3].equal(masked[:, 4]), "is a"


def test_no_share_and_rare_ngrams_leave_whole_words(corpus: Corpus) -> None:
    source = DistinctText.of(corpus, TOKENIZER)
    for found in (find_collocations(source, 5, 2, 0.0), find_collocations(source, 5, 100, 1.0)):
        assert sum(map(len, found.keys)) == 0


def collocations(texts: Sequence[str], tokenizer: Any, folder: Path, least: int) -> set[str]:
    """Every n-gram of the texts that is a collocation, as text."""
    corpus = Corpus.build(texts, tokenizer, 126, folder)
    phrases = find_collocations(DistinctText.of(corpus, tokenizer), 4, least, 1.0)
    found = set()
    for block_id in range(len(corpus)):
        blocks = corpus.blocks(np.array([block_id]))
        unit, _ = phrases.find(blocks, 0.0)
        words, text, offsets = blocks.word_index[0], corpus.text(block_id), corpus.offsets(block_id)
        for number in unit[0].unique().tolist():
            places = (unit[0] == number).nonzero().flatten()
            if number >= 0 and len(words[places].unique()) > 1:
                found.add(text[offsets[places[0], 0] : offsets[places[-1], 1]].lower())
    return found


def test_collocations_hold_no_punctuation_and_repeated_texts_count_once(tmp_path: Path) -> None:
    names = ("heart", "liver", "lung", "brain", "kidney", "skin")
    marked = [f"<< Aspirin >> ( 9 mg ) acts on [[ {name} ]] - blood pressure falls, too ." for name in names]
    again = ["A red kite flew by .", "<< A red kite >> flew by .", "a red kite flew by !"]
    found = collocations([*marked, *again, *DOMAIN], english_tokenizer(), tmp_path, 3)
    assert any("blood pressure" in one for one in found)
    assert not [one for one in found if set(one) & set("<>()[]-,.!")]
    assert not [one for one in found if "red kite" in one], "one text, whatever its marks"
    assert any("red kite" in one for one in collocations([*again, *DOMAIN], english_tokenizer(), tmp_path, 1))


@pytest.mark.parametrize("name", ["chemprot"])
def test_collocations_of_real_data(name: str, shared: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder("tiny-mlm"))
    texts = [row["text"] for row in read_rows(shared / name / "train.jsonl")]
    found = collocations(texts, tokenizer, tmp_path, 10)
    assert {"tyrosine kinase"} <= {" ".join(one.split()[:2]) for one in found}
    assert not [one for one in found if any(unicodedata.category(character)[0] in "PS" for character in one)]
