"""The player `random` as a rule that a learner must beat."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.types import Episode, MaskPlan, TokenBlocks
from nmg.learners.actor_critic.learner import ActorCritic
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.base import LearnerContext
from nmg.masking.base import Masking, Rule, choose, position_noise
from nmg.masking.idf import idf_rule
from nmg.masking.rules import RandomMasking
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.policies import blocks_of, new_policy
from support.runs import Inputs

BLOCKS = blocks_of([[5, 6, 7, 8, 9, 10], [9, 10, 5, 6]])
NOISE = StreamName(0) / "episode" / 3 / "actions" / "random"


def rule(exponent: float) -> Masking:
    """The first tokens, the more surely the sharper."""

    def draw(blocks: TokenBlocks, rate: float, rng: np.random.Generator) -> MaskPlan:
        return choose(position_noise(blocks, rng) - exponent * torch.arange(blocks.input_ids.shape[1]), blocks, rate)

    return Rule("first", draw)


def random_plan(**settings: Any) -> Tensor:
    ground = LearnerContext(new_policy, 0.5, lambda outcome: 0.0, StreamName(0), torch.device("cpu"), rule)
    learner: ActorCritic = ActorCritic(ActorCriticSettings(**settings), ground)
    states = torch.zeros(2, 8, 8)
    episode = Episode(3, np.arange(2), np.arange(0))
    return learner.propose(episode, BLOCKS, lambda blocks: states)["random"].positions  # type: ignore[arg-type]


def test_the_random_player_masks_by_chance_unless_told_otherwise() -> None:
    by_chance = RandomMasking().plan(BLOCKS, 0.5, NOISE.generator()).positions
    assert torch.equal(random_plan(), by_chance)
    assert torch.equal(random_plan(baseline="random", baseline_idf_exponent=9.0), by_chance)
    assert torch.equal(random_plan(baseline="rule", baseline_idf_exponent=0.0), by_chance)


def test_a_rival_masks_by_the_rule_of_its_sharpness() -> None:
    assert random_plan(baseline="rule").tolist() == [[1, 2, 3], [1, 2, -1]], "of exponent 5"
    assert torch.equal(
        random_plan(baseline="rule", baseline_idf_exponent=0.1),
        rule(0.1).plan(BLOCKS, 0.5, NOISE.generator()).positions,
    )


def test_without_a_rule_there_is_no_rival() -> None:
    ground = LearnerContext(new_policy, 0.5, lambda outcome: 0.0, StreamName(0), torch.device("cpu"))
    with pytest.raises(ValueError, match="the context has no rule"):
        ActorCritic(ActorCriticSettings(baseline="rule"), ground)


def test_a_run_against_the_rule(inputs: Inputs) -> None:
    """With every option at once: the rule is that of the run's corpus, and what follows is finite."""
    options = {"baseline": "rule", "baseline_idf_exponent": 4.0, "exploration": "parameter-noise", "clip_range": 0.2}
    training = MetaTraining(Session.prepare(inputs.config(learner=options), Silent()))
    seen: list[tuple[TokenBlocks, MaskPlan]] = []
    propose = training.learner.propose

    def spy(episode: Episode, blocks: TokenBlocks, encode: Any) -> dict[str, MaskPlan]:
        plans = propose(episode, blocks, encode)
        seen.append((blocks, plans["random"]))
        return plans

    training.learner.propose = spy
    records = [training.episode() for _ in range(3)]
    assert all({"learner", "random"} <= set(record.scores) for record in records)
    for index, (blocks, plan) in enumerate(seen):
        noise = (StreamName(0) / "episode" / index / "actions" / "random").generator()
        assert torch.equal(plan.positions, idf_rule(training.corpus, 4.0).plan(blocks, 0.3, noise).positions)
    update = records[2].learning["learner_update"]
    assert all(np.isfinite(value) for value in update.values())
    assert update["ratio_max"] > 1.2, "told as it is before it is clipped"
