"""Similarity: embeddings are scored as they are, in every command."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModel, PreTrainedTokenizerBase

import nmg
from nmg.base.errors import UserError
from nmg.base.settings import DataSettings
from nmg.base.training_settings import FinetuneSettings
from nmg.config import Config, load_config
from nmg.data.formats.regression import RegressionExample
from nmg.tasks.loaded import LoadedData
from nmg.tasks.registry import TASKS, task_kind
from nmg.tasks.similarity import SimilarityTask
from support.command import Nmg
from support.planted import TOPIC_WORDS, WORDS
from support.runs import Inputs
from support.tiny import save_tiny_bert, word_tokenizer

PAIRS = [("the fox", "a fox", 4.0), ("the dog", "far away over the river", 0.5), ("a dog", "the dog", 4.0)]
EXAMPLES = [RegressionExample(str(i), one, number, -1, two) for i, (one, two, number) in enumerate(PAIRS)]


def test_each_text_of_a_pair_is_a_row(tokenizer: PreTrainedTokenizerBase):
    features = SimilarityTask(tokenizer, FinetuneSettings(max_length=8)).encode(EXAMPLES)
    assert features.example_index.tolist() == [0, 0, 1, 1, 2, 2]
    for row, text in enumerate(text for one in EXAMPLES for text in (one.text, one.pair)):
        expected = tokenizer(text, truncation=True, max_length=8)["input_ids"]
        assert features.inputs(np.array([row]))["input_ids"][0].tolist() == expected
    assert len(SimilarityTask(tokenizer, FinetuneSettings()).encode([]).lengths) == 0


def test_scores_are_those_of_scipy(tokenizer: PreTrainedTokenizerBase):
    """Also with equal numbers and equal cosines."""
    rng = np.random.default_rng(0)
    pairs = [RegressionExample(str(i), "a", float(rng.integers(4)), -1, "the") for i in range(40)]
    vectors = rng.standard_normal((80, 5))
    vectors[2:4] = vectors[0:2]
    task = SimilarityTask(tokenizer, FinetuneSettings())
    found = task.evaluate({"embedding": torch.from_numpy(vectors)}, task.encode(pairs), pairs)
    cosines = [a @ b / (a @ a * (b @ b)) ** 0.5 for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    numbers = [pair.number for pair in pairs]
    r = stats.pearsonr(numbers, cosines).statistic
    assert found.scores == pytest.approx(
        {"spearman": stats.spearmanr(numbers, cosines).statistic, "pearson": r, "loss": 2 * (1 - r)}
    )
    assert found.example_scores["loss"].mean() == pytest.approx(found.scores["loss"])
    assert [float(found.predictions[pair.id]) for pair in pairs] == pytest.approx(cosines, abs=1e-5)


def test_equal_cosines_or_numbers_have_no_correlation(tokenizer: PreTrainedTokenizerBase):
    task = SimilarityTask(tokenizer, FinetuneSettings())
    found = task.evaluate({"embedding": torch.ones(6, 2).double()}, task.encode(EXAMPLES), EXAMPLES)
    assert found.scores == pytest.approx({"spearman": 0, "pearson": 0, "loss": 1})
    same = [RegressionExample("x", "a", 1.0, -1, "the"), RegressionExample("y", "the", 1.0, -1, "a")]
    (remark,) = task.remarks("data.test", same)
    assert remark == "warning: data.test: all pairs have the same number, so every correlation is 0"
    assert task.remarks("data.test", EXAMPLES) == task.remarks("data.test", []) == []


def test_only_this_task_is_not_trained():
    assert [name for name, kind in TASKS.items() if not kind.is_trained] == ["similarity"]
    config = Config.model_validate({"data": {"task": "similarity"}, "test": {"evaluation": "linear-probe"}})
    assert (config.reward.evaluation, config.test.evaluation) == ("embedding", "embedding")
    assert Config.model_validate(config.model_dump()) == config
    with pytest.raises(ValueError, match="the task 'regression' trains a model"):
        Config.model_validate({"data": {"task": "regression"}, "reward": {"evaluation": "embedding"}})


def write(path: Path, n: int, seed: int) -> Path:
    """Pairs of planted texts; the number counts the words of the same topic."""
    rng = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["one", "two", "score"])
        for _ in range(n):
            shared = int(rng.integers(6))
            one = rng.choice(TOPIC_WORDS[0], 5, replace=False)
            two = [*rng.choice(TOPIC_WORDS[0], shared), *rng.choice(TOPIC_WORDS[1], 5 - shared)]
            table.writerow([" ".join(one), " ".join(rng.permutation(two)), shared])
    return path


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("similarity")
    model = save_tiny_bert(folder / "model", WORDS, hidden=16, dropout=0.1, spread=0.3)
    made = inputs.sections(reward={"metric": None}, meta={"continual": False}, model={"name": str(model)})
    del made["learner"], made["policy"]
    sizes = {"train": 40, "validation": 19, "test": 20}
    files = {name: str(write(folder / f"{name}.csv", size, size)) for name, size in sizes.items()}
    fields = {"text_field": "one", "pair_field": "two", "label_field": "score"}
    made["data"] = {"task": "similarity", **files, **fields}
    return made


def test_a_comparison_from_start_to_end(sections: dict[str, Any], tmp_path: Path):
    config = Config.model_validate(sections)
    cells = nmg.compare(config, ["none", "random"], tmp_path / "out", seeds=2).cells
    scores = {(cell.spec.masking, cell.spec.seed): cell.scores["spearman"] for cell in cells}
    assert scores["none", 0] == scores["none", 1] == pytest.approx(by_hand(config))
    assert len({scores["none", 0], scores["random", 0], scores["random", 1]}) == 3
    assert all(cell.finetuning.steps == 0 and cell.spec.name.endswith("by-embedding") for cell in cells)
    again = nmg.compare(config, ["none", "random"], tmp_path / "again", seeds=2).cells
    assert [cell.scores for cell in again] == [cell.scores for cell in cells]
    with pytest.raises(UserError, match="--shots: the task 'similarity' trains on no labelled example"):
        nmg.compare(config, ["none"], tmp_path / "shots", seeds=1, labelled=[4])


def by_hand(config: Config) -> float:
    """Spearman's correlation of the model as it is saved, one text at a time."""
    model, tokenizer = AutoModel.from_pretrained(config.model.name).eval(), word_tokenizer(WORDS)
    assert config.data.test is not None
    with Path(config.data.test).open() as file:
        rows = list(csv.DictReader(file))

    def embedded(text: str) -> torch.Tensor:
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)  # type: ignore[no-any-return]

    cosines = [float(torch.cosine_similarity(embedded(row["one"]), embedded(row["two"]), dim=0)) for row in rows]
    return float(stats.spearmanr([float(row["score"]) for row in rows], cosines).statistic)


