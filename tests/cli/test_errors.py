"""What a user can get wrong: one clear message on standard error, exit code 2, no traceback, nothing left behind."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from nmg.config import load_config
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from support.command import Nmg
from support.planted import WORDS
from support.runs import Inputs
from support.tiny import save_tiny_bert

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def refused(nmg: Nmg, tmp_path: Path) -> Callable[..., str]:
    """Call, see that it is refused as it should be, and return the message."""

    def call(*words: str | Path) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        answer = nmg(*words)
        assert answer.code == 2, answer
        assert "Traceback" not in answer.err
        assert answer.out == ""
        messages = answer.err.splitlines()
        assert len(messages) == 1, answer.err
        assert messages[0].startswith("error: ")
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "nothing is left behind"
        return messages[0].removeprefix("error: ")

    return call


@pytest.fixture
def config(inputs: Inputs, tmp_path: Path) -> Path:
    return inputs.write_config(tmp_path / "config.yaml")


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def labelled(n: int = 6) -> list[dict[str, str]]:
    return [{"text": f"{WORDS[i]} {WORDS[i + 1]}", "label": f"topic{i % 2}"} for i in range(n)]


def squad(answer: str, start: int) -> dict[str, Any]:
    question = {"id": "q7", "question": "who", "answers": [{"text": answer, "answer_start": start}]}
    return {"data": [{"title": "t", "paragraphs": [{"context": "t0w1 t0w2 t0w3", "qas": [question]}]}]}


@pytest.mark.parametrize("field", ["train", "validation", "test"])
def test_a_file_that_is_not_there(refused: Callable[..., str], config: Path, field: str):
    message = refused("compare", config, "--out", "out", f"--data.{field}", "no/such.jsonl", "--maskings", "random")
    assert "no/such.jsonl" in message
    message = refused("validate", config, f"--data.{field}", "no/such.jsonl")
    assert f"data.{field}" in message
    assert "no/such.jsonl" in message


def test_a_configuration_that_is_not_there(refused: Callable[..., str]):
    assert "no.yaml" in refused("learn", "no.yaml", "--out", "out")
    assert "no.yaml" in refused("compare", "no.yaml", "--out", "out")


def test_no_data_at_all(refused: Callable[..., str], config: Path):
    assert "--data.train FILE" in refused("learn", config, "--out", "out", "--data.train", "null")


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_an_empty_corpus(refused: Callable[..., str], inputs: Inputs, tmp_path: Path, content: str):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(content)
    message = refused("adapt", "--corpus", corpus, "--model", inputs.model, "--out", "out")
    assert str(corpus) in message
    assert "empty" in message


def test_malformed_json_names_its_line(refused: Callable[..., str], config: Path, tmp_path: Path):
    file = write(tmp_path / "bad.jsonl", *labelled(3), '{"text": "t0w1", "label": ', *labelled(2))
    message = refused("learn", config, "--out", "out", "--data.train", file)
    assert f"{file}, line 4" in message


def test_a_missing_field_names_line_and_field(refused: Callable[..., str], config: Path, tmp_path: Path):
    file = write(tmp_path / "bad.jsonl", *labelled(3), {"text": "t0w1"})
    message = refused("learn", config, "--out", "out", "--data.train", file)
    assert f"{file}, line 4" in message
    assert "'label'" in message


def test_an_answer_that_does_not_stand_where_it_should(refused: Callable[..., str], config: Path, tmp_path: Path):
    file = write(tmp_path / "squad.json", squad("t0w2", 4))
    message = refused("learn", config, "--out", "out", "--data.task", "qa", "--data.train", file)
    assert str(file) in message
    assert "q7" in message
    assert "answer_start" in message


@pytest.mark.parametrize("field", ["validation", "test"])
def test_a_label_that_no_training_example_has(refused: Callable[..., str], config: Path, tmp_path: Path, field: str):
    file = write(tmp_path / "dev.jsonl", *labelled(2), {"text": "t0w1", "label": "topik0"})
    message = refused("compare", config, "--out", "out", "--maskings", "random", f"--data.{field}", file)
    assert f"{file}, line 3" in message
    assert "topik0" in message


def test_a_key_that_does_not_exist(refused: Callable[..., str], tmp_path: Path):
    file = write(tmp_path / "typo.yaml", "masking:", "  rat: 0.1")
    for words in (("validate", file), ("learn", file, "--out", "out"), ("compare", file, "--out", "out")):
        message = refused(*words)
        assert f"{file}, line 2" in message
        assert "did you mean 'masking.rate'" in message


def test_settings_may_stand_anywhere(nmg: Nmg, config: Path):
    """Also before CONFIG, which is then not taken for their value."""
    digests = {
        nmg("validate", *words).err.split(":", 1)[1]
        for words in (
            (config, "--masking.rate", "0.2", "--run.seed=3"),
            ("--masking.rate", "0.2", config, "--run.seed", "3"),
            ("--run.seed=3", "--masking.rate=0.2", config),
        )
    }
    assert len(digests) == 1
    assert digests != {nmg("validate", config).err.split(":", 1)[1]}


def test_words_too_many(refused: Callable[..., str], config: Path):
    assert "'other.yaml'" in refused("validate", config, "other.yaml")
    assert "name a configuration file" in refused("validate", "--masking.rate", "0.2")
    assert "name a configuration file" in refused("compare", "--run.seed=1", "--out", "out")


def test_an_override_that_does_not_exist(refused: Callable[..., str], config: Path):
    message = refused("learn", config, "--out", "out", "--maskin.rate", "0.1")
    assert "--maskin" in message
    assert "did you mean '--masking.rate'" in message
    assert "--masking.rate" in refused("learn", config, "--out", "out", "--rate", "0.1")
    assert "needs a value" in refused("learn", config, "--out", "out", "--masking.rate")


@pytest.mark.parametrize("value", ["lots", "true", "[1]", "1.5", "-0.1"])
def test_a_value_of_the_wrong_kind(refused: Callable[..., str], config: Path, value: str):
    message = refused("learn", config, "--out", "out", f"--masking.rate={value}")
    assert message.startswith("--masking.rate: ")


def test_a_kind_that_does_not_exist(refused: Callable[..., str], config: Path, tmp_path: Path):
    file = write(tmp_path / "kind.yaml", "policy:", "  temperature: 2", "  kind: liniar")
    known = "unknown kind 'liniar' (known: attention, linear)"
    assert refused("learn", file, "--out", "out") == f"{file}, line 3, field 'policy.kind': {known}"
    assert refused("learn", config, "--out", "out", "--policy.kind=liniar") == f"--policy.kind: {known}"


def test_a_setting_of_another_kind(refused: Callable[..., str], tmp_path: Path):
    file = write(tmp_path / "kind.yaml", "learner:", "  learning_starts: 3")
    said = "there is no such setting; it belongs to learner.kind actor-critic"
    assert refused("validate", file) == f"{file}, line 2, field 'learner.learning_starts': {said}"


def test_a_replay_that_can_never_fill(refused: Callable[..., str], tmp_path: Path):
    file = write(tmp_path / "replay.yaml", "learner:", "  kind: actor-critic", "  learning_starts: 50000")
    said = "updates start above 50000 transitions, but the replay never holds more than replay_capacity 50000: lower"
    assert refused("validate", file).startswith(f"{file}, line 3, field 'learner.learning_starts': {said}")
    small = write(tmp_path / "small.yaml", "learner:", "  kind: actor-critic", "  replay_capacity: 200")
    assert "updates start above 500 transitions, but the replay never holds more than replay_capacity 200" in refused(
        "validate", small
    )
    assert load_config(file, ["--learner.replay_capacity=50001"]).learner.kind == "actor-critic"


def test_a_learner_and_a_policy_that_do_not_go_together(refused: Callable[..., str], tmp_path: Path):
    file = write(tmp_path / "kinds.yaml", "policy:", "  kind: attention")
    said = "the learner 'experiment' needs policy.kind linear"
    assert refused("learn", file, "--out", "out") == f"{file}, line 2, field 'policy.kind': {said}"
    words = ("--learner.kind", "experiment", "--policy.kind", "attention")
    empty = write(tmp_path / "empty.yaml")
    assert refused("validate", empty, *words) == f"--learner.kind, --policy.kind: {said}"


def test_a_policy_for_another_size_of_model(refused: Callable[..., str], inputs: Inputs, config: Path, tmp_path: Path):
    policy = tmp_path / "policy"
    AttentionPolicy(AttentionConfig(hidden_size=8, num_attention_heads=2)).save_pretrained(policy)
    sizes = r"size 8\b.*size 16\b"
    assert re.search(sizes, refused("compare", config, "--out", "out", "--policy", policy))
    words = ("adapt", "--corpus", inputs.train, "--model", inputs.model, "--masking", policy, "--out", "out")
    words = (*words, "--adapt.block_size=16", "--adapt.held_out=0")
    assert re.search(sizes, refused(*words))


@pytest.mark.parametrize("content", ["nothing", "a model"])
def test_a_policy_that_is_none(refused: Callable[..., str], inputs: Inputs, config: Path, tmp_path: Path, content: str):
    folder = inputs.model if content == "a model" else tmp_path / "nowhere"
    assert str(folder) in refused("compare", config, "--out", "out", "--policy", folder)


def test_neural_without_policy(refused: Callable[..., str], config: Path):
    assert "--policy" in refused("compare", config, "--out", "out", "--maskings", "random,learned")


def test_a_tokenizer_without_mask_token(refused: Callable[..., str], inputs: Inputs, config: Path, tmp_path: Path):
    model = save_tiny_bert(tmp_path / "model", WORDS, hidden=8)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(model)
    assert "no mask token" in refused("learn", config, "--out", "out", "--model.name", model)
    assert "no mask token" in refused("adapt", "--corpus", inputs.train, "--model", model, "--out", "out")


def test_a_model_that_is_not_there(refused: Callable[..., str], config: Path):
    assert "no/model/here" in refused("learn", config, "--out", "out", "--model.name", "no/model/here")


def test_a_folder_that_holds_another_run(refused: Callable[..., str], inputs: Inputs, config: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("precious")
    assert "--resume" in refused("learn", config, "--out", out)
    assert "Choose another folder" in refused("compare", config, "--out", out, "--maskings", "random")
    assert "Choose another folder" in refused("adapt", "--corpus", inputs.train, "--model", inputs.model, "--out", out)


def test_a_masking_that_does_not_exist(refused: Callable[..., str], inputs: Inputs, config: Path):
    wanted = "there is no masking 'whole_wort'; did you mean 'whole-word'?"
    assert wanted in refused("compare", config, "--out", "out", "--maskings", "random,whole_wort")
    words = ("adapt", "--corpus", inputs.train, "--model", inputs.model, "--masking", "whole_wort", "--out", "out")
    words = (*words, "--adapt.block_size=16", "--adapt.held_out=0")
    assert wanted in refused(*words)
    assert "at least one" in refused("compare", config, "--out", "out", "--maskings", " , ")


@pytest.mark.parametrize("command", [("learn",), ("compare", "--maskings", "random")], ids=lambda words: words[0])
def test_a_metric_the_task_does_not_have(refused: Callable[..., str], config: Path, command: Sequence[str]):
    message = refused(*command, config, "--out", "out", "--reward.metric", "index_accuracy")
    assert "'classification' has no score 'index_accuracy'" in message
    assert "accuracy, loss, macro_f1, micro_f1" in message


def test_a_tracker_that_does_not_exist(refused: Callable[..., str], config: Path):
    assert "'tensorbord'" in refused("learn", config, "--out", "out", "--runtime.trackers", "[tensorbord]")


def test_a_device_that_is_not_there(refused: Callable[..., str], config: Path):
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("it is")
    assert "runtime.device" in refused("learn", config, "--out", "out", "--runtime.device", "mps")


def test_blocks_longer_than_the_model_takes(refused: Callable[..., str], inputs: Inputs, config: Path):
    message = refused("learn", config, "--out", "out", "--adapt.block_size", "200")
    assert "adapt.block_size" in message
    assert "at most 64" in message
    words = ("adapt", "--corpus", inputs.train, "--model", inputs.model, "--out", "out", "--adapt.block_size=63")
    assert "adapt.block_size" in refused(*words)


def test_meta_test_without_test_set(refused: Callable[..., str], config: Path):
    words = ("compare", config, "--out", "out", "--maskings", "random", "--data.test", "null")
    assert "--data.test FILE" in refused(*words)


def test_resuming_nothing(refused: Callable[..., str], config: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        assert "contains no run" in refused("learn", "--resume", folder)
    assert "either" in refused("learn", config)
    assert "either" in refused("learn", config, "--out", "out", "--resume", "empty")
    assert "either" in refused("learn")


@pytest.mark.parametrize(
    "words",
    [["compare"], ["no-such-command"], ["compare", "c.yaml", "--out"], ["adapt", "--out"], ["data", "no"]],
    ids=" ".join,
)
def test_words_that_are_no_command(nmg: Nmg, words: Sequence[str]):
    answer = nmg(*words)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert "Error" in answer.err


def test_a_number_that_is_none(nmg: Nmg, config: Path):
    answer = nmg("compare", config, "--out", "out", "--seeds", "many")
    assert answer.code == 2
    assert "--seeds" in answer.err


@pytest.mark.parametrize("config_file", CONFIGS, ids=lambda path: path.name)
def test_every_configuration_is_valid_and_checking_it_builds_nothing(nmg: Nmg, config_file: Path, tmp_path: Path):
    answer = nmg("validate", config_file)
    assert answer.code == 0, answer.err
    assert "valid (digest" in answer.err
    assert not list(tmp_path.iterdir())


def test_there_are_configurations():
    assert len(CONFIGS) > 10


def test_a_whole_job(nmg: Nmg, inputs: Inputs, config: Path, tmp_path: Path):
    """Results go to standard output, progress to standard error."""
    answer = nmg("learn", config, "--out", "run", "--meta.episodes", "2")
    assert answer.code == 0, answer.err
    assert "policy: run/policy" in answer.out
    assert "episode 2/2" in answer.err
    for episodes, words in ((3, ("--meta.episodes", "3")), (4, ("--meta.episodes=4",))):
        answer = nmg("learn", "--resume", "run", *words)
        assert answer.code == 0, answer.err
        assert f"resuming after {episodes - 1} of {episodes} episodes" in answer.err
    answer = nmg("compare", config, "--policy", "run", "--maskings", "none,learned", "--seeds", "1", "--out", "test")
    assert answer.code == 0, answer.err
    assert "learned" in answer.out
    assert {path.name for path in (tmp_path / "test").iterdir()} == {
        *("trials.jsonl", "results.json", "results.md", "results.csv", "results.tex", "index.html"),
    }
    words = ("--model", inputs.model, "--masking", "run", "--out", "model", "--adapt.epochs=1", "--adapt.block_size=16")
    answer = nmg("adapt", "--corpus", inputs.train, *words, "--runtime.precision=fp32")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("model: ")


def test_an_interruption_is_no_error(nmg: Nmg, config: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmg.meta_training.run.start", interrupt)
    answer = nmg("learn", config, "--out", "out")
    assert answer.code == 130
    assert "Traceback" not in answer.err
