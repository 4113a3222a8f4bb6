import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, DistilBertConfig, PreTrainedTokenizerBase, RobertaConfig, ViTConfig

from nmg.base.errors import UserError
from nmg.base.seeding import torch_stream
from nmg.base.training_settings import FinetuneSettings
from nmg.data.formats.classification import ClassificationExample
from nmg.data.formats.questions import QAExample
from nmg.tasks.base import Task
from nmg.tasks.classification import ClassificationTask, f1_scores
from nmg.tasks.registry import task_kind

SETTINGS = FinetuneSettings(max_length=12)
EXAMPLES = [
    ClassificationExample(str(index), text, label, index)
    for index, (text, label) in enumerate(
        [
            ("the quick brown fox", "noun"),
            ("jumps over " * 20, "verb"),
            ("lazy", "adjective"),
            ("", "noun"),
            ("jumps over the dog", "verb"),
        ]
    )
]

TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
CONFIGS = [
    BertConfig(vocab_size=40_000, **TINY),
    DistilBertConfig(vocab_size=40_000, dim=8, n_layers=1, n_heads=2, hidden_dim=8),
    RobertaConfig(vocab_size=40_000, type_vocab_size=2, max_position_embeddings=64, **TINY),
]


def test_building_the_task_sorts_the_labels(tokenizer: PreTrainedTokenizerBase) -> None:
    task: Task = task_kind("classification").build(tokenizer, EXAMPLES, SETTINGS)
    assert isinstance(task, ClassificationTask)
    assert (task_kind("classification").name, task.default_metric) == ("classification", "accuracy")
    assert task.labels == ("adjective", "noun", "verb")
    assert task.encode(EXAMPLES).targets["labels"].tolist() == [1, 2, 0, 1, 2]
    many = [ClassificationExample(str(index), "text", str(index * 7 % 50), index) for index in range(50)]
    task = task_kind("classification").build(tokenizer, many, SETTINGS)
    assert isinstance(task, ClassificationTask)
    assert task.labels == tuple(sorted(map(str, range(50))))