def test_an_audit_recommends_embeddings_as_the_reward(sections: dict[str, Any], tmp_path: Path):
    facts = nmg.audit(Config.model_validate(sections), tmp_path / "audit", seeds=2, minutes=1e-6).facts
    rewards = [(one["name"], one["metric"]) for one in facts["rewards"]]
    assert rewards == [("embeddings", "spearman"), ("embeddings", "loss")]
    assert load_config(tmp_path / "audit" / "recommended.yaml").reward.evaluation == "embedding"
    for line in (tmp_path / "audit" / "trials.jsonl").read_text().splitlines():
        assert json.loads(line)["finetuning"]["steps"] == 0


def test_meta_training_learns_from_embeddings(sections: dict[str, Any], tmp_path: Path):
    learner = {"kind": "experiment", "budget": 20, "strengths": [1.0], "rules": [0.0]}
    config = Config.model_validate({**sections, "learner": learner, "meta": {**sections["meta"], "episodes": 1}})
    nmg.meta_train(config, tmp_path / "run")
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "spearman" in line


def test_duplicates_are_pairs(tmp_path: Path):
    """A pair in the other order counts, too, if it is long."""
    one, two = "a b c d e f g h i j k l", "m n o p q r s t u v w x"
    rows = {"train": [(one, two, 1), ("m n", "b", 2), (one, "m n", 3)], "test": [(two, one, 1), ("m n", "b", 5)]}
    for name, pairs in rows.items():
        lines = [{"text": first, "pair": second, "label": number} for first, second, number in pairs]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = {name: str(tmp_path / f"{name}.jsonl") for name in rows}
    settings = DataSettings(task="similarity", pair_field="pair", **files)
    assert [found.near for found in LoadedData(settings).test_overlaps] == [2]
    with pytest.raises(UserError, match="at least two different numbers"):
        LoadedData(dropping := settings.model_copy(update={"drop_duplicates": True})).sample(dropping, 0)


def test_the_second_text_is_required(tmp_path: Path, nmg: Nmg):
    write(tmp_path / "pairs.csv", 10, 0)
    words = ("data", "describe", "pairs.csv", "--task", "similarity", "--text-field", "one", "--label-field", "score")
    answer = nmg(*words)
    assert answer.code == 2
    assert "Name the field of the second one (data.pair_field)" in answer.err
    answer = nmg(*words, "--pair-field", "two")
    assert answer.code == 0, answer.err
    assert "numbers" in answer.out
    assert task_kind("similarity").formats[".csv"].needs_task
