"""The published settings of each data set and model, run end to end on miniature files in the data set's own format."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from nmg.config import Config, load_config
from support.command import Nmg
from support.planted import WORDS
from support.tiny import word_tokenizer

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*-*bert.yaml"))
RUN = [
    path if path.stem in ("chemprot-bert", "newsqa-bert") else pytest.param(path, marks=pytest.mark.slow, id=path.stem)
    for path in CONFIGS
]
"""All ten run; all but one of each kind of task with the slow tests."""
SHORT = ("--meta.episodes=2", "--meta.contexts=3", "--meta.examples=4", "--learner.learning_starts=1")
"""A run of a second or two; updates from the second episode on."""
PLAIN = ("--runtime.device=cpu", "--runtime.engine=serial", "--runtime.threads=1", "--runtime.trackers=[]")


def test_there_are_ten():
    data_sets = ("squad", "newsqa", "emrqa", "chemprot", "imdb")
    assert {path.stem for path in CONFIGS} == {
        f"{data}-{model}" for data in data_sets for model in ("bert", "distilbert")
    }


QA, CLASSIFICATION = ("squad", "newsqa", "emrqa"), ("chemprot", "imdb")
OF_ALL = {
    "masking.rate": 0.05,
    "masking.rate_schedule": "constant",
    "masking.mask_replace_prob": 0.8,
    "masking.random_replace_prob": 0.1,
    "adapt.epochs": 3,
    "adapt.learning_rate": 2e-5,
    "adapt.warmup_ratio": 0.0,
    "adapt.weight_decay": 0.0,
    "adapt.max_grad_norm": 1.0,
    "meta.episodes": 1000,
    "meta.contexts": 200,
    "meta.examples": 1000,
    "meta.max_validation_examples": 10_000,
    "meta.validation_fraction": 0.1,
    "meta.continual": True,
    "policy.kind": "attention",
    "policy.hidden": 128,
    "learner.kind": "actor-critic",
    "learner.self_play": "learning",
    "learner.reward": "sign",
    "learner.learning_rate": 1e-4,
    "learner.weight_decay": 0.0,
    "learner.max_grad_norm": 1.0,
    "learner.updates_per_episode": 10,
    "learner.batch_size": 64,
    "learner.entropy_coef": 0.01,
    "learner.value_coef": 0.25,
    "learner.clip_range": None,
    "learner.replay_capacity": 50_000,
    "learner.replay_weighting": "advantage",
}
OF_TASK = {
    "qa": {
        "adapt.block_size": 510,
        "finetune.epochs": 1,
        "finetune.learning_rate": 3e-5,
        "finetune.max_length": 384,
        "finetune.stride": 128,
        "finetune.max_question_length": 64,
        "finetune.max_answer_length": 30,
        "learner.learning_starts": 2000,
        "meta.count_by": "rows",
        "reward.metric": "window_accuracy",
    },
    "classification": {
        "adapt.block_size": 254,
        "finetune.epochs": 5,
        "finetune.learning_rate": 2e-5,
        "learner.learning_starts": 500,
        "reward.metric": None,
    },
}
BATCH = {"qa": {"bert": 4, "distilbert": 8}, "classification": {"bert": 8, "distilbert": 16}}
TEST_BATCH, TEST_EPOCHS = {"bert": 6, "distilbert": 8}, {"qa": 2, "classification": 3}


def published(data_set: str, model: str) -> dict[str, Any]:
    """Every published setting of a data set and model, as the run scripts of the original give it."""
    task = "qa" if data_set in QA else "classification"
    batch = BATCH[task][model]
    own = {"finetune.max_length": {"chemprot": 128, "imdb": 256}[data_set]} if task == "classification" else {}
    return {
        **OF_ALL,
        **OF_TASK[task],
        **own,
        "data.task": task,
        "model.name": f"{model}-base-uncased",
        "adapt.batch_size": batch,
        "finetune.batch_size": batch,
        "runtime.evaluation_batch_size": 4 * batch,
    }


def published_meta_test(data_set: str, model: str) -> dict[str, Any]:
    """What the script of the meta-test changes: one batch size for LM training and fine-tuning."""
    epochs, batch = TEST_EPOCHS["qa" if data_set in QA else "classification"], TEST_BATCH[model]
    changed = {"adapt.batch_size": batch, "finetune.batch_size": batch, "finetune.epochs": epochs}
    return published(data_set, model) | changed


def settings_of(config: Config, names: Iterable[str]) -> dict[str, Any]:
    """The named settings, `section.field`."""
    sections = config.model_dump()
    return {name: sections[name.partition(".")[0]][name.partition(".")[2]] for name in names}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_setting_is_the_published_one(path: Path):
    config, (data_set, model) = load_config(path), path.stem.split("-")
    for found, expected in (
        (config, published(data_set, model)),
        (config.for_meta_test(), published_meta_test(data_set, model)),
    ):
        assert settings_of(found, expected) == expected


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random model of each type, small but for its positions, which the settings need."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), word_tokenizer(WORDS)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(folder / "bert")
        config = DistilBertConfig(vocab_size=len(tokenizer), dim=8, n_layers=1, n_heads=2, hidden_dim=8)
        DistilBertForMaskedLM(config).save_pretrained(folder / "distilbert")
    for name in ("bert", "distilbert"):
        tokenizer.model_input_names = ["input_ids", "attention_mask", *["token_type_ids"] * (name == "bert")]
        tokenizer.save_pretrained(folder / name)
    return folder


def texts(n: int, n_words: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    return [rng.choice(WORDS, n_words).tolist() for _ in range(n)]


def write_chemprot(folder: Path) -> tuple[str, str]:
    lines = [
        {"text": " ".join(words), "label": ["inhibitor", "agonist"][i % 2]} for i, words in enumerate(texts(8, 20))
    ]
    for name in ("train.jsonl", "test.jsonl"):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "train.jsonl", "test.jsonl"


def write_imdb(folder: Path) -> tuple[str, str]:
    for part in ("train", "test"):
        for i, words in enumerate(texts(8, 300)):
            file = folder / "aclImdb" / part / ["pos", "neg"][i % 2] / f"{i}_{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(" ".join(words))
    return "aclImdb/train", "aclImdb/test"


def write_squad(folder: Path) -> tuple[str, str]:
    paragraphs = []
    for i, words in enumerate(texts(6, 40)):
        start = len(" ".join(words[:5])) + 1
        answers = [{"text": " ".join(words[5:7]), "answer_start": start}]
        paragraphs.append(
            {"context": " ".join(words), "qas": [{"id": str(i), "question": words[4], "answers": answers}]}
        )
    (folder / "train-v1.1.json").write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}))
    return "train-v1.1.json", "train-v1.1.json"


def write_newsqa(folder: Path) -> tuple[str, str]:
    """The combined CSV to train on, the part of the combined JSON to test on."""
    names = "story_id,question,answer_char_ranges,is_answer_absent,is_question_bad,validated_answers,story_text"
    stories = []
    with (folder / "combined-newsqa-data-v1.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(names.split(","))
        for i, words in enumerate(texts(6, 500)):
            story, start = " ".join(words), len(" ".join(words[:5])) + 1
            end = start + len(words[5])
            ranges = "None" if i == 3 else f"{start}:{end}|{start}:{end}|None"
            rows.writerow(
                [f"./{i}", words[4], ranges, "0.0", "0.0", json.dumps({f"{start}:{end}": 2}) * (i != 3), story]
            )
            consensus = {"noAnswer": True} if i == 3 else {"s": start, "e": end}
            questions = [{"q": words[4], "consensus": consensus}]
            kind = ("train", "dev")[i % 2]
            stories.append({"storyId": f"./{i}", "text": story, "type": kind, "questions": questions})
    (folder / "combined-newsqa-data-v1.json").write_text(json.dumps({"data": stories, "version": "1"}))
    return "combined-newsqa-data-v1.csv", "combined-newsqa-data-v1.json@dev"


def write_emrqa(folder: Path) -> tuple[str, str]:
    notes = []
    for words in texts(6, 60):
        lines = [" ".join(words[i : i + 10]) + "\n" for i in range(0, 60, 10)]
        answer = {"text": words[21], "evidence": lines[2].strip(), "evidence_start": 3, "answer_start": [3, 2]}
        question = {"id": [[words[0]]], "question": [words[20], f"{words[20]} {words[19]}"], "answers": [answer]}
        notes.append({"note_id": words[0], "context": lines, "qas": [question]})
    (folder / "data.json").write_text(json.dumps({"data": [{"title": "medication", "paragraphs": notes}]}))
    return "data.json", "data.json"


WRITERS = {
    "chemprot": write_chemprot,
    "imdb": write_imdb,
    "squad": write_squad,
    "newsqa": write_newsqa,
    "emrqa": write_emrqa,
}


@pytest.mark.parametrize("config", RUN, ids=lambda path: getattr(path, "stem", None))
def test_a_published_setting_runs_from_files_to_a_table(config: Path, models: Path, nmg: Nmg, tmp_path: Path):
    data_set, model = config.stem.split("-")
    train, test = WRITERS[data_set](tmp_path)
    words = (f"--model.name={models / model}", f"--data.train={train}", f"--data.test={test}", *SHORT, *PLAIN)
    answer = nmg("learn", config, "--out", "run", *words)
    assert answer.code == 0, answer.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert "learner_update" in lines[1]
    words = ("--policy", "run", "--maskings", "random,learned", "--seeds", "1")
    answer = nmg("compare", "run/config.yaml", "--out", "table", *words)
    assert answer.code == 0, answer.err
    assert set(json.loads((tmp_path / "table" / "results.json").read_text())) > set()
