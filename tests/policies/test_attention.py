"""The attention policy: architecture and masks."""

import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertAttention

from nmg.base.errors import UserError
from nmg.policies.attention import AttentionConfig, AttentionPolicy, SelfAttention
from nmg.policies.base import log_probabilities
from support.policies import blocks_of, new_policy

BLOCKS = blocks_of([[5, 6, 7, 8], [9, 10], []])
STATES = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_the_attention_block_is_that_of_bert() -> None:
    config = AttentionConfig(hidden_size=24, num_attention_heads=3)
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


def test_the_sizes_are_those_of_the_paper() -> None:
    torch.manual_seed(0)
    policy = AttentionPolicy(AttentionConfig(hidden_size=768, num_attention_heads=12))
    policy.reset_parameters()
    shapes = {name: tuple(weight.shape) for name, weight in policy.named_parameters()}
    assert shapes["policy.head.0.weight"] == (128, 768)
    assert shapes["policy.head.2.weight"] == (1, 128)
    attention = 4 * (768 * 768 + 768) + 2 * 768
    head = 128 * 768 + 128 + 128 + 1
    assert sum(weight.numel() for weight in policy.parameters()) == attention + head
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


def test_padding_changes_nothing() -> None:
    policy = new_policy()
    noise = torch.full((3, 5, 8), 1e3)
    longer = blocks_of([[5, 6, 7, 8], [9, 10], []], n_tokens=11)
    logits = policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    padded_logits = policy.logits(torch.cat([STATES, noise], dim=1), longer.is_token, longer.is_maskable)
    torch.testing.assert_close(padded_logits[:, :6], logits, atol=1e-6, rtol=1e-5)
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
    logits = policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)
    log_prob = log_probabilities(logits, BLOCKS.is_maskable)
    assert (log_prob[2] == -torch.inf).all()
    # Detection of anomalies also sees a NaN that a later step would hide.
    with torch.autograd.detect_anomaly(check_nan=True):
        log_prob[BLOCKS.is_maskable].sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in policy.parameters())


def test_an_odd_number_of_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="8 is not a multiple of 3"):
        AttentionConfig(hidden_size=8, num_attention_heads=3)


def test_a_policy_for_another_hidden_size_is_a_user_error() -> None:
    new_policy().check_fits(8, 100)
    with pytest.raises(UserError, match=r"8.*384"):
        new_policy().check_fits(384, 100)
