"""A policy that looks at the LM once chooses what it would have chosen then, for the price of one pass."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.trial import TrainingStats
from nmg.base.types import TokenBlocks
from nmg.comparison.plan import Plan
from nmg.comparison.run import Comparison
from nmg.comparison.worker import ComparisonWorker
from nmg.masking.planned import plan_ahead
from nmg.policies.sampling import PolicyMasking
from nmg.training.adapt import adapt
from nmg.training.lm_reader import LMReader
from nmg.training.masks import DrawnMasks
from support.policies import new_policy
from support.runs import Inputs


@pytest.fixture
def policy_folder(tmp_path: Path) -> Path:
    new_policy(seed=3, hidden_size=16, spread=0.5).save_pretrained(tmp_path / "policy")
    return tmp_path / "policy"


def opened(inputs: Inputs, policy: Path, sees: str) -> ComparisonWorker:
    config = inputs.config(
        test={"remask": sees, "adapt_epochs": 3}, runtime={"evaluation_batch_size": 16}, adapt={"batch_size": 10}
    )
    plan = Plan.of(["random"], {"learned": policy}, [0])
    return Comparison.open(config, plan, policy.parent / "out", Silent()).with_head().session


def adapted(session: ComparisonWorker, name: str) -> TrainingStats:
    masks = DrawnMasks(session.corpus, session.maskings[name], session.config.test.remask)
    return adapt(session.model.context, masks, StreamName(0) / "meta-test")


def test_choices_are_those_of_the_policy_for_the_lm_as_it_was(inputs: Inputs, policy_folder: Path):
    session = opened(inputs, policy_folder, "once")
    policy, corpus = session.maskings["learned"], session.corpus
    assert isinstance(policy, PolicyMasking)
    encode, rng = session.model.context.reader, np.random.default_rng(0)
    planned = plan_ahead(policy, corpus, 0.3, rng, encode, batch_size=7)
    rows = np.array([5, 0, 17, 39, 2])
    blocks = corpus.blocks(rows)
    before = policy.plan(blocks, 0.3, rng, encode)
    with torch.no_grad():
        for parameter in session.model.lm.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    now = policy.plan(blocks, 0.3, rng, encode)
    later = planned.plan(blocks, 0.3, rng)
    assert torch.equal(later.positions, before.positions)
    assert torch.equal(later.budget, before.budget)
    assert not torch.equal(now.positions, before.positions)
    assert planned.name == "learned"
    assert not planned.reads_states
    with pytest.raises(ValueError, match=r"rate of 0\.3, not 0\.2"):
        planned.plan(blocks, 0.2, rng)


@pytest.mark.parametrize(("sees", "passes"), [("every-step", 12), ("once", 3)])
def test_passes_over_the_corpus(
    inputs: Inputs, policy_folder: Path, monkeypatch: pytest.MonkeyPatch, sees: str, passes: int
):
    """40 texts: 4 steps of 10 an epoch, 3 epochs; or 3 batches of 16, once."""
    session = opened(inputs, policy_folder, sees)
    calls: list[int] = []
    read = LMReader.__call__

    def counted(self: LMReader, blocks: TokenBlocks) -> torch.Tensor:
        calls.append(len(blocks))
        return read(self, blocks)

    monkeypatch.setattr(LMReader, "__call__", counted)
    result = adapted(session, "learned")
    assert result.steps == 12
    assert len(calls) == passes
    assert sum(calls) == 40 * (3 if sees == "every-step" else 1)
    random = adapted(session, "random")
    assert random.masked_tokens == result.masked_tokens
    assert len(calls) == passes
