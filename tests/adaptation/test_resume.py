"""A resumed adaptation ends as an uninterrupted one, to the bit; one begun with something else is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nmg import ModelSession, adapt
from nmg.adaptation.checkpoints import Checkpoints
from nmg.base import files
from nmg.base.digests import SUMS
from nmg.base.errors import UserError
from support.command import Nmg
from support.documents import documents
from support.policies import new_policy
from support.runs import Notes

from .conftest import MakeConfig

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("random", {}),
    "bf16": ("random", {"runtime": {"precision": "bf16"}}),
    "fp16": ("random", {"runtime": {"precision": "fp16"}}),
    "few words": ("idf", {"adapt": {"vocabulary": "corpus", "weight_decay": 0.1, "warmup_ratio": 0.3}}),
    "rates": ("whole-word", {"masking": {"rate_schedule": "linear"}}),
    "kept losses": ("loss", {"masking": {"refresh_steps": 50}, "adapt": {"epochs": 2}}),
    "joined": ("whole-word", {"adapt": {"join_documents": True, "block_size": 60, "batch_size": 4}}),
    "parts": ("random", {"runtime": {"micro_batch_size": 3}}),
    "best": ("random", {"adapt": {"patience": 2, "evaluate_every": 3, "learning_rate": 0.05}}),
    "lora": ("random", {"adapt": {"lora": {"rank": 2, "dropout": 0.1}, "patience": 5, "learning_rate": 0.05}}),
    "replay": ("idf", {"adapt": {"replay": 0.3, "epochs": 2}}),
    "unmeasured": ("random", {"adapt": {"held_out": 0}}),
}
QUICK = ("fp32", "kept losses", "joined", "best", "lora", "replay")
"""The cases whose state differs most; the others run with the slow tests."""


class Killed(BaseException):
    pass


def stop_after(patch: pytest.MonkeyPatch, n_checkpoints: int) -> None:
    """End the process, as it were, after so many checkpoints."""
    save, number = Checkpoints.save, 0

    def once_more(self: Checkpoints, *arguments: Any) -> None:
        nonlocal number
        save(self, *arguments)
        number += 1
        if number == n_checkpoints:
            raise Killed

    patch.setattr(Checkpoints, "save", once_more)


def content(out: Path) -> dict[str, Any]:
    """What the folder says of the result."""
    found: dict[str, Any] = {path.name: path.read_bytes() for path in out.glob("*.safetensors")}
    facts = json.loads((out / "nmg.json").read_text())
    del facts["seconds"], facts["settings"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
        line.pop("tokens_per_second", None)
    return found | {"facts": facts, "lines": lines, "names": sorted(path.name for path in out.iterdir())}


@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_resumed_equals_uninterrupted(make_config: MakeConfig, tmp_path: Path, case: str):
    if case == "lora":
        pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
    masking, changes = CASES[case]
    whole = adapt(make_config(**changes), masking, tmp_path / "whole")
    expected = content(tmp_path / "whole")
    assert whole.steps >= 8
    saved_often = changes | {"runtime": changes.get("runtime", {}) | {"checkpoint_minutes": 0}}
    out, cuts, notes = tmp_path / "out", [1, whole.steps // 2, whole.steps - 1, whole.steps], Notes()
    for before, cut in zip([0, *cuts], cuts, strict=False):
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, cut - before)
            with pytest.raises(Killed):
                adapt(make_config(**saved_often), masking, out, reporter=notes, resume=before > 0)
        assert not (out / "config.json").exists()
        torch.rand(3)  # the state of the process is another one
    resumed = adapt(make_config(**changes), masking, out, reporter=notes, resume=True)
    assert f"resuming after {cuts[1]} of" in " ".join(notes.lines)
    assert content(out) == expected
    assert (resumed.steps, resumed.loss, resumed.held_out) == (whole.steps, whole.loss, whole.held_out)
    assert resumed.general == whole.general
    assert not (out / "checkpoints").exists()
    assert json.loads((out / "run.json").read_text())["is_finished"]


@pytest.mark.parametrize("case", ["fp32", "best"])
def test_checkpoints_change_nothing(make_config: MakeConfig, tmp_path: Path, case: str):
    masking, changes = CASES[case]
    adapt(make_config(**changes), masking, tmp_path / "whole")
    often = {"checkpoint_minutes": 0, "keep_checkpoint": True}
    adapt(make_config(**changes, runtime=often), masking, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert len(names) == 2, "two are held"
    ours, theirs = content(tmp_path / "out"), content(tmp_path / "whole")
    assert ours.pop("names") != theirs.pop("names")
    assert ours == theirs


def test_masks_chosen_once_by_a_policy(make_config: MakeConfig, tmp_path: Path):
    policy = tmp_path / "policy"
    new_policy(hidden_size=16).save_pretrained(policy)
    config = make_config(test={"remask": "once"}, runtime={"checkpoint_minutes": 0})
    adapt(config, policy, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Killed):
            adapt(config, policy, tmp_path / "out")
    adapt(config, policy, tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.fixture
def begun(make_config: MakeConfig, tmp_path: Path) -> Path:
    """An adaptation that was ended after three checkpoints."""
    out = tmp_path / "begun"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Killed):
            adapt(make_config(runtime={"checkpoint_minutes": 0}), "random", out)
    return out


def test_a_run_in_progress_says_what_it_is(begun: Path):
    names = {path.name for path in begun.iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "checkpoints"} <= names
    facts = json.loads((begun / "run.json").read_text())
    assert (facts["job"], facts["masking"], facts["is_finished"]) == ("adapt", "random", False)
    assert facts["planned_steps"] > 3
    assert set(facts["inputs"]) == {"model.name", "tokenizer", "data.corpus"}


@pytest.mark.parametrize(
    ("changes", "masking", "names"),
    [
        ({"adapt": {"epochs": 2}}, "random", "adapt.epochs;"),
        ({"masking": {"rate": 0.1}, "run": {"seed": 1}}, "random", "masking.rate, run.seed;"),
        ({}, "idf", "--masking;"),
    ],
)
def test_other_settings_are_refused_by_name(
    make_config: MakeConfig, begun: Path, changes: dict[str, Any], masking: str, names: str
):
    with pytest.raises(UserError, match=f"the run was begun with other values of {names}"):
        adapt(make_config(**changes), masking, begun, resume=True)


def test_another_text_or_model_is_refused_by_name(make_config: MakeConfig, begun: Path, tmp_path: Path):
    (tmp_path / "other.txt").write_text("\n".join(documents(120, seed=1)))
    with pytest.raises(UserError, match=r"other values of data\.corpus;"):
        adapt(make_config(data={"corpus": str(tmp_path / "other.txt")}), "random", begun, resume=True)
    other = ModelSession.open(make_config())
    with torch.no_grad():
        next(other.lm.model.parameters()).add_(1e-3)
    other.lm.model.save_pretrained(tmp_path / "other")
    other.lm.tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match=r"other values of model\.name;"):
        adapt(make_config(model={"name": str(tmp_path / "other")}), "random", begun, resume=True)
    with pytest.raises(UserError, match=r"other values of adapt\.general_corpus;"):
        adapt(make_config(adapt={"general_corpus": str(tmp_path / "other.txt")}), "random", begun, resume=True)
    # The same content at another place is the same.
    moved = tmp_path / "moved.txt"
    moved.write_text(Path(str(make_config().data.corpus)).read_text())
    adapt(make_config(data={"corpus": str(moved)}), "random", begun, resume=True)


def test_the_command(make_config: MakeConfig, begun: Path, tmp_path: Path, nmg: Nmg):
    config = make_config()
    answer = nmg("adapt", "--corpus", str(config.data.corpus), "--out", begun)
    assert answer.code == 2
    assert "another run (continue that one with --resume)" in answer.err
    answer = nmg("adapt", "--resume", begun, "--adapt.batch_size", "3")
    assert answer.code == 2
    assert "other values of adapt.batch_size;" in answer.err
    answer = nmg("adapt", "--resume", begun, "--masking", "idf")
    assert "other values of --masking;" in answer.err
    answer = nmg("adapt", "--resume", tmp_path / "nothing")
    assert "there is no adaptation in this folder" in answer.err
    answer = nmg("adapt", "--resume", begun)
    assert answer.code == 0, answer.err
    assert "resuming after 3 of" in answer.err
    assert "held-out loss" in answer.out
    answer = nmg("adapt", "--resume", begun)
    assert answer.code == 2
    assert "this adaptation is finished; the folder holds the adapted model" in answer.err


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(make_config: MakeConfig, begun: Path):
    last = max((begun / "checkpoints").iterdir())
    (last / "training.safetensors").write_bytes(b"half")
    notes = Notes()
    adapt(make_config(), "random", begun, reporter=notes, resume=True)
    assert any("damaged: " in line and "step-00000003/training.safetensors" in line for line in notes.lines)
    assert any("resuming after 2 of" in line for line in notes.lines)


def test_without_an_intact_checkpoint(make_config: MakeConfig, begun: Path):
    for folder in (begun / "checkpoints").iterdir():
        (folder / SUMS).unlink()
    with pytest.raises(UserError, match="every checkpoint is damaged"):
        adapt(make_config(), "random", begun, resume=True)


def test_a_disk_that_fills_is_a_clear_error_and_the_checkpoint_before_stays(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    adapt(make_config(), "random", tmp_path / "whole")
    flush = files._flush

    def fill(path: Path) -> None:
        if "step-00000005.tmp" in str(path):
            raise OSError(28, "No space left on device")
        flush(path)

    monkeypatch.setattr(files, "_flush", fill)
    with pytest.raises(UserError, match=r"step-00000005.tmp/.*: cannot be written: No space left on device"):
        adapt(make_config(runtime={"checkpoint_minutes": 0}), "random", tmp_path / "out")
    monkeypatch.setattr(files, "_flush", flush)
    notes = Notes()
    adapt(make_config(), "random", tmp_path / "out", reporter=notes, resume=True)
    assert any("resuming after 4 of" in line for line in notes.lines)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_what_a_kill_left_before_the_end_was_recorded(make_config: MakeConfig, tmp_path: Path):
    out = tmp_path / "out"
    adapt(make_config(runtime={"keep_checkpoint": True, "checkpoint_minutes": 0}), "random", out)
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(facts | {"is_finished": False}))
    with pytest.raises(UserError, match="this adaptation is finished"):
        adapt(make_config(), "random", out, resume=True)
    assert json.loads((out / "run.json").read_text())["is_finished"]
    assert not (out / "checkpoints").exists()


def test_a_run_of_another_command_is_not_resumed(make_config: MakeConfig, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({}))
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="there is no adaptation in this folder"):
        adapt(make_config(), "random", tmp_path, resume=True)
    (tmp_path / "run.json").write_text('{"planned_episodes": 3}')
    with pytest.raises(UserError, match=f"Continue it: nmg learn --resume {tmp_path}"):
        adapt(make_config(), "random", tmp_path, resume=True)
