"""Folders of policies: what is saved is what is loaded, and what is none is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from nmg.base.errors import UserError
from nmg.base.trial_recipe import TrialRecipe
from nmg.policies import storage
from nmg.policies.attention import AttentionConfig, AttentionPolicy
from nmg.policies.base import Policy
from nmg.policies.linear import LinearPolicy
from nmg.policies.registry import PolicySettings, load_policy
from nmg.policies.storage import KINDS, find_policy, policy_class
from support.policies import blocks_of, new_policy
from support.runs import is_same

BLOCKS = blocks_of([[5, 6, 7, 8], [9, 10], []])
STATES = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_a_policy_folder_round_trip(tmp_path: Path) -> None:
    config = AttentionConfig(
        hidden_size=8, num_attention_heads=2, head_hidden=16, base_model="some/model", masking_rate=0.1
    )
    policy = AttentionPolicy(config)
    policy.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    state = torch.random.get_rng_state()
    loaded = load_policy(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (loaded.config.base_model, loaded.config.masking_rate) == ("some/model", 0.1)
    assert loaded.config == config
    assert not loaded.training
    expected = policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    assert torch.equal(loaded.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable), expected)
    assert all(weight.requires_grad for weight in loaded.parameters())
    assert "recipe" not in json.loads((tmp_path / "config.json").read_text())

    policy.config = replace(config, recipe=TrialRecipe(learning_rate=4e-5, rate=0.2))
    policy.save_pretrained(tmp_path)
    assert load_policy(tmp_path).config == policy.config


def _break(folder: Path, how: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    match how:
        case "no config":
            config.unlink()
        case "no weights":
            weights.unlink()
        case "other model":
            config.write_text(json.dumps({"model_type": "bert"}))
        case "broken config":
            config.write_text("{")
        case "broken weights":
            weights.write_bytes(b"nothing")
        case "other sizes":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"head_hidden": 64}))
        case "odd heads":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"num_attention_heads": 3}))
        case "other kind":
            config.write_text(json.dumps(json.loads(config.read_text()) | {"kind": "oracle"}))
        case "no kind":
            config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "kind"}))
        case "one weight more":
            save_file(load_file(weights) | {"other.weight": torch.zeros(1)}, weights)
        case "missing weight":
            tensors = load_file(weights)
            tensors.pop("policy.head.0.bias")
            save_file(tensors, weights)


@pytest.mark.parametrize(
    "how",
    [
        "no config",
        "no weights",
        "other model",
        "other kind",
        "no kind",
        "broken config",
        "broken weights",
        "other sizes",
        "odd heads",
        "missing weight",
        "one weight more",
    ],
)
def test_a_folder_that_is_no_policy_is_a_user_error(tmp_path: Path, how: str) -> None:
    new_policy().save_pretrained(tmp_path)
    _break(tmp_path, how)
    with pytest.raises(UserError, match=str(tmp_path)):
        load_policy(tmp_path)


def test_a_missing_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        load_policy(tmp_path / "none")


def test_the_policy_of_a_run_is_found(tmp_path: Path) -> None:
    policy = new_policy()
    policy.save_pretrained(tmp_path / "policy")
    assert find_policy(tmp_path) == find_policy(tmp_path / "policy") == tmp_path / "policy"
    for folder in (tmp_path, tmp_path / "policy"):
        assert is_same(load_policy(folder), policy)


def test_every_kind_of_settings_names_its_class() -> None:
    kinds = [settings.model_fields["kind"].default for settings in get_args(get_args(PolicySettings)[0])]
    assert sorted(kinds) == sorted(KINDS) == ["attention", "linear"]
    for kind in kinds:
        assert policy_class(kind).kind == kind


def test_a_policy_of_another_kind_is_refused(tmp_path: Path) -> None:
    new_policy().save_pretrained(tmp_path)
    assert isinstance(Policy.from_pretrained(tmp_path), AttentionPolicy)
    assert is_same(AttentionPolicy.from_pretrained(tmp_path), Policy.from_pretrained(tmp_path))
    with pytest.raises(UserError, match="of kind 'attention', but LinearPolicy was expected"):
        LinearPolicy.from_pretrained(tmp_path)


def test_a_reader_finds_a_policy_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run writes its policy again after each episode: in between the folder holds the last one."""
    first = new_policy()
    first.save_pretrained(tmp_path)
    seen = []
    for name in ("write_text", "save_tensors"):
        written = getattr(storage, name)

        def watched(path: Path, content: Any, written: Any = written) -> None:
            seen.append(is_same(load_policy(tmp_path), first))
            written(path, content)

        monkeypatch.setattr(storage, name, watched)
    first.save_pretrained(tmp_path)
    assert seen == [True] * 3
