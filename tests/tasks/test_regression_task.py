from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from transformers import BertConfig, PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.seeding import torch_stream
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.regression import RegressionExample
from nmg.tasks.registry import task_kind
from nmg.tasks.regression import RegressionTask, pearson, spearman

SETTINGS = FinetuneSettings(max_length=12)
EXAMPLES = [
    RegressionExample(str(i), text, number, i)
    for i, (text, number) in enumerate([("the fox", 1.0), ("the dog", 3.0), ("the river", 3.0), ("a fox", 5.0)])
]
"""Mean 3, standard deviation √2."""
CONFIG = BertConfig(vocab_size=40_000, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)


def built(tokenizer: PreTrainedTokenizerBase) -> RegressionTask:
    task = task_kind("regression").build(tokenizer, EXAMPLES, SETTINGS)
    assert isinstance(task, RegressionTask)
    return task


def test_targets_are_standardised_by_the_training_examples(tokenizer: PreTrainedTokenizerBase):
    task = built(tokenizer)
    features = task.encode([*EXAMPLES[:2], RegressionExample("new", "far", -1.0, -1)])
    batch = features.batch(np.array([2, 0, 1]))
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].numpy() == pytest.approx([-4 / 2**0.5, -2 / 2**0.5, 0])
    assert features.loss_terms(batch).tolist() == [1, 1, 1]
    with pytest.raises(UserError, match="at least two different numbers"):
        task_kind("regression").build(tokenizer, EXAMPLES[1:3], SETTINGS)


def test_a_target_of_minus_100_counts(tokenizer: PreTrainedTokenizerBase):
    task = built(tokenizer)
    features = task.encode([RegressionExample("x", "t", task.mean - 100 * task.deviation, -1)])
    batch = features.batch(np.array([0]))
    assert batch["labels"].item() == pytest.approx(-100)
    assert features.loss_terms(batch).tolist() == [1]


def test_pairs_are_joined_as_the_tokenizer_joins_them(tokenizer: PreTrainedTokenizerBase):
    pairs = [replace(example, pair="the lazy dog jumps") for example in EXAMPLES]
    expected = tokenizer(pairs[0].text, pairs[0].pair, truncation=True, max_length=12)["input_ids"]
    assert built(tokenizer).encode(pairs).batch(np.array([0]))["input_ids"][0].tolist() == expected


def test_model_and_evaluation_agree_on_the_loss(wordpiece: PreTrainedTokenizerBase):
    task = built(wordpiece)
    with torch_stream(0, "head"):
        model = task.new_model(CONFIG).eval()
    for rows in (np.arange(4), np.array([3])):
        chosen = [EXAMPLES[row] for row in rows]
        with torch.inference_mode():
            outputs = model(**task.encode(EXAMPLES).batch(rows))
        assert outputs.logits.shape == (len(rows), 1)
        evaluation = task.evaluate({"logits": outputs.logits}, task.encode(chosen), chosen)
        assert evaluation.scores["loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_scores_by_hand(wordpiece: PreTrainedTokenizerBase):
    """Gold (1, 3, 3, 5), predicted (0, 2, 4, 3): deviations from the means (-2, 0, 0, 2) and (-2.25, -.25, 1.75, .75),
    ranks (1, 2.5, 2.5, 4) and (1, 2, 4, 3).
    """
    task = built(wordpiece)
    standardised = (np.array([0.0, 2.0, 4.0, 3.0]) - 3) / 2**0.5
    outputs = {"logits": torch.from_numpy(standardised)[:, None].float()}
    evaluation = task.evaluate(outputs, task.encode(EXAMPLES), EXAMPLES)
    assert evaluation.scores == pytest.approx(
        {"pearson": 6 / (8 * 8.75) ** 0.5, "spearman": 3 / (4.5 * 5) ** 0.5, "loss": (1 + 1 + 1 + 4) / 2 / 4}
    )
    assert evaluation.example_scores["loss"] == pytest.approx([0.5, 0.5, 0.5, 2.0])
    found = {key: float(value) for key, value in evaluation.predictions.items()}
    assert found == pytest.approx({"0": 0, "1": 2, "2": 4, "3": 3}, abs=1e-5)


def test_equal_predictions_have_no_correlation(wordpiece: PreTrainedTokenizerBase):
    task = built(wordpiece)
    scores = task.evaluate({"logits": torch.full((4, 1), 0.1)}, task.encode(EXAMPLES), EXAMPLES).scores
    assert (scores["pearson"], scores["spearman"]) == (0.0, 0.0)
    one = task.evaluate({"logits": torch.zeros(1, 1)}, task.encode(EXAMPLES[:1]), EXAMPLES[:1]).scores
    assert (one["pearson"], one["spearman"]) == (0.0, 0.0)
    lost = task.evaluate({"logits": torch.full((4, 1), torch.nan)}, task.encode(EXAMPLES), EXAMPLES).scores
    assert np.isnan(lost["loss"]), "a training that diverged is not a score of 0"


PAIRS = st.lists(st.tuples(*[st.integers(-9, 9)] * 2), min_size=2, max_size=20)


@given(PAIRS, st.sampled_from([1e-180, 1.0, 1e180]))
def test_correlations_equal_scipys(pairs: list[tuple[int, int]], scale: float):
    x, y = np.array(pairs, dtype=np.float64).T
    is_constant = len(set(x)) == 1 or len(set(y)) == 1
    expected = (0.0, 0.0) if is_constant else (stats.pearsonr(x, y)[0], stats.spearmanr(x, y)[0])
    assert (pearson(scale * x, y), spearman(scale * x, y)) == pytest.approx(expected, abs=1e-9)


def test_relevance_by_hand(wordpiece: PreTrainedTokenizerBase):
    """ "dog" has the mean number. "a" has one text of 5, "the" three texts of 1, 3 and 3."""
    relevance = task_kind("regression").relevance(wordpiece, EXAMPLES)
    dog, a, the = (wordpiece(word, add_special_tokens=False)["input_ids"][0] for word in ("dog", "a", "the"))
    assert relevance[dog] == pytest.approx(0)
    assert relevance[a] == pytest.approx((2**0.5 / (1 + 5)) ** 2 / 2)
    assert relevance[the] == pytest.approx((-(2**0.5) / (3 + 5)) ** 2 / 2)