def test_what_no_task_can_be_built_from(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(
        UserError,
        match=r"no task 'tagging' \(known: classification, qa, token-classification, multi-label, regression, sim",
    ):
        task_kind("tagging")
    with pytest.raises(UserError, match=r"at least two labels \(found: \['noun'\]\)"):
        task_kind("classification").build(tokenizer, EXAMPLES[:1], SETTINGS)
    with pytest.raises(TypeError, match="only examples of type ClassificationExample"):
        task_kind("classification").build(tokenizer, [QAExample("0", "q", "c", ("c",), (0,), 0)], SETTINGS)


def test_unknown_label(tokenizer: PreTrainedTokenizerBase) -> None:
    task = task_kind("classification").build(tokenizer, EXAMPLES, SETTINGS)
    with pytest.raises(UserError, match="example 'x' has the label 'adverb', which no training example has"):
        task.encode([ClassificationExample("x", "text", "adverb", 0)])


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_the_right(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.padding_side = side
    features = task_kind("classification").build(tokenizer, EXAMPLES, SETTINGS).encode(EXAMPLES)
    expected = [tokenizer(e.text, truncation=True, max_length=12)["input_ids"] for e in EXAMPLES]
    assert len(features) == 5
    assert features.lengths.tolist() == [len(ids) for ids in expected]
    assert features.lengths.max() == 12
    rows = np.array([4, 0, 3, 0])
    batch = features.batch(rows)
    assert set(batch) == {*tokenizer.model_input_names, "labels"}
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    width = max(len(expected[row]) for row in rows)
    for position, row in enumerate(rows):
        padding = width - len(expected[row])
        assert batch["input_ids"][position].tolist() == expected[row] + [tokenizer.pad_token_id] * padding
        assert batch["attention_mask"][position].tolist() == [1] * len(expected[row]) + [0] * padding
    assert batch["labels"].tolist() == [2, 1, 1, 1]


def test_pairs_are_joined_as_the_tokenizer_joins_them(tokenizer: PreTrainedTokenizerBase) -> None:
    pairs = [replace(example, pair="the lazy dog jumps") for example in EXAMPLES]
    features = task_kind("classification").build(tokenizer, pairs, SETTINGS).encode(pairs)
    for row, example in enumerate(pairs):
        expected = tokenizer(example.text, example.pair, truncation=True, max_length=12, return_token_type_ids=True)
        batch = features.batch(np.array([row]))
        assert batch["input_ids"][0].tolist() == expected["input_ids"]
        if "token_type_ids" in batch:
            assert batch["token_type_ids"][0].tolist() == expected["token_type_ids"]


def test_no_examples(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(task_kind("classification").build(tokenizer, EXAMPLES, SETTINGS).encode([])) == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)
def test_model_and_evaluation_agree_on_the_loss(tokenizer: PreTrainedTokenizerBase, config: BertConfig) -> None:
    task = task_kind("classification").build(tokenizer, EXAMPLES, SETTINGS)
    config = copy.deepcopy(config)
    config.dtype = torch.bfloat16
    before = config.to_dict()
    with torch_stream(0, "head"):
        model = task.new_model(config).eval()
    assert config.to_dict() == before
    assert model.dtype == torch.float32
    assert model.config.id2label == {0: "adjective", 1: "noun", 2: "verb"}
    features = task.encode(EXAMPLES)
    batch = features.batch(np.arange(5))
    with torch.inference_mode():
        outputs = model(**batch)
    assert outputs.logits.shape == (5, 3)
    evaluation = task.evaluate({"logits": outputs.logits}, features, EXAMPLES)
    assert evaluation.scores["loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_head_is_drawn_from_the_generator(wordpiece: PreTrainedTokenizerBase) -> None:
    task = task_kind("classification").build(wordpiece, EXAMPLES, SETTINGS)
    heads = []
    for name in ("a", "a", "b"):
        with torch_stream(0, name):
            heads.append(task.new_model(CONFIGS[0]).classifier.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_model_without_such_a_head(wordpiece: PreTrainedTokenizerBase) -> None:
    task = task_kind("classification").build(wordpiece, EXAMPLES, SETTINGS)
    with pytest.raises(UserError, match="type 'vit' does not support this task"):
        task.new_model(ViTConfig())


def test_scores_by_hand(wordpiece: PreTrainedTokenizerBase) -> None:
    """Gold n v a n v; predicted n v n n a. F1: adjective 0 (no TP), noun 2·2/(2+3) = 0.8, verb 2·1/(2+1) = 2/3."""
    task = task_kind("classification").build(wordpiece, EXAMPLES, SETTINGS)
    logits = torch.tensor([[0.0, 2.0, 0.0], [0, 0, 2], [0, 2, 0], [0, 2, 0], [2, 0, 0]])
    evaluation = task.evaluate({"logits": logits}, task.encode(EXAMPLES), EXAMPLES)
    right, wrong = -math.log(math.e**2 / (math.e**2 + 2)), -math.log(1 / (math.e**2 + 2))
    losses = [right, right, wrong, right, wrong]
    assert evaluation.scores == pytest.approx(
        {"accuracy": 0.6, "micro_f1": 0.6, "macro_f1": (0 + 0.8 + 2 / 3) / 3, "loss": np.mean(losses)}
    )
    assert evaluation.example_scores["accuracy"].tolist() == [1, 1, 0, 1, 0]
    assert evaluation.example_scores["loss"] == pytest.approx(losses)
    assert evaluation.predictions == {"0": "noun", "1": "verb", "2": "noun", "3": "noun", "4": "adjective"}


def test_macro_f1_leaves_out_labels_that_do_not_occur() -> None:
    assert f1_scores(np.array([0, 0, 1]), np.array([0, 1, 1]), 4) == pytest.approx((2 / 3, 2 / 3))
    assert f1_scores(np.array([0, 0]), np.array([0, 3]), 4) == pytest.approx((0.5, (2 / 3 + 0) / 2))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_f1_scores_equal_precision_and_recall(pairs: list[tuple[int, int]]) -> None:
    gold, predicted = np.array(pairs, dtype=np.int64).T
    per_class = []
    for label in {label for pair in pairs for label in pair}:
        hits = sum(g == p == label for g, p in pairs)
        n_gold, n_predicted = sum(g == label for g, _ in pairs), sum(p == label for _, p in pairs)
        precision, recall = (hits / n if n else 0.0 for n in (n_predicted, n_gold))
        per_class.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    micro, macro = f1_scores(gold, predicted, 5)
    assert micro == pytest.approx(np.mean(gold == predicted))
    assert macro == pytest.approx(np.mean(per_class))
