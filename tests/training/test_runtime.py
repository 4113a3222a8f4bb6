"""Device, precision, memory, algorithms: what a run asks for, whatever ran before it in this process."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.seeding import StreamName
from nmg.base.settings import RuntimeSettings
from nmg.data.corpus import Corpus
from nmg.masking.rules import RandomMasking
from nmg.training import runtime as inner_runtime
from nmg.training.adapt import adapt
from nmg.training.lm import PretrainedLM
from nmg.training.masks import DrawnMasks
from nmg.training.runtime import COMMAND, Runtime, keeps_memory, send
from support.arenas import arena_of

AFTER_A_TRAINER = """
from accelerate import Accelerator
Accelerator(cpu=True, mixed_precision="no")  # as transformers' Trainer makes one

from pathlib import Path
from nmg.config import load_config
from nmg.base.progress import Silent
from nmg.meta_training import run as meta_training

for number, precision in enumerate(["bf16", "fp32", "bf16"]):
    words = [f"--runtime.precision={precision}", '--runtime.trackers=["tensorboard"]']
    training = meta_training.start(
        load_config(Path("config.yaml"), words), Path(f"run-{number}"), Silent(), lambda _record, _episodes: None
    )
    assert training.context.runtime.precision == precision

Accelerator(cpu=True, mixed_precision="no")
"""


def test_runs_of_other_precisions_follow_one_another_also_after_a_trainer(inputs: Any, tmp_path: Any):
    """accelerate fixes precision and device for a process, and asks to restart it for others."""
    inputs.write_config(tmp_path / "config.yaml", meta={"episodes": 1})
    run = subprocess.run(
        [sys.executable, "-c", AFTER_A_TRAINER], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr


def test_autocast_rounds_matrix_products_where_the_precision_says_so():
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        runtime = Runtime.start(RuntimeSettings(device="cpu", precision=precision))
        with runtime.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("there", "asked", "device"),
    [
        (("cuda", "mps"), "auto", "cuda"),
        (("mps",), "auto", "mps"),
        ((), "auto", "cpu"),
        (("cuda",), "cpu", "cpu"),
        (("cuda", "mps"), "mps", "mps"),
    ],
)
def test_the_device(monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], asked: Any, device: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert Runtime.start(RuntimeSettings(device=asked, precision="fp32")).device == torch.device(device)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="this machine has no 'cuda'"):
        Runtime.start(RuntimeSettings(device="cuda"))


@pytest.mark.parametrize(
    ("setting", "in_a_command", "kept"),
    [("auto", True, True), ("auto", False, False), (True, False, True), (False, True, False)],
)
def test_memory_is_kept_in_commands_and_where_asked_for(
    monkeypatch: pytest.MonkeyPatch, setting: Any, in_a_command: bool, kept: bool
):
    """Never in a notebook's process by itself."""
    monkeypatch.delenv(COMMAND, raising=False)
    if in_a_command:
        monkeypatch.setenv(COMMAND, "1")
    settings, calls = RuntimeSettings(device="cpu", keep_memory=setting), []
    assert keeps_memory(settings) == kept
    monkeypatch.setattr(inner_runtime, "keep_freed_memory", lambda: calls.append(True))
    Runtime.start(settings)
    assert bool(calls) == kept


def test_a_command_says_that_it_is_one(nmg: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(COMMAND, raising=False)
    assert nmg("validate", "nowhere.yaml").code == 2
    assert keeps_memory(RuntimeSettings())


def test_deterministic_algorithms_train_and_refuse_the_others(lm: PretrainedLM, corpus: Corpus):
    runtime = Runtime.start(RuntimeSettings(device="cpu", precision="fp32", deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert adapt(arena_of(lm, runtime), DrawnMasks(corpus, RandomMasking()), StreamName(0)).steps > 0
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_what_is_sent_arrives():
    assert torch.equal(send(torch.arange(3), torch.device("cpu")), torch.arange(3))
    assert send(torch.arange(3), torch.device("meta")).device.type == "meta"
