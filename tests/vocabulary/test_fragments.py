"""Words and pieces of a corpus, counted by hand."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from nmg.base.errors import UserError
from nmg.vocabulary.fragments import Fragmentation, count_fragments, count_tokens
from nmg.vocabulary.tokenizer import extend_tokenizer
from nmg.vocabulary.words import Proposal, check_word_list, choose_words, read_word_list
from support.documents import documents
from support.families import FAMILIES, family

from .conftest import TEXTS


@pytest.fixture
def counted(bert: PreTrainedTokenizerFast) -> Fragmentation:
    return count_fragments(TEXTS, bert)


def test_words_and_pieces_of_a_corpus(counted: Fragmentation):
    pieces = {word.word: (word.count, word.pieces) for word in counted.words}
    assert pieces == {
        **{"the": (3, 3), "inhibitor": (4, 12), "binds": (1, 1), "kinase": (3, 6)},
        **{"inhibitors": (1, 4), "a": (1, 1), "s": (1, 1)},
    }
    assert (counted.n_texts, counted.n_words) == (2, 14)
    assert counted.n_tokens == 28 + len([".", ":", "-", "(", ")", ",", "'", "2", "."])
    assert counted.pieces_per_word == 28 / 14
    assert counted.pieces_per_distinct_word == (1 + 3 + 1 + 2 + 4 + 1 + 1) / 7
    assert counted.split_share == 8 / 14
    assert counted.unknown_share == 0
    assert [(word.word, word.excess) for word in counted.worst(9)] == [
        ("inhibitor", 8),
        ("inhibitors", 3),
        ("kinase", 3),
    ]


def test_unknown_words(bert: PreTrainedTokenizerFast):
    counted = count_fragments(["the zebra [SEP] binds"], bert)
    assert [word.word for word in counted.words] == ["the", "zebra", "binds"], "a special token is no word"
    assert counted.unknown_share == 1 / 3
    assert not choose_words(counted, bert, 5, min_count=1), "one unknown piece cannot become fewer"


def test_the_words_that_save_most(counted: Fragmentation, bert: PreTrainedTokenizerFast):
    assert choose_words(counted, bert, 2, min_count=1) == [Proposal("inhibitor", 4, 8), Proposal("inhibitors", 1, 3)]
    assert choose_words(counted, bert, 9, min_count=3) == [Proposal("inhibitor", 4, 8), Proposal("kinase", 3, 3)]


@pytest.mark.parametrize("kind", FAMILIES)
def test_tokens_saved_are_those_that_were_promised(kind: str):
    tokenizer = family(kind)
    texts = [f"{text}. Of inhibitors, the inhibitor (inhibitor) it." for text in documents(30)]
    before = count_tokens(texts, tokenizer)
    chosen = choose_words(count_fragments(texts, tokenizer), tokenizer, 5)
    saved = before - count_tokens(texts, extend_tokenizer(tokenizer, [one.word for one in chosen]))
    promised = sum(one.saved for one in chosen)
    assert len(chosen) == 5
    if kind == "SentencePiece":
        assert saved >= promised > 0, "longer words are shorter as well"
    else:
        assert saved == promised > 0


def test_the_order_of_texts_changes_nothing(bert: PreTrainedTokenizerFast):
    both = [choose_words(count_fragments(texts, bert), bert, 9, min_count=1) for texts in (TEXTS, TEXTS[::-1])]
    assert both[0] == both[1]


def test_lines_of_a_file(bert: PreTrainedTokenizerFast, tmp_path: Path):
    path = tmp_path / "words.txt"
    path.write_text("Inhibitor\n\n kinase \ninhibitor\nthe\nzebra\n")
    found = check_word_list(path, read_word_list(path), bert)
    assert found.words == ("inhibitor", "kinase", "zebra")
    assert found.left_out() == "1 already in the vocabulary, 1 duplicates, 1 blank lines"


@pytest.mark.parametrize("line", ["inhibitor kinase", "il-2", "[MASK]", "kinase-inhibitor"])
def test_a_line_that_is_not_one_word(line: str, bert: PreTrainedTokenizerFast, tmp_path: Path):
    path = tmp_path / "words.txt"
    path.write_text(f"kinase\n{line}\n")
    with pytest.raises(UserError, match=r"words.txt, line 2: .* is not one word: the tokenizer reads"):
        check_word_list(path, read_word_list(path), bert)
