"""`nmg adapt` with LoRA: what it says, and what is in the folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nmg.training.lora
from nmg import adapt
from nmg.base.errors import UserError

from .conftest import MakeConfig

pytest.importorskip("peft", reason="needs peft (the `lora` extra)")
RANK_2 = {"lora": {"rank": 2}, "learning_rate": 0.05}


def test_the_summary_and_the_folder_say_so(make_config: MakeConfig, model: Path, tmp_path: Path):
    result = adapt(make_config(adapt=RANK_2), "random", tmp_path / "out")
    assert "  LoRA            rank 2, merged into the model" in result.summary().splitlines()
    facts = json.loads((tmp_path / "out" / "nmg.json").read_text())
    assert facts["lora_rank"] == facts["settings"]["adapt"]["lora"]["rank"] == 2
    assert facts["held_out"]["after"] < facts["held_out"]["before"]
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "out"))
    assert before.keys() == after.keys()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed
    assert all(name.startswith("bert.encoder.") and name.endswith(".weight") for name in changed)


def test_a_model_that_works_only_without_lora_is_named(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_arguments: Any) -> list[str]:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(nmg.training.lora, "lora_targets", fail)
    with pytest.raises(UserError, match=r"adapt\.lora\.rank: .* cannot be adapted with LoRA \(RuntimeError: no such"):
        adapt(make_config(adapt=RANK_2), "random", tmp_path / "out")


def test_without_peft_nothing_is_loaded(make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nmg.training.lora, "find_spec", lambda _name: None)
    config = make_config(adapt=RANK_2, model={"name": "no/such-model"})
    with pytest.raises(UserError, match=r"pip install 'peft"):
        adapt(config, "random", tmp_path / "out")
