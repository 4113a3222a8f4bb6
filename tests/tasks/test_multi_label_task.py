import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from transformers import BertConfig, PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.seeding import torch_stream
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.multi_label import MultiLabelExample
from nmg.tasks.multi_label import MultiLabelTask, multi_label_f1
from nmg.tasks.registry import task_kind

SETTINGS = FinetuneSettings(max_length=12)
EXAMPLES = [
    MultiLabelExample("0", "the quick brown fox", ("animal", "fast"), 0),
    MultiLabelExample("1", "the lazy dog " * 20, ("animal",), 1),
    MultiLabelExample("2", "the river", (), 2),
    MultiLabelExample("3", "the train", ("fast",), 3),
]
CONFIG = BertConfig(vocab_size=40_000, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)


def built(tokenizer: PreTrainedTokenizerBase) -> MultiLabelTask:
    task = task_kind("multi-label").build(tokenizer, EXAMPLES, SETTINGS)
    assert isinstance(task, MultiLabelTask)
    return task


def test_targets_are_one_for_each_label(tokenizer: PreTrainedTokenizerBase):
    task = built(tokenizer)
    assert task.labels == ("animal", "fast")
    features = task.encode(EXAMPLES)
    assert features.lengths.max() == 12
    batch = features.batch(np.array([3, 0, 2]))
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [[0, 1], [1, 1], [0, 0]]
    assert features.loss_terms(batch).tolist() == [1, 1, 1]
    assert len(task.encode([])) == 0


def test_a_sample_has_all_labels_of_the_file(tokenizer: PreTrainedTokenizerBase):
    sample = [replace(EXAMPLES[1], label_set=("animal", "fast", "slow"))]
    task = task_kind("multi-label").build(tokenizer, sample, SETTINGS)
    assert isinstance(task, MultiLabelTask)
    assert task.labels == ("animal", "fast", "slow")
    with pytest.raises(UserError, match=r"example 'x' has the label 'big', which no training .*animal, fast, slow"):
        task.encode([MultiLabelExample("x", "text", ("big",), 0)])
    with pytest.raises(UserError, match="needs a training example with a label"):
        task_kind("multi-label").build(tokenizer, [EXAMPLES[2]], SETTINGS)


def test_pairs_are_joined_as_the_tokenizer_joins_them(tokenizer: PreTrainedTokenizerBase):
    pairs = [replace(example, pair="the lazy dog jumps") for example in EXAMPLES]
    features = built(tokenizer).encode(pairs)
    expected = tokenizer(pairs[0].text, pairs[0].pair, truncation=True, max_length=12)["input_ids"]
    assert features.batch(np.array([0]))["input_ids"][0].tolist() == expected


def test_model_and_evaluation_agree_on_the_loss(wordpiece: PreTrainedTokenizerBase):
    task = built(wordpiece)
    with torch_stream(0, "head"):
        model = task.new_model(CONFIG).eval()
    assert model.config.id2label == {0: "animal", 1: "fast"}
    features = task.encode(EXAMPLES)
    for rows in (np.arange(4), np.array([1])):
        with torch.inference_mode():
            outputs = model(**features.batch(rows))
        chosen = [EXAMPLES[row] for row in rows]
        evaluation = task.evaluate({"logits": outputs.logits}, task.encode(chosen), chosen)
        assert evaluation.scores["loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_scores_by_hand(wordpiece: PreTrainedTokenizerBase):
    """Animal: TP 1, FN 1, FP 1. Fast: TP 1, FN 1. The decision needs a probability above 0.5."""
    task = built(wordpiece)
    logits = torch.tensor([[2.0, 2.0], [0.0, -2.0], [2.0, -2.0], [-2.0, -2.0]])
    evaluation = task.evaluate({"logits": logits}, task.encode(EXAMPLES), EXAMPLES)
    right, wrong, even = (math.log1p(math.exp(-2)), math.log1p(math.exp(2)), math.log(2))
    losses = [right, (even + right) / 2, (wrong + right) / 2, (right + wrong) / 2]
    assert evaluation.scores == pytest.approx(
        {
            "micro_f1": 4 / (4 + 2 + 1),
            "macro_f1": (2 / 4 + 2 / 3) / 2,
            "subset_accuracy": 0.25,
            "loss": np.mean(losses),
        }
    )
    assert evaluation.example_scores["loss"] == pytest.approx(losses)
    assert evaluation.example_scores["subset_accuracy"].tolist() == [1, 0, 0, 0]
    assert evaluation.predictions == {"0": "animal|fast", "1": "", "2": "animal", "3": ""}


MATRICES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=n, max_size=n)] * 2)
)


@given(MATRICES)
def test_scores_equal_scikit_learns(matrices: tuple[list[list[bool]], list[list[bool]]]):
    gold, predicted = (np.array(matrix) for matrix in matrices)
    micro, macro = multi_label_f1(gold, predicted)
    assert micro == pytest.approx(f1_score(gold, predicted, average="micro", zero_division=0))
    assert macro == pytest.approx(f1_score(gold, predicted, average="macro", zero_division=0))
    assert (gold == predicted).all(axis=1).mean() == pytest.approx(accuracy_score(gold, predicted))


def test_relevance_by_hand(wordpiece: PreTrainedTokenizerBase):
    """ "fox" is in one of four texts. Both labels are in half of the texts, and "fox" has both."""
    relevance = task_kind("multi-label").relevance(wordpiece, EXAMPLES)
    (fox,), (the,) = (wordpiece(word, add_special_tokens=False)["input_ids"] for word in ("fox", "the"))
    share = (1 + 5 * 0.5) / (1 + 5)
    one = share * math.log(share / 0.5) + (1 - share) * math.log((1 - share) / 0.5)
    assert relevance[fox] == pytest.approx(2 * one)
    assert relevance[the] == pytest.approx(0, abs=1e-12)
    assert (relevance > -1e-12).all()
    always = [replace(example, labels=("animal",)) for example in EXAMPLES]
    assert not task_kind("multi-label").relevance(wordpiece, always).any()
