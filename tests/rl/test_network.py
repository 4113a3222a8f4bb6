"""The networks of the policy: architecture, masks, folders."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention

from nmg.errors import UserError
from nmg.rl.network import MaskPolicy, MaskPolicyConfig, SelfAttention, check_fits, load_policy, log_probabilities

from .helpers import blocks_of, new_policy

BLOCKS = blocks_of([[5, 6, 7, 8], [9, 10], []])
STATES = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_the_attention_block_is_that_of_bert() -> None:
    config = MaskPolicyConfig(hidden_size=24, num_attention_heads=3, initializer_range=0.5)
    ours = SelfAttention(config)
    for weight in ours.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    bert_config = BertConfig(hidden_size=24, num_attention_heads=3, hidden_act="gelu")
    bert_config._attn_implementation = "eager"
    reference = BertAttention(bert_config).eval()
    names = {"query": "self.query", "key": "self.key", "value": "self.value"}
    names |= {"output": "output.dense", "norm": "output.LayerNorm"}
    renamed = {name: names[name.split(".")[0]] + "." + name.split(".")[1] for name in ours.state_dict()}
    reference.load_state_dict({renamed[name]: weight for name, weight in ours.state_dict().items()})
    states = torch.randn(3, 6, 24)
    additive = torch.where(BLOCKS.is_token[:, None, None, :], 0.0, -torch.inf)
    expected = reference(states, attention_mask=additive)[0]
    torch.testing.assert_close(ours(states, BLOCKS.is_token), expected, atol=1e-6, rtol=1e-5)


def test_the_sizes_are_those_of_the_paper_and_the_trunks_are_apart() -> None:
    policy = MaskPolicy(MaskPolicyConfig(hidden_size=768, num_attention_heads=12))
    shapes = {name: tuple(weight.shape) for name, weight in policy.named_parameters()}
    assert shapes["policy.head.0.weight"] == shapes["value.head.0.weight"] == (128, 768)
    assert shapes["policy.head.2.weight"] == shapes["value.head.2.weight"] == (1, 128)
    attention = 4 * (768 * 768 + 768) + 2 * 768
    head = 128 * 768 + 128 + 128 + 1
    assert policy.num_parameters() == attention + 2 * head
    for name, weight in policy.named_parameters():
        if name.endswith("bias"):
            assert not weight.any()
        elif "norm" not in name:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.25)


def test_only_maskable_positions_have_a_logit() -> None:
    logits = new_policy().logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    assert torch.equal(logits.isfinite(), BLOCKS.is_maskable)
    assert (logits[~BLOCKS.is_maskable] == -torch.inf).all()


def test_a_logit_of_exactly_zero_is_a_logit() -> None:
    policy = new_policy()
    torch.nn.init.zeros_(policy.policy["head"][2].weight)
    logits = policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    assert (logits[BLOCKS.is_maskable] == 0).all()
    probabilities = log_probabilities(logits, BLOCKS.is_maskable).exp()
    expected = [[0, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 0], [0, 1 / 2, 1 / 2, 0, 0, 0], [0] * 6]
    torch.testing.assert_close(probabilities, torch.tensor(expected))


def test_the_value_reads_the_mean_of_the_raw_states_over_tokens() -> None:
    policy = new_policy()
    means = torch.stack([STATES[b, :n].mean(dim=0) for b, n in enumerate((6, 4, 2))])
    expected = policy.value["head"](means).squeeze(1)
    torch.testing.assert_close(policy.values(STATES, BLOCKS.is_token), expected)


def test_padding_changes_nothing() -> None:
    policy = new_policy()
    noise = torch.full((3, 5, 8), 1e3)
    longer = blocks_of([[5, 6, 7, 8], [9, 10], []], n_tokens=11)
    logits, values = policy(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    padded_logits, padded_values = policy(torch.cat([STATES, noise], dim=1), longer.is_token, longer.is_maskable)
    torch.testing.assert_close(padded_logits[:, :6], logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(padded_values, values, atol=1e-6, rtol=1e-5)
    assert (padded_logits[:, 6:] == -torch.inf).all()


def test_other_tokens_of_the_block_do_change_a_logit() -> None:
    policy = new_policy()
    moved = STATES.clone()
    moved[0, 4] *= -5.0
    before = policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    after = policy.logits(moved, BLOCKS.is_token, BLOCKS.is_maskable)
    assert abs((after[0, 1] - before[0, 1]).item()) > 1e-3
    assert torch.equal(after[1], before[1])


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_rows_without_maskable_tokens_give_neither_nan_nor_a_gradient_of_nan() -> None:
    policy = new_policy()
    logits, values = policy(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    log_prob = log_probabilities(logits, BLOCKS.is_maskable)
    assert (log_prob[2] == -torch.inf).all()
    assert values.isfinite().all()
    # Detection of anomalies also sees a NaN that a later step would hide.
    with torch.autograd.detect_anomaly(check_nan=True):
        (log_prob[BLOCKS.is_maskable].sum() + values.sum()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in policy.parameters())


def test_a_policy_folder_round_trip(tmp_path: Path) -> None:
    config = MaskPolicyConfig(
        hidden_size=8, num_attention_heads=2, head_hidden=16, base_model="some/model", masking_rate=0.1
    )
    policy = MaskPolicy(config)
    policy.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    state = torch.random.get_rng_state()
    loaded = load_policy(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (loaded.config.base_model, loaded.config.masking_rate) == ("some/model", 0.1)
    assert not loaded.training
    for restored in (loaded, MaskPolicy.from_pretrained(tmp_path)):
        expected = policy(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
        for ours, theirs in zip(restored(STATES, BLOCKS.is_token, BLOCKS.is_maskable), expected, strict=True):
            assert torch.equal(ours, theirs)
    assert all(weight.requires_grad for weight in loaded.parameters())


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
        case "missing weight":
            tensors = load_file(weights)
            tensors.pop("value.head.0.bias")
            save_file(tensors, weights)


@pytest.mark.parametrize(
    "how",
    [
        "no config",
        "no weights",
        "other model",
        "broken config",
        "broken weights",
        "other sizes",
        "odd heads",
        "missing weight",
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


def test_a_policy_for_another_hidden_size_is_a_user_error() -> None:
    check_fits(new_policy(), 8)
    with pytest.raises(UserError, match=r"8.*384"):
        check_fits(new_policy(), 384)
