"""A policy that looks at the LM once chooses what it would have chosen then, for the price of one pass."""

from pathlib import Path

import numpy as np
import pytest
import torch

import nmg.meta_test
from nmg.inner.adapt import state_encoder
from nmg.masking.neural import NeuralMasking, plan_ahead
from nmg.meta_test import MetaTest
from nmg.reporter import Silent
from nmg.rl.network import MaskPolicy, MaskPolicyConfig
from nmg.types import TokenBlocks
from support.runs import Inputs


@pytest.fixture
def policy_folder(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    config = MaskPolicyConfig(hidden_size=16, num_attention_heads=2, initializer_range=0.5)
    MaskPolicy(config).save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def opened(inputs: Inputs, policy: Path, sees: str) -> MetaTest:
    config = inputs.config(
        test={"policy_sees": sees, "adapt_epochs": 3}, runtime={"evaluation_batch_size": 16}, adapt={"batch_size": 10}
    )
    return MetaTest.prepare(config, ["neural", "random"], policy, Silent())


def test_choices_are_those_of_the_policy_for_the_lm_as_it_was(inputs: Inputs, policy_folder: Path):
    test = opened(inputs, policy_folder, "start")
    policy, corpus = test.maskings["neural"], test.corpus
    assert isinstance(policy, NeuralMasking)
    encode, rng = state_encoder(test.lm.model, test.runtime), np.random.default_rng(0)
    planned = plan_ahead(policy, corpus, 0.3, rng, encode, batch_size=7)
    rows = np.array([5, 0, 17, 39, 2])
    blocks = corpus.blocks(rows)
    before = policy.plan(blocks, 0.3, rng, encode)
    with torch.no_grad():
        for parameter in test.lm.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    now = policy.plan(blocks, 0.3, rng, encode)
    later = planned.plan(blocks, 0.3, rng)
    assert torch.equal(later.positions, before.positions)
    assert torch.equal(later.budget, before.budget)
    assert not torch.equal(now.positions, before.positions)
    assert planned.name == "neural"
    with pytest.raises(ValueError, match=r"rate of 0\.3, not 0\.2"):
        planned.plan(blocks, 0.2, rng)


@pytest.mark.parametrize(("sees", "passes"), [("step", 12), ("start", 3)])
def test_passes_over_the_corpus(
    inputs: Inputs, policy_folder: Path, monkeypatch: pytest.MonkeyPatch, sees: str, passes: int
):
    """40 texts: 4 steps of 10 an epoch, 3 epochs; or 3 batches of 16, once."""
    test = opened(inputs, policy_folder, sees)
    calls: list[int] = []

    def counting(model: object, runtime: object) -> object:
        encode = state_encoder(test.lm.model, test.runtime)

        def counted(blocks: TokenBlocks) -> torch.Tensor:
            calls.append(len(blocks))
            return encode(blocks)

        return counted

    monkeypatch.setattr(nmg.meta_test, "state_encoder", counting)
    result = test.adapt(test.maskings["neural"], 0)
    assert result is not None
    assert result.fit.steps == 12
    assert len(calls) == passes
    assert sum(calls) == 40 * (3 if sees == "step" else 1)
    random = test.adapt(test.maskings["random"], 0)
    assert random is not None
    assert random.masked_tokens == result.masked_tokens
    assert len(calls) == passes
