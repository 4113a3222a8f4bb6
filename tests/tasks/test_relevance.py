"""How much a token tells of the task, by hand."""

from math import log

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from nmg.base.types import Example
from nmg.data.formats.classification import ClassificationExample
from nmg.data.formats.multi_label import MultiLabelExample
from nmg.data.formats.questions import QAExample
from nmg.data.formats.regression import RegressionExample
from nmg.data.formats.tokens import TokenExample
from nmg.tasks.registry import TASKS, task_kind
from support.tiny import SPECIAL, word_tokenizer

WORDS = ["enzyme", "drug", "binds", "the", "never"]


def relevance(task: str, examples: list[Example]) -> dict[str, float]:
    tokenizer = word_tokenizer(WORDS)
    found = task_kind(task).relevance(tokenizer, examples)
    assert found.shape == (len(tokenizer),)
    assert found.dtype == np.float64
    special = dict.fromkeys(SPECIAL, 0.0)
    values = dict(zip([*SPECIAL, *WORDS], found.tolist(), strict=True))
    assert {name: values[name] for name in special} == pytest.approx(special, abs=1e-12)
    return {word: values[word] for word in WORDS}


def labelled(*pairs: tuple[str, str]) -> list[Example]:
    return [ClassificationExample(str(n), text, label, n) for n, (text, label) in enumerate(pairs)]


def question(context: str, *answers: str) -> Example:
    return QAExample("0", "the never", context, answers, tuple(context.index(answer) for answer in answers), 0)


def divergence(*counts: tuple[float, float]) -> float:
    """Σ p ln(p / q) for (texts with the label and the token, share of the label), with five texts before."""
    n = sum(count for count, _ in counts) + 5
    return sum((count + 5 * q) / n * log((count + 5 * q) / n / q) for count, q in counts)


def test_labels_of_the_texts_that_hold_a_token():
    """Each text counts once, however often it holds it."""
    examples = labelled(
        ("the enzyme enzyme enzyme", "b"), ("the enzyme", "b"), ("the drug", "a"), ("the binds enzyme", "a")
    )
    found = relevance("classification", examples)
    by_hand = {
        "the": 0.0,  # two of each
        "enzyme": divergence((1, 0.5), (2, 0.5)),
        "drug": divergence((1, 0.5), (0, 0.5)),
        "binds": divergence((1, 0.5), (0, 0.5)),
        "never": 0.0,
    }
    assert found == pytest.approx(by_hand, abs=1e-12)
    assert found["drug"] > found["enzyme"] > 0


def test_labels_that_are_rarer_tell_more():
    examples = labelled(("drug", "a"), ("enzyme", "b"), ("enzyme", "b"), ("binds", "b"))
    found = relevance("classification", examples)
    by_hand = {
        "drug": divergence((1, 0.25), (0, 0.75)),
        "enzyme": divergence((0, 0.25), (2, 0.75)),
        "binds": divergence((0, 0.25), (1, 0.75)),
    }
    assert {word: found[word] for word in by_hand} == pytest.approx(by_hand)
    assert found["drug"] > found["enzyme"]


def test_one_label_alone_tells_nothing():
    assert set(relevance("classification", labelled(("drug", "a"), ("enzyme", "a"))).values()) == {0.0}


def test_tokens_of_answers_against_tokens_of_passages():
    """Of the first answers alone; nine tokens of passages, three of answers."""
    examples = [question("the enzyme binds the drug", "the drug", "enzyme"), question("the enzyme binds drug", "drug")]
    found = relevance("qa", examples)
    overall = 3 / 9

    def by_hand(in_answers: int, in_passages: int) -> float:
        return log((in_answers + 20 * overall) / (in_passages + 20) / overall)

    wanted = {"enzyme": by_hand(0, 2), "drug": by_hand(2, 2), "binds": by_hand(0, 2), "the": by_hand(1, 3), "never": 0}
    assert found == pytest.approx(wanted, abs=1e-12)
    assert found["drug"] > 0 > found["binds"]


def test_an_answer_cut_otherwise_than_its_passage_is_finite():
    """Its tokens may be nowhere in the passages."""
    example = QAExample("0", "q", "enzyme", ("drug drug drug",), (0,), 0)
    found = relevance("qa", [example])
    overall = 3.0
    assert found["drug"] == pytest.approx(log((3 + 20 * overall) / 23 / overall))
    assert np.isfinite(list(found.values())).all()


def test_answers_without_tokens_tell_nothing():
    assert set(relevance("qa", [QAExample("0", "q", "enzyme", (" ",), (0,), 0)]).values()) == {0.0}


@pytest.mark.parametrize("task", list(TASKS))
def test_ids_of_a_tokenizer_may_have_gaps(task: str):
    """Then the largest is beyond the number of tokens."""
    vocabulary = {"[UNK]": 0, "enzyme": 3, "drug": 9}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    assert len(tokenizer) == 3
    examples = {
        "classification": labelled(("drug", "a"), ("drug", "a"), ("enzyme", "b")),
        "qa": [question("drug enzyme enzyme", "drug")],
        "token-classification": [TokenExample("0", ("drug", "enzyme", "enzyme"), ("B-X", "O", "O"), 0)],
        "multi-label": [MultiLabelExample("0", "drug", ("a",), 0), MultiLabelExample("1", "enzyme", ("b",), 1)],
    }
    numbers = [RegressionExample("0", "drug", 1.0, 0), RegressionExample("1", "enzyme", 2.0, 1)]
    examples |= {"regression": numbers, "similarity": numbers}
    found = task_kind(task).relevance(tokenizer, examples[task])
    assert found.shape == (10,)
    assert found[9] > 0
    assert np.flatnonzero(np.abs(found) > 1e-12).tolist() == [3, 9]
