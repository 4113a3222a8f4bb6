"""Task models on an LM's encoder, and scores that do not depend on how rows are batched."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from nmg.base.seeding import StreamName
from nmg.base.settings import ModelSettings, RuntimeSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.base.types import Example
from nmg.data.formats.classification import ClassificationExample
from nmg.data.formats.questions import QAExample
from nmg.tasks.base import Task
from nmg.tasks.registry import task_kind
from nmg.tasks.rows import TaskFeatures
from nmg.training.finetune import evaluate, finetune, predict, task_model
from nmg.training.lm import load_pretrained
from nmg.training.runtime import Runtime
from support.models import tiny_model
from support.runs import Inputs, is_same
from support.tiny import word_tokenizer

WORDS = [f"w{i}" for i in range(40)]
SETTINGS = FinetuneSettings(
    epochs=1, batch_size=4, learning_rate=1e-2, max_length=16, stride=5, max_question_length=4, max_answer_length=3
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = word_tokenizer(WORDS)
    # Of the architectures tested here only BERT has token types.
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def runtime(evaluation_batch_size: int = 64) -> Runtime:
    settings = RuntimeSettings(device="cpu", precision="fp32", evaluation_batch_size=evaluation_batch_size)
    return Runtime.start(settings)


def texts(n: int, longest: int) -> list[list[str]]:
    rng = np.random.default_rng(3)
    return [rng.choice(WORDS, rng.integers(2, longest)).tolist() for _ in range(n)]


def labelled() -> list[Example]:
    return [ClassificationExample(str(i), " ".join(words), f"label{i % 3}", i) for i, words in enumerate(texts(13, 14))]


def questions() -> list[Example]:
    """Some contexts need several windows."""
    examples: list[Example] = []
    for i, words in enumerate(texts(11, 30)):
        context, answer = " ".join(words), words[len(words) // 2]
        examples.append(QAExample(str(i), "w1 w2", context, (answer,), (f" {context} ".index(f" {answer} "),), i))
    return examples


EXAMPLES = {"classification": labelled(), "qa": questions()}


def encoded(name: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Task, TaskFeatures]:
    task = task_kind(name).build(tokenizer, EXAMPLES[name], SETTINGS)
    features = task.encode(EXAMPLES[name])
    assert len(set(features.lengths.tolist())) >= 3
    return task, features


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "albert", "electra"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_encoder_is_the_lms_and_the_head_is_drawn(kind: str, name: str, tokenizer: PreTrainedTokenizerBase):
    lm = tiny_model(kind)
    task, _ = encoded(name, tokenizer)
    global_state = torch.get_rng_state()
    first, again = (task_model(task, lm, StreamName(0) / "head") for _ in range(2))
    other = task_model(task, lm, StreamName(1) / "head")
    assert torch.equal(torch.get_rng_state(), global_state)
    wanted = lm.base_model.state_dict()
    for model in (first, other):
        found = model.base_model.state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in wanted.items())
        assert {key.split(".")[0] for key in set(found) - set(wanted)} <= {"pooler"}
    assert is_same(first, again)
    assert not is_same(first, other)
    with torch.no_grad():
        next(first.base_model.parameters()).add_(1)
    assert is_same(lm.base_model.state_dict(), wanted), "the task model has weights of its own"


def test_an_encoder_that_does_not_match_is_refused(tokenizer: PreTrainedTokenizerBase):
    lm = tiny_model("bert")
    task, _ = encoded("classification", tokenizer)
    del lm.base_model.encoder.layer[1].output.dense
    with pytest.raises(ValueError, match=r"lacks weights of the task model.s encoder.*output\.dense"):
        task_model(task, lm, StreamName(0))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_scores_do_not_depend_on_batches_or_padding(kind: str, name: str, tokenizer: PreTrainedTokenizerBase):
    task, features = encoded(name, tokenizer)
    model = task_model(task, tiny_model(kind), StreamName(0))
    one_by_one = predict(model, task, features, runtime(1))
    for size in (2, 5, 64):
        outputs = predict(model, task, features, runtime(size))
        assert set(outputs) == set(one_by_one)
        for key, values in outputs.items():
            assert values.dtype == torch.float32
            assert values.shape == one_by_one[key].shape
            torch.testing.assert_close(values, one_by_one[key], rtol=1e-5, atol=1e-5)
    # [F, ...] in row order: row 4 alone, without any padding, gives row 4
    row = np.array([4])
    with torch.inference_mode():
        inputs = {k: v for k, v in features.batch(row).items() if k in {"input_ids", "attention_mask"}}
        alone = model(**inputs)
    for key, values in one_by_one.items():
        torch.testing.assert_close(values[4, : alone[key].shape[1]], alone[key][0], rtol=1e-5, atol=1e-5)
    alike = [evaluate(model, task, features, EXAMPLES[name], runtime(size)) for size in (1, 64)]
    assert alike[0].scores == pytest.approx(alike[1].scores, abs=1e-5)
    assert alike[0].predictions == alike[1].predictions


def test_logits_behind_the_end_of_a_row_are_minus_infinity(tokenizer: PreTrainedTokenizerBase):
    task, features = encoded("qa", tokenizer)
    outputs = predict(task_model(task, tiny_model("bert"), StreamName(0)), task, features, runtime(3))
    for values in outputs.values():
        behind = torch.arange(values.shape[1]) >= torch.from_numpy(features.lengths)[:, None]
        assert torch.equal(values.isinf(), behind)


def test_evaluation_draws_nothing_and_drops_nothing(tokenizer: PreTrainedTokenizerBase):
    task, features = encoded("classification", tokenizer)
    model = task_model(task, tiny_model("bert"), StreamName(0)).train()
    first, second = (evaluate(model.train(), task, features, EXAMPLES["classification"], runtime()) for _ in range(2))
    assert first.scores == second.scores


def test_only_the_chosen_rows_are_trained_on(tokenizer: PreTrainedTokenizerBase):
    task, features = encoded("classification", tokenizer)
    rows, seen = np.array([2, 3, 7, 11, 12]), []

    class Watched(TaskFeatures):
        def batch(self, rows):  # type: ignore[no-untyped-def]
            seen.extend(rows.tolist())
            return super().batch(rows)

    watched = Watched(**{name: getattr(features, name) for name in ("lengths", "example_index", "tokens", "targets")})
    model = task_model(task, tiny_model("bert"), StreamName(0))
    result = finetune(model, watched, rows, SETTINGS, runtime(), StreamName(0))
    assert sorted(seen) == rows.tolist()
    assert result.steps == 2


def test_finetuning_learns(inputs: Inputs):
    """Words name the label; a few epochs are enough."""
    rng = np.random.default_rng(0)
    examples = [
        ClassificationExample(str(i), " ".join(rng.choice([f"t{i % 2}w{j}" for j in range(8)], 6)), f"l{i % 2}", i)
        for i in range(40)
    ]
    lm = load_pretrained(ModelSettings(name=str(inputs.model)))
    settings = SETTINGS.model_copy(update={"epochs": 6, "learning_rate": 1e-2})
    task = task_kind("classification").build(lm.tokenizer, examples, settings)
    features = task.encode(examples)
    model = task_model(task, lm.model, StreamName(0))
    before = evaluate(model, task, features, examples, runtime())
    finetune(model, features, np.arange(len(features)), settings, runtime(), StreamName(0))
    after = evaluate(model, task, features, examples, runtime())
    assert after.scores["accuracy"] > 0.95
    assert after.scores["loss"] < before.scores["loss"] / 2
