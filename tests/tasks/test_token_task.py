"""Labels of words: rows, targets and scores by hand; end to end on a miniature, and on NCBI-disease."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import IGNORED_LABEL
from nmg.data.formats.tokens import TokenExample
from nmg.meta_training.loop import MetaTraining
from nmg.tasks.registry import task_kind
from nmg.tasks.tokens import TokenClassificationTask, TokenFeatures, labels, token_relevance
from nmg.trials.session import Session
from support.runs import Inputs
from support.tiny import word_tokenizer

SETTINGS = FinetuneSettings(max_length=10)
EXAMPLES = [
    TokenExample("a", ("coffee-maker", "in", "Zürich"), ("B-Thing", "O", "B-Place"), 0),
    TokenExample("b", ("fox",), ("O",), 1),
    TokenExample("c", ("the", "quick", "brown", "fox") * 3, ("O", "B-Thing", "I-Thing", "I-Thing") * 3, 2),
]


def task_of(tokenizer: PreTrainedTokenizerBase, max_length: int = 10) -> TokenClassificationTask:
    return TokenClassificationTask(tokenizer, labels(EXAMPLES), FinetuneSettings(max_length=max_length))


def test_labels_of_a_sample_are_whole():
    assert labels(EXAMPLES) == ["O", "B-Place", "I-Place", "B-Thing", "I-Thing"]
    assert labels([TokenExample("a", ("x",), ("S-X",), 0)]) == ["O", "B-X", "I-X", "E-X", "S-X"]
    kind = task_kind("token-classification")
    assert [kind.label_of(example) for example in EXAMPLES] == ["Thing", None, "Thing"]


def test_rows_by_hand():
    tokenizer = word_tokenizer(["one", "two", "three"])
    task = TokenClassificationTask(tokenizer, ["O", "B-X", "I-X"], FinetuneSettings(max_length=8))
    features = task.encode(
        [
            TokenExample("a", ("one", "two"), ("B-X", "I-X"), 0),
            TokenExample("b", ("one",) * 6 + ("two",) * 3, ("O",) * 6 + ("B-X", "I-X", "O"), 1),
        ]
    )
    assert features.lengths.tolist() == [4, 8, 5]
    assert features.example_index.tolist() == [0, 1, 1]
    batch = features.batch(np.array([2, 0]))
    assert batch["input_ids"].tolist() == [[2, 6, 6, 6, 3], [2, 5, 6, 3, 0]]
    assert batch["labels"].tolist() == [[-100, 1, 2, 0, -100], [-100, 1, 2, -100, -100]]
    assert set(features.inputs(np.array([0]))) == set(batch) - {"labels"}
    assert features.places.tolist()[:3] == [[0, 1, 0], [0, 2, 1], [1, 1, 0]]


def test_the_first_token_of_a_word_has_its_label(tokenizer: PreTrainedTokenizerBase):
    task = task_of(tokenizer, 64)
    features = task.encode(EXAMPLES)
    assert features.example_index.tolist() == [0, 1, 2]
    for row, example in enumerate(EXAMPLES):
        batch = features.batch(np.array([row]))
        targets = batch["labels"][0]
        found = [task.labels[label] for label in targets.tolist() if label != IGNORED_LABEL]
        assert tuple(found) == example.labels
        whole = tokenizer(example.passage)["input_ids"]
        assert batch["input_ids"][0].tolist() == whole
        starts = [
            tokenizer.decode([whole[column]]).strip() for _, column, _ in features.places[features.places[:, 0] == row]
        ]
        assert all(
            word.lower().startswith(start.lower()[:1]) for word, start in zip(example.words, starts, strict=True)
        )


def test_a_long_sentence_keeps_all_of_its_words(tokenizer: PreTrainedTokenizerBase):
    task = task_of(tokenizer)
    features = task.encode(EXAMPLES)
    assert features.lengths.max() <= 10
    for index, example in enumerate(EXAMPLES):
        of_example = features.places[features.example_index[features.places[:, 0]] == index]
        assert of_example[:, 2].tolist() == list(range(len(example.words)))
    assert not any((features.batch(np.array([row]))["labels"] == IGNORED_LABEL).all() for row in range(len(features)))


def test_a_word_longer_than_a_row_gives_one_row(tokenizer: PreTrainedTokenizerBase):
    task = task_of(tokenizer)
    features = task.encode([TokenExample("a", ("pneumonoultramicroscopic" * 3, "fox"), ("B-Thing", "O"), 0)])
    assert len(features.places) == 2
    assert features.batch(np.arange(len(features)))["labels"].ne(IGNORED_LABEL).any(dim=1).all()


def perfect(features: TokenFeatures, n_labels: int) -> torch.Tensor:
    logits = torch.full((len(features), int(features.lengths.max()), n_labels), -5.0)
    labels_of = features.batch(np.arange(len(features)))["labels"].clamp(min=0)
    return logits.scatter_(2, labels_of[:, :, None], 5.0)


def test_scores_by_hand(tokenizer: PreTrainedTokenizerBase):
    task = task_of(tokenizer)
    features = task.encode(EXAMPLES)
    logits = perfect(features, 5)
    evaluation = task.evaluate({"logits": logits}, features, EXAMPLES)
    loss = math.log(1 + 4 * math.exp(-10))
    assert evaluation.scores == pytest.approx(
        {"entity_f1": 1, "entity_precision": 1, "entity_recall": 1, "word_accuracy": 1, "loss": loss}
    )
    assert evaluation.predictions["a"] == "B-Thing O B-Place"
    # The fox of the second sentence becomes a thing, the place in the first a thing that goes on after O.
    (row, column, _), (fox_row, fox_column, _) = features.places[2], features.places[3]
    logits[row, column] = torch.tensor([0.0, 0, 0, 0, 9])
    logits[fox_row, fox_column] = torch.tensor([0.0, 0, 0, 9, 0])
    scores = task.evaluate({"logits": logits}, features, EXAMPLES).scores
    assert scores["entity_precision"] == pytest.approx(
        4 / 6
    )  # thing, 3 x quick brown fox, of which are also Zürich, fox
    assert scores["entity_recall"] == pytest.approx(4 / 5)
    assert scores["entity_f1"] == pytest.approx(8 / 11)
    assert scores["word_accuracy"] == pytest.approx(14 / 16)


def test_a_word_without_token_is_outside():
    tokenizer = word_tokenizer(["one"])
    task = TokenClassificationTask(tokenizer, ["O", "B-X", "I-X"], SETTINGS)
    example = TokenExample("a", ("one", "\u200b\u00a0"), ("O", "B-X"), 0)
    features = task.encode([example])
    if len(features.places) == 1:
        assert task.evaluate({"logits": perfect(features, 3)}, features, [example]).predictions == {"a": "O O"}
    with pytest.raises(UserError, match=r"example 'e': the tokenizer produces no tokens for '.*'\. Correct or remove"):
        task.encode([TokenExample("e", ("\u2003",), ("O",), 0)])


def test_a_label_that_training_lacks(tokenizer: PreTrainedTokenizerBase):
    task = task_of(tokenizer)
    with pytest.raises(UserError, match=r"example 'z' has the label 'B-New', whose type no training example has"):
        task.encode([TokenExample("z", ("fox",), ("B-New",), 0)])


def test_the_model_knows_the_labels(tokenizer: PreTrainedTokenizerBase):
    config = BertConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = task_of(tokenizer).new_model(config)
    assert type(model).__name__ == "BertForTokenClassification"
    assert model.config.id2label == dict(enumerate(labels(EXAMPLES)))
    assert config.id2label != model.config.id2label


def test_relevance_by_hand():
    tokenizer = word_tokenizer(["one", "two"])
    examples = [
        TokenExample("a", ("one", "two"), ("B-X", "O"), 0),
        TokenExample("b", ("one", "two"), ("I-X", "O"), 1),
    ]
    found = token_relevance(tokenizer, examples)
    share = np.array([2 + 10, 10]) / 22  # of each token's own label, prior tokens included; half of all words are X
    assert found[[5, 6]] == pytest.approx([(share * np.log(share / 0.5)).sum()] * 2)
    assert (found[:5] == 0).all()


def test_training_without_entities_is_refused(tmp_path: Path):
    kind = task_kind("token-classification")
    with pytest.raises(UserError, match=r"train\.conll: contains no entity: every word has the label O"):
        kind.check_train([EXAMPLES[1]], DataSettings(train="train.conll"))


def conll(texts: list[list[str]]) -> str:
    """Filler is things."""
    marked = (
        "".join(f"{word}\t{'B-Thing' if word.startswith('filler') else 'O'}\n" for word in words) for words in texts
    )
    return "\n".join(marked)


@pytest.mark.parametrize("measure", ["finetune", "linear-probe"])
def test_two_episodes(inputs: Inputs, tmp_path: Path, measure: str):
    texts = [json.loads(line)["text"].split() for line in inputs.train.read_text().splitlines()]
    (tmp_path / "train.conll").write_text(conll(texts))
    data = {
        "task": "token-classification",
        "train": str(tmp_path / "train.conll"),
        "test": None,
        "labelled_examples": 30,
    }
    config = inputs.config(data=data, reward={"metric": "loss", "evaluation": measure}, finetune={"epochs": 6})
    training = MetaTraining(Session.prepare(config, Silent()))
    with training.engine:
        records = [training.episode() for _ in range(2)]
    assert set(records[1].scores["learner"]) == set(TokenClassificationTask.table_metrics)
    assert records[1].scores["random"]["loss"] < math.log(3)
    assert measure == "probe" or records[1].scores["random"]["entity_f1"] > 0.5
