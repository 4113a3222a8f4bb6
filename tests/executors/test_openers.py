"""A worker that another process opens is that of the process that sent it: the same jobs, the same results."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nmg.base.progress import Silent
from nmg.base.seeding import stream
from nmg.comparison.plan import Plan
from nmg.comparison.results import trial_json
from nmg.comparison.run import Comparison
from nmg.masking.rules import RandomMasking
from nmg.meta_training.loop import MetaTraining
from nmg.trials.episode import PlayerJob
from nmg.trials.session import Session
from support.runs import Inputs, is_same


def sent(factory: Any) -> Any:
    return pickle.loads(pickle.dumps(factory))(1)


def test_an_episode_elsewhere(inputs: Inputs):
    training = MetaTraining(Session.prepare(inputs.config(), Silent()))
    here: Any = training.engine._worker  # type: ignore[attr-defined]
    there = sent(here.factory(training.config.runtime))
    episode = training.sample(0)
    blocks = training.corpus.blocks(episode.block_ids)
    plan = RandomMasking().plan(blocks, 0.3, stream(0, "plan"))
    start, spec = training.pretrained, replace(training.trial, masking="random")
    (ours, our_state), (theirs, their_state) = (
        place.run(start, PlayerJob(spec, episode, blocks, plan, keep=True)) for place in (here, there)
    )
    assert trial_json(ours) | {"seconds": None} == trial_json(theirs) | {"seconds": None}
    assert is_same(our_state, their_state)
    assert here.run(start, PlayerJob(spec, episode, blocks, plan, keep=False))[1] is None


def test_a_cell_elsewhere(inputs: Inputs, tmp_path: Path):
    plan = Plan.of(["random"], {}, [0])
    comparison = Comparison.open(inputs.config(), plan, tmp_path / "out", Silent()).with_head()
    there = sent(comparison.session.factory)
    assert torch.get_num_threads() == 1
    ours, theirs = (session.run(None, plan.specs())[0] for session in (comparison.session, there))
    assert trial_json(ours) | {"seconds": None} == trial_json(theirs) | {"seconds": None}
