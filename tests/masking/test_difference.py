"""Difference-Masking on text: anchors are content words, and function words are masked at or below chance."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.settings import MaskingSettings
from nmg.data.corpus import Corpus
from nmg.inspection.draws import count_draws
from nmg.masking.anchors import CountedWord, blocks_of, count_words, find_anchors
from nmg.masking.counts import guessed_counts
from nmg.masking.function_words import is_function_word
from nmg.masking.registry import build_masking
from support.english import DOMAIN, GENERAL, english_tokenizer
from support.files import model_folder, read_rows

from .helpers import word_piece_tokenizer, words_of

TOKENIZER = english_tokenizer()


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.build(DOMAIN, TOKENIZER, 126, tmp_path)


@pytest.fixture
def general(tmp_path: Path) -> str:
    path = tmp_path / "general.txt"
    path.write_text("\n".join(GENERAL), encoding="utf-8")
    return str(path)


def ratio(
    corpus: Corpus, embeddings: torch.Tensor, tokenizer: Any, settings: MaskingSettings
) -> tuple[float, list[str]]:
    """How often function words and punctuation are masked, as a multiple of chance, and the anchors."""
    said: list[str] = []
    masking = build_masking("difference", tokenizer, corpus, settings, embeddings, said.append)
    blocks = corpus.blocks(np.arange(min(len(corpus), 100)))
    drawn = count_draws(masking.plan, blocks, 0.15, 50, np.random.default_rng(0))[blocks.is_maskable.numpy()]
    is_function = np.array([is_function_word(word) for word in words_of(blocks, tokenizer)])
    (line,) = said
    return float(drawn[is_function].mean() / drawn.mean()), line.removeprefix("difference: anchors ").split(", ")


def test_anchors_of_a_text_are_its_content_words(corpus: Corpus, general: str) -> None:
    embeddings = torch.randn(len(TOKENIZER), 32, generator=torch.Generator().manual_seed(0))
    for settings in (MaskingSettings(), MaskingSettings(general_corpus=general)):
        share, anchors = ratio(corpus, embeddings, TOKENIZER, settings)
        assert not any(map(is_function_word, anchors)), anchors
        assert {"inhibitor", "receptor", "enzyme", "blood", "drug"} <= set(anchors)
        assert share < 1.0


@pytest.mark.parametrize("name", ["chemprot", "mr"])
@pytest.mark.parametrize("has_general", [False, True])
def test_anchors_of_real_data_are_content_words(name: str, has_general: bool, shared: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model = model_folder("minilm-mlm")
    tokenizer = AutoTokenizer.from_pretrained(model)
    embeddings = AutoModelForMaskedLM.from_pretrained(model).get_input_embeddings().weight
    texts = [row["text"] for row in read_rows(shared / name / "train.jsonl")[:1500]]
    settings = MaskingSettings(general_corpus=str(shared / "qamr/corpus.txt") if has_general else None)
    share, anchors = ratio(Corpus.build(texts, tokenizer, 126, tmp_path), embeddings, tokenizer, settings)
    expected = {
        "chemprot": {"inhibitor", "receptor", "inhibition", "kinase", "antagonist"},
        "mr": {"movie", "film", "comedy", "plot"},
    }
    assert expected[name] <= set(anchors)
    assert not any(map(is_function_word, anchors)), anchors
    assert share <= 1.0


def test_the_score_is_by_hand() -> None:
    """p · ln(p / q): 0.2 · ln(0.2 / q) of the rare word is above 0.5 · ln(0.5 / q) of the frequent one."""
    here = [
        CountedWord(text, count, (n,))
        for n, (text, count) in enumerate({"film": 5, "inhibitor": 2, "enzyme": 3}.items())
    ]
    general = {"film": 40.0, "house": 60.0}
    assert [word.text for word in find_anchors(here, general, 3)] == ["enzyme", "inhibitor", "film"]
    assert [word.text for word in find_anchors(here, general, 1)] == ["enzyme"]
    assert find_anchors(here, {"film": 90.0, "enzyme": 900.0, "inhibitor": 900.0}, 3)[0].text == "film"


def test_function_words_marks_and_what_is_common_everywhere_are_no_anchors() -> None:
    here = [CountedWord(text, 10, (0,)) for text in ("the", "<", "##", "12", "x", "wirkung", "und", "酶")]
    general = {"und": 50.0, **{f"wort{n}": 10.0 for n in range(1000)}}
    assert [word.text for word in find_anchors(here, general, 10)] == ["wirkung", "酶"]


def test_words_are_counted_in_any_case(tmp_path: Path) -> None:
    from support.families import family

    tokenizer = family("byte-level BPE")
    corpus = Corpus.build(["Dose, dose the DOSE dose dose.", "The dose"], tokenizer, 126, tmp_path)
    counts = {word.text: word.count for word in count_words(blocks_of(corpus), tokenizer)}
    assert counts == {"dose": 6, "the": 2, ",": 1, ".": 1}


def test_a_text_without_content_words_is_refused(tmp_path: Path) -> None:
    corpus = Corpus.build(["the of and a", "in , to ."], TOKENIZER, 126, tmp_path)
    with pytest.raises(UserError, match="finds no anchors"):
        build_masking("difference", TOKENIZER, corpus, MaskingSettings(), torch.randn(len(TOKENIZER), 4))


def test_a_guess_is_said(corpus: Corpus, general: str, caplog: pytest.LogCaptureFixture) -> None:
    embeddings = torch.randn(len(TOKENIZER), 4)
    build_masking("difference", TOKENIZER, corpus, MaskingSettings(general_corpus=general), embeddings)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        build_masking("difference", TOKENIZER, corpus, MaskingSettings(), embeddings)
    assert "masking.general_corpus" in caplog.text


def test_the_block_of_characters_does_not_come_before_words() -> None:
    """Characters at the start of a vocabulary are in the order of code points, not of frequency."""
    guess = guessed_counts(TOKENIZER)
    the, a_letter = TOKENIZER.convert_tokens_to_ids(["the", "q"])
    assert TOKENIZER.convert_tokens_to_ids("the") > 40, "behind the characters"
    assert guess[the] > guess[a_letter]
    assert (guess > guess[the]).sum() < 10


def test_a_vocabulary_in_order_of_frequency_is_left_as_it_is() -> None:
    """RoBERTa's begins with ".", "Ġthe", ",": a few characters at its start are no block."""
    words = [".", "the", ",", "and", "a", "cell", "b"]
    tokenizer = word_piece_tokenizer(words)
    counts = guessed_counts(tokenizer)[tokenizer.convert_tokens_to_ids(words)]
    assert counts.tolist() == pytest.approx([7 / rank for rank in range(1, 8)])
