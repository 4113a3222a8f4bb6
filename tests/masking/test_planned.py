"""A policy that looks at the LM once chooses what it would have chosen then, for the price of one pass."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nmg.comparison.bench import CellBench
from nmg.comparison.plan import Plan
from nmg.comparison.run import Comparison
from nmg.inner.adapt import AdaptResult, adapt
from nmg.inner.lm import LMReader
from nmg.inner.masks import DrawnMasks
from nmg.masking.planned import plan_ahead
from nmg.policies.masking import PolicyMasking
from nmg.reporter import Silent
from nmg.seeding import StreamName
from nmg.types import TokenBlocks
from support.policies import new_policy
from support.runs import Inputs


@pytest.fixture
def policy_folder(tmp_path: Path) -> Path:
    new_policy(seed=3, hidden_size=16, spread=0.5).save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def opened(inputs: Inputs, policy: Path, sees: str) -> CellBench:
    config = inputs.config(
        test={"policy_sees": sees, "adapt_epochs": 3}, runtime={"evaluation_batch_size": 16}, adapt={"batch_size": 10}
    )
    plan = Plan.of(["random"], {"neural": policy}, [0])
    return Comparison.prepare(config, plan, policy.parent / "out", Silent()).bench


def adapted(bench: CellBench, name: str) -> AdaptResult:
    masks = DrawnMasks(bench.corpus, bench.maskings[name], bench.config.test.policy_sees)
    return adapt(bench.model.arena, masks, StreamName(0) / "meta-test")


def test_choices_are_those_of_the_policy_for_the_lm_as_it_was(inputs: Inputs, policy_folder: Path):
    bench = opened(inputs, policy_folder, "start")
    policy, corpus = bench.maskings["neural"], bench.corpus
    assert isinstance(policy, PolicyMasking)
    encode, rng = bench.model.arena.reader, np.random.default_rng(0)
    planned = plan_ahead(policy, corpus, 0.3, rng, encode, batch_size=7)
    rows = np.array([5, 0, 17, 39, 2])
    blocks = corpus.blocks(rows)
    before = policy.plan(blocks, 0.3, rng, encode)
    with torch.no_grad():
        for parameter in bench.model.lm.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    now = policy.plan(blocks, 0.3, rng, encode)
    later = planned.plan(blocks, 0.3, rng)
    assert torch.equal(later.positions, before.positions)
    assert torch.equal(later.budget, before.budget)
    assert not torch.equal(now.positions, before.positions)
    assert planned.name == "neural"
    assert not planned.reads_states
    with pytest.raises(ValueError, match=r"rate of 0\.3, not 0\.2"):
        planned.plan(blocks, 0.2, rng)


@pytest.mark.parametrize(("sees", "passes"), [("step", 12), ("start", 3)])
def test_passes_over_the_corpus(
    inputs: Inputs, policy_folder: Path, monkeypatch: pytest.MonkeyPatch, sees: str, passes: int
):
    """40 texts: 4 steps of 10 an epoch, 3 epochs; or 3 batches of 16, once."""
    bench = opened(inputs, policy_folder, sees)
    calls: list[int] = []
    read = LMReader.__call__

    def counted(self: LMReader, blocks: TokenBlocks) -> torch.Tensor:
        calls.append(len(blocks))
        return read(self, blocks)

    monkeypatch.setattr(LMReader, "__call__", counted)
    result = adapted(bench, "neural")
    assert result.fit.steps == 12
    assert len(calls) == passes
    assert sum(calls) == 40 * (3 if sees == "step" else 1)
    random = adapted(bench, "random")
    assert random.masked_tokens == result.masked_tokens
    assert len(calls) == passes
