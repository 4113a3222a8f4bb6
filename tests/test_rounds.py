"""Episodes that are played together: the same as one by one where no proposal depends on a score, else with a lag."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.config import Config, load_config
from nmg.learners.experiment.regression import regress
from nmg.meta_training import run as meta_training
from nmg.meta_training.loop import MetaTraining
from nmg.trials.session import Session
from support.runs import Inputs, Notes, assert_same_run, is_same, read_log, record_facts, resume_run

FEATURES = ["idf", "digit", "function_word"]
EXPERIMENT: dict[str, Any] = {
    "policy": {"kind": "linear", "features": FEATURES},
    "learner": {"kind": "experiment", "budget": 40, "strengths": [2.0], "rules": [0.0, 5.0], "early_stop_alpha": 0.0},
    "reward": {"evaluation": "linear-probe", "metric": "loss"},
}


def experiment(inputs: Inputs, at_once: Any, **changes: Any) -> MetaTraining:
    meta = {"continual": False, "episodes": 100, "parallel_episodes": at_once}
    config = Config.model_validate(inputs.sections(meta=meta, **changes) | EXPERIMENT)
    return MetaTraining(Session.prepare(config, Silent()))


def actor_critic(inputs: Inputs, at_once: int, **meta: Any) -> MetaTraining:
    settings = {"continual": False, "episodes": 4, "parallel_episodes": at_once, **meta}
    return MetaTraining(Session.prepare(inputs.config(meta=settings), Silent()))


@pytest.fixture(scope="module")
def one_by_one(inputs: Inputs) -> tuple[MetaTraining, list[dict[str, Any]]]:
    training, records = experiment(inputs, 1), []
    while not training.is_finished:
        records.append(record_facts(training.episode()))
    return training, records


@pytest.mark.parametrize("at_once", [3, 50])
def test_an_experiment_is_the_same_however_many_episodes_play_together(
    inputs: Inputs, one_by_one: tuple[MetaTraining, list[dict[str, Any]]], at_once: int
):
    expected, records = one_by_one
    training, rounds = experiment(inputs, at_once), []
    while not training.is_finished:
        rounds.append([record_facts(record) for record in training.round()])
    assert [record for of_round in rounds for record in of_round] == records
    assert training.learner.findings() == expected.learner.findings()
    assert is_same(training.learner.policy, expected.learner.policy)
    sizes = [len(of_round) for of_round in rounds]
    assert max(sizes) == min(at_once, 8), "the answer is looked at after eight pairs: five more than features"
    assert all(len({record["stage"] for record in of_round}) == 1 for of_round in rounds)


def test_by_itself_a_round_holds_what_the_engine_plays_at_once(inputs: Inputs):
    """One after another on a GPU: then nothing is held back, however many threads the machine has."""
    training = experiment(inputs, "auto")
    assert len(training.round()) == 1
    training = experiment(inputs, "auto", runtime={"threads": 4, "engine": "serial"})
    assert (training.context.runtime.threads, training.engine.processes) == (4, 1)
    assert len(training.round()) == 1
    training.engine.processes = 4
    assert len(training.round()) == 2, "of two players each"
    training.engine.processes = 6
    assert len(training.round()) == 3
    torch.set_num_threads(1)
    assert len(actor_critic(inputs, 1).round("auto")) == 1


def test_no_stage_is_overrun(inputs: Inputs, one_by_one: tuple[MetaTraining, list[dict[str, Any]]]):
    """What a learner calls free is: nothing that it knows of proposals changes before."""
    learner, bound = experiment(inputs, 1).learner, 0
    states = []
    for record in one_by_one[1]:
        n_free = learner.capabilities.max_independent_episodes
        states.append((learner.state.stage, tuple(learner.state.direction), learner.state.rule, n_free))
        score = {name: scores["loss"] for name, scores in record["scores"].items()}
        features = {name: [float(len(states)), 1.0, 0.5 * number] for number, name in enumerate(score)}
        learner.state.record(learner.state.stage, score, features)
        learner.state.advance(regress(*learner.state.rows()), np.random.default_rng(0))
    for number, (*known, free) in enumerate(states):
        assert free >= 1
        for later in states[number : number + free]:
            assert list(later[:3]) == known
        bound = max(bound, free)
    assert bound > 1


def test_a_policy_that_lags_proposed_before_it_learned(inputs: Inputs):
    training, fresh = actor_critic(inputs, 2), actor_critic(inputs, 1)
    kept: dict[int, Any] = {}
    propose = training.learner.propose

    def remember(episode: Any, *rest: Any) -> Any:
        kept[episode.index] = propose(episode, *rest)
        return kept[episode.index]

    training.learner.propose = remember  # type: ignore[method-assign]
    first, second = training.round()
    assert "policy_lag" not in first.learning
    assert second.learning["policy_lag"] == 1
    # Nobody had learned when the second episode was proposed.
    episode = fresh.sample(1)
    fresh.context.model.load_state_dict(fresh.lm_state)
    expected = fresh.learner.propose(episode, fresh.corpus.blocks(episode.block_ids), fresh.context.reader)
    assert kept[1].keys() == expected.keys()
    for name, plan in expected.items():
        assert torch.equal(plan.positions, kept[1][name].positions)
    # The replay holds the probabilities that this policy gave its actions: the ratio is to them.
    replay, plan = training.learner.learner.replay, expected["learner"]
    of_second = replay.transitions_state()["log_prob"][first.learning["transitions"] :]
    assert plan.log_prob is not None
    assert len(of_second) > 10
    assert torch.isin(of_second, plan.log_prob[plan.is_chosen]).all()
    one_by_one = [record_facts(record) for record in (fresh.episode(), fresh.episode())]
    assert record_facts(first) == one_by_one[0]
    assert record_facts(second) != one_by_one[1]


def test_a_resumed_run_of_rounds_is_the_uninterrupted_one(inputs: Inputs, tmp_path: Path):
    def config(episodes: int) -> Any:
        meta = {"continual": False, "episodes": episodes, "parallel_episodes": 2, "checkpoint_every": 3}
        return inputs.config(meta=meta)

    whole = meta_training.start(config(6), tmp_path / "whole", Silent(), lambda *_: None)
    meta_training.start(config(4), tmp_path / "parts", Silent(), lambda *_: None)
    parts = resume_run(tmp_path / "parts", ["--meta.episodes=6"], Silent(), lambda *_: None)
    assert_same_run(whole, parts)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "parts")
    kept = [path.name for path in sorted((tmp_path / "whole" / "checkpoints").glob("kept-*"))]
    assert kept == ["kept-00004", "kept-00006"], "the first end of a round after every third episode"


def test_a_run_of_rounds_ends_where_trainings_diverge(inputs: Inputs, tmp_path: Path):
    meta = {"continual": False, "episodes": 8, "parallel_episodes": 8}
    config = inputs.config(meta=meta, adapt={"learning_rate": 1e30})
    with pytest.raises(UserError, match="in 3 consecutive episodes"):
        meta_training.start(config, tmp_path / "run", Notes(), lambda *_: None)
    assert len(read_log(tmp_path / "run")) == 8


def test_episodes_that_follow_each_other_do_not_play_together(tmp_path: Path):
    path = tmp_path / "run.yaml"
    path.write_text("meta:\n  continual: true\n  parallel_episodes: 2\nlearner:\n  kind: actor-critic\n")
    said = "episodes cannot run in parallel. Set meta.continual to false"
    with pytest.raises(UserError, match=said):
        load_config(path)
