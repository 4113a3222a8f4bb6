"""A run goes on with the data and the model that it began with, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from nmg.base.errors import UserError
from nmg.base.files import content_digest
from nmg.meta_training import run as meta_training
from support.planted import write_planted
from support.runs import Inputs, Notes, read_log, resume_run


@pytest.fixture
def own(tmp_path: Path) -> Inputs:
    """Inputs that a test may change."""
    (tmp_path / "inputs").mkdir()
    return Inputs(tmp_path / "inputs")


def change(own: Inputs, what: str) -> None:
    if what in {"train", "test", "validation", "corpus"}:
        path = own.model.parent / f"{what}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    elif what == "model":
        weights = load_file(own.model / "model.safetensors")
        name = next(name for name in weights if "query.weight" in name)
        save_file(weights | {name: weights[name] + 1e-3}, own.model / "model.safetensors", metadata={"format": "pt"})
    else:
        path = own.model / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        tokenizer["normalizer"] = {"type": "Lowercase"}
        path.write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("train", r"data\.train \(.*train\.jsonl\) has changed"),
        ("validation", r"data\.validation \(.*validation\.jsonl\) has changed"),
        ("test", r"data\.test \(.*test\.jsonl\) has changed"),
        ("corpus", r"data\.corpus \(.*corpus\.jsonl\) has changed"),
        ("model", r"model\.name \(.*model\) has changed"),
        ("tokenizer", r"the tokenizer of .*model has changed"),
    ],
)
def test_a_run_whose_inputs_changed_is_not_resumed(own: Inputs, tmp_path: Path, what: str, named: str):
    folder = own.model.parent
    others = {name: str(write_planted(folder / f"{name}.jsonl", 20, seed=7)) for name in ("validation", "corpus")}
    run = tmp_path / "run"
    config = own.config(data=others, meta={"episodes": 1})
    meta_training.start(config, run, Notes(), lambda *_: None)
    change(own, what)
    with pytest.raises(UserError, match=f"--resume {run}: {named} since the run began"):
        resume_run(run, ["--meta.episodes=2"], Notes(), lambda *_: None)
    assert len(read_log(run)) == 1
    assert meta_training.load_config(run / "config.yaml") == config, "nothing of the folder was touched"


@pytest.mark.parametrize("setting", ["weights", "keywords", "general_corpus"])
def test_whatever_a_setting_names_counts(own: Inputs, tmp_path: Path, setting: str):
    """A copy in another place is the same; other content is not; what no episode reads may be missing."""
    run, file, copy = tmp_path / "run", tmp_path / "words.txt", tmp_path / "copy.txt"
    file.write_text("aspirin\t3\n")
    copy.write_text(file.read_text())
    masking = {"rate": 0.3, setting: str(file)}
    meta_training.start(own.config(masking=masking, meta={"episodes": 1}), run, Notes(), lambda *_: None)
    resume_run(run, [f"--masking.{setting}={copy}", "--meta.episodes=2"], Notes(), lambda *_: None)
    assert len(read_log(run)) == 2
    copy.write_text("nicotine\t3\n")
    changed = rf"--resume {run}: masking\.{setting} \(.*copy\.txt\) has changed since the run began"
    with pytest.raises(UserError, match=changed):
        resume_run(run, [], Notes(), lambda *_: None)
    copy.unlink()
    with pytest.raises(UserError, match=changed):
        resume_run(run, [], Notes(), lambda *_: None)
    resume_run(run, [f"--masking.{setting}={file}"], Notes(), lambda *_: None)


def test_a_model_whose_configuration_changed(own: Inputs, tmp_path: Path):
    meta_training.start(own.config(meta={"episodes": 1}), tmp_path / "run", Notes(), lambda *_: None)
    facts = json.loads((own.model / "config.json").read_text())
    (own.model / "config.json").write_text(json.dumps(facts | {"hidden_dropout_prob": 0.3}))
    with pytest.raises(UserError, match=r"model\.name \(.*model\) has changed"):
        resume_run(tmp_path / "run", [], Notes(), lambda *_: None)


def test_all_that_changed_is_named(own: Inputs, tmp_path: Path):
    meta_training.start(own.config(meta={"episodes": 1}), tmp_path / "run", Notes(), lambda *_: None)
    change(own, "train")
    change(own, "model")
    with pytest.raises(UserError, match=r"model\.name .*, data\.train .* have changed"):
        resume_run(tmp_path / "run", [], Notes(), lambda *_: None)


def test_a_head_is_not_warmed_up_for_a_run_that_cannot_go_on(own: Inputs, tmp_path: Path):
    """Nor is a new head, drawn and trained, taken for another model."""
    weights = load_file(own.model / "model.safetensors")
    headless = {name: tensor for name, tensor in weights.items() if not name.startswith("cls.")}
    save_file(headless, own.model / "model.safetensors", metadata={"format": "pt"})
    changes: dict[str, Any] = {
        "model": {"name": str(own.model), "head_warmup_steps": 2, "head_tuning_steps": 2},
        "runtime": {"cache_dir": str(tmp_path / "cache")},
        "meta": {"episodes": 1},
    }
    meta_training.start(own.config(**changes), tmp_path / "run", Notes(), lambda *_: None)
    notes = Notes()
    resume_run(tmp_path / "run", ["--meta.episodes=2"], notes, lambda *_: None)
    assert len(read_log(tmp_path / "run")) == 2
    change(own, "train")
    cold = [f"--runtime.cache_dir={tmp_path / 'cold'}", "--meta.episodes=3"]
    with pytest.raises(UserError, match=r"data\.train"):
        resume_run(tmp_path / "run", cold, notes, lambda *_: None)
    assert notes.phases == []


def test_a_corpus_that_is_not_there(own: Inputs, tmp_path: Path):
    config = own.config(data={"corpus": str(tmp_path / "none.txt")}, meta={"episodes": 1})
    with pytest.raises(UserError, match=r"none\.txt: cannot be read: No such file"):
        meta_training.start(config, tmp_path / "run", Notes(), lambda *_: None)
    assert not (tmp_path / "run").exists()


def test_twins_are_said_at_the_start(own: Inputs, tmp_path: Path):
    notes = Notes()
    config = own.config(data={"test": str(own.train)}, meta={"episodes": 1})
    meta_training.start(config, tmp_path / "run", notes, lambda *_: None)
    assert any(line.startswith("warning: ") and "test texts" in line and "train" in line for line in notes.lines)


def test_the_digest_of_a_folder(tmp_path: Path):
    for name, text in (("b/two.txt", "2"), ("a.txt", "1")):
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).write_text(text)
    first = content_digest(tmp_path / "corpus")
    assert len(first) == len(content_digest(tmp_path / "corpus" / "a.txt")) == 16
    assert content_digest(tmp_path / "corpus") == first
    (tmp_path / "corpus" / "a.txt").rename(tmp_path / "corpus" / "c.txt")
    renamed = content_digest(tmp_path / "corpus")
    (tmp_path / "corpus" / "c.txt").write_text("3")
    assert len({first, renamed, content_digest(tmp_path / "corpus")}) == 3
