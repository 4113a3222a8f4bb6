"""The algorithm as a whole, on a model and a corpus that take a moment."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nmg.base.progress import Silent
from nmg.config import Config
from nmg.data.formats.questions import QAExample
from nmg.data.formats.squad import write_squad
from nmg.learners.actor_critic.player import Player
from nmg.meta_training.loop import RESET_EPISODES, EpisodeRecord, MetaTraining
from nmg.training.lm import encoder_states
from nmg.trials import episode as inner_episode
from nmg.trials.session import Session
from support.runs import Inputs, is_same, record_facts


def new_training(inputs: Inputs, **changes: dict[str, Any]) -> MetaTraining:
    return MetaTraining(Session.prepare(inputs.config(**changes), Silent()))


def play(training: MetaTraining, episodes: int) -> list[EpisodeRecord]:
    return [training.episode() for _ in range(episodes)]


def players_of(training: MetaTraining) -> tuple[Player, Player]:
    return training.learner.learner, training.learner.opponent


def weights_of(player: Player) -> dict[str, torch.Tensor]:
    """A copy of the weights of both networks."""
    networks = {"policy": player.policy, "value": player.value}
    return {f"{of}.{name}": t.clone() for of, network in networks.items() for name, t in network.state_dict().items()}


def policy_part(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The policy's of `weights_of`, by their own names."""
    return {name.removeprefix("policy."): t for name, t in weights.items() if name.startswith("policy.")}


def without_seconds(records: list[EpisodeRecord]) -> list[dict[str, Any]]:
    return [record_facts(record) for record in records]


@pytest.mark.parametrize("self_play", ["learning", "frozen", "random"])
@pytest.mark.parametrize(("continual", "reset"), [(True, False), (True, True), (False, False)])
def test_every_mode_of_play(inputs: Inputs, self_play: str, continual: bool, reset: bool):
    training = new_training(inputs, meta={"continual": continual, "reset": reset}, learner={"self_play": self_play})
    learner, opponent = players_of(training)
    before, rival = weights_of(learner), weights_of(opponent)
    records = play(training, 3)
    assert not is_same(weights_of(learner), before)
    assert is_same(training.lm_state, training.pretrained) == (not continual)
    assert (len(opponent.replay) > 0) == (self_play == "learning")
    if self_play == "random":
        assert is_same(weights_of(opponent), rival)
    players = [set(record.scores) for record in records]
    opponent_plays = {"learning": [False, True, True], "random": [False] * 3}
    if self_play == "frozen":  # once the learner has won
        has_won = np.cumsum([record.learning["reward_opponent"] > 0 for record in records]) > 0
        opponent_plays["frozen"] = [False, *has_won[:-1].tolist()]
    both = {"learner", "random"}
    assert players == [both | {"opponent"} if plays else both for plays in opponent_plays[self_play]]
    for number, record in enumerate(records, start=1):
        assert record.episode == number
        assert record.metric == "loss"
        assert 0 < record.learning["stored_share"] <= 1
        assert record.learning["transitions"] == len(learner.replay) or number <= 2
        assert all(math.isfinite(loss) for loss in record.lm_loss.values())
        assert ("opponent_update" in record.learning) == (self_play == "learning" and number > 1)
    assert "learner_update" in records[2].learning


@pytest.mark.parametrize(
    "changes",
    [
        *({"learner": {"replay_weighting": name}} for name in ("advantage", "uniform")),
        *(
            pytest.param({"learner": {"replay_weighting": name}}, marks=pytest.mark.slow)
            for name in ("reward", "value", "reward-advantage", "value-advantage")
        ),
        {"learner": {"objective": "policy-gradient"}},
        {"learner": {"objective": "policy-gradient", "importance_ratio": False}},
        {"learner": {"reward": "sign"}},
        {"learner": {"reward": "sign"}, "reward": {"metric": None}},
        {"learner": {"reward": "difference"}, "reward": {"metric": "macro_f1"}},
    ],
    ids=str,
)
def test_every_option_of_learning_runs_and_is_heard(inputs: Inputs, changes: dict[str, Any]):
    training, default = new_training(inputs, **changes), new_training(inputs)
    assert is_same(weights_of(training.learner.learner), weights_of(default.learner.learner))
    records = play(training, 3)
    play(default, 3)
    assert all(torch.isfinite(tensor).all() for tensor in weights_of(training.learner.learner).values())
    assert training.metric == (training.config.reward.metric or "accuracy")
    if training.config.learner.reward == "sign":
        assert {record.learning["reward_random"] for record in records} <= {-1.0, 0.0, 1.0}
    is_default = changes == {"learner": {"replay_weighting": "advantage"}}
    assert is_same(weights_of(training.learner.learner), weights_of(default.learner.learner)) == is_default


def test_both_forms_of_the_policy_loss_train_alike(inputs: Inputs):
    """Their values differ, their gradients do not (`losses.policy_loss`)."""
    ratio, log_prob = new_training(inputs), new_training(inputs, learner={"importance_ratio": False})
    losses = [play(training, 2)[1].learning["learner_update"] for training in (ratio, log_prob)]
    assert losses[0]["policy_loss"] != pytest.approx(losses[1]["policy_loss"], rel=1e-3)
    others = weights_of(log_prob.learner.learner)
    for name, tensor in weights_of(ratio.learner.learner).items():
        torch.testing.assert_close(others[name], tensor, rtol=1e-3, atol=1e-5)


def test_questions_too(inputs: Inputs, tmp_path: Path):
    texts = [json.loads(line)["text"] for line in inputs.train.read_text().splitlines()[:20]]
    examples = [
        QAExample(str(i), text.split()[0], text, (text.split()[3],), (len(" ".join(text.split()[:3])) + 1,), -1)
        for i, text in enumerate(texts)
    ]
    write_squad(examples, tmp_path / "train.json")
    training = new_training(
        inputs,
        data={"task": "qa", "train": str(tmp_path / "train.json"), "test": None},
        finetune={"max_question_length": 4, "stride": 2},
        learner={"reward": "sign"},
        reward={"metric": None},
    )
    records = play(training, 2)
    assert records[0].metric == "index_accuracy"
    assert {"exact_match", "f1", "index_accuracy", "window_accuracy", "loss"} == set(records[1].scores["opponent"])


def test_until_its_replay_has_filled_the_opponent_is_the_random_player(inputs: Inputs):
    training = new_training(inputs, learner={"learning_starts": 45})
    learner, opponent = players_of(training)
    before, held = weights_of(opponent), [len(learner.replay)]
    for _ in range(4):
        record = training.episode()
        plays = "opponent" in record.scores
        assert plays == (held[-1] > 45)
        if not plays:
            assert record.learning["reward_opponent"] == record.learning["reward_random"]
            assert is_same(weights_of(opponent), before)
        assert ("learner_update" in record.learning) == (record.learning["transitions"] >= 45)
        held.append(record.learning["transitions"])
    assert held[1] <= 45 < held[-1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_everything(inputs: Inputs, seed: int):
    first, again = new_training(inputs, run={"seed": seed}), new_training(inputs, run={"seed": seed})
    records = play(first, 2)
    torch.manual_seed(1234)  # the global generator is not asked
    assert without_seconds(records) == without_seconds(play(again, 2))
    for ours, theirs in zip(players_of(first), players_of(again), strict=True):
        assert is_same(weights_of(ours), weights_of(theirs))
    other = new_training(inputs, run={"seed": 2})
    assert not is_same(first.learner.policy, other.learner.policy)
    assert without_seconds(play(other, 2)) != without_seconds(records)


def test_the_learner_and_the_opponent_begin_apart(inputs: Inputs):
    training = new_training(inputs)
    learner, opponent = players_of(training)
    assert not is_same(learner.policy, opponent.policy)
    assert not is_same(learner.value, opponent.value)


@pytest.mark.parametrize("kind", ["sign", "difference"])
@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_players_with_the_same_plan_tie_exactly(inputs: Inputs, kind: str, metric: str):
    """At a rate this high every token that may be masked is: there is one plan only."""
    training = new_training(inputs, masking={"rate": 0.9999999999}, learner={"reward": kind}, reward={"metric": metric})
    for record in play(training, 3):
        assert record.scores["learner"] == record.scores["random"]
        assert record.lm_loss["learner"] == record.lm_loss["random"]
        assert {record.learning[name] for name in ("reward_random", "reward_opponent", "mean_reward")} == {0.0}
        assert record.is_tie
        assert record.learning["stored_share"] == 0.0
        assert record.learning["transitions"] == 0
        assert "learner_update" not in record.learning


def test_players_adapt_under_their_recipes(inputs: Inputs):
    """Steps and learning rate are in the trial; the rate is in the masks."""
    changes: dict[str, Any] = {"adapt": {"epochs": 2}, "meta": {"continual": False}}
    sections = inputs.sections(**changes) | {"policy": {"kind": "linear", "features": ["idf", "digit"]}}
    sections["learner"] = {"factors": ["learning-rate", "steps", "rate"]}
    training = MetaTraining(Session.prepare(Config.model_validate(sections), Silent()))
    proposed = training._propose(0)
    for name, recipe in proposed.recipes.items():
        spec = training._spec(name, proposed)
        assert spec.learning_rate == recipe.learning_rate
        job = inner_episode.PlayerJob(spec, proposed.episode, proposed.blocks, proposed.plans[name], keep=False)
        steps = training.runner.run(training.lm_state, job)[0].adaptation.steps
        assert steps == (4 if recipe.steps_factor is None else round(4 * recipe.steps_factor))
    factors = {recipe.steps_factor for recipe in proposed.recipes.values()}
    assert factors - {None}, "two epochs of two batches, and another number"


def test_players_with_other_plans_do_not_tie(inputs: Inputs):
    for record in play(new_training(inputs), 3):
        assert not record.is_tie
        assert record.learning["reward_random"] != 0


def test_a_lower_loss_is_the_better_score(inputs: Inputs):
    for record in play(new_training(inputs), 3):
        learner, random = record.scores["learner"]["loss"], record.scores["random"]["loss"]
        assert (record.learning["reward_random"] > 0) == (learner < random)
        assert abs(record.learning["reward_random"]) <= 3.0


def test_a_frozen_opponent_becomes_the_learner_that_beats_it(inputs: Inputs):
    """A copy of the learner as it played: of its weights before the update of the episode that it wins."""
    training = new_training(inputs, learner={"self_play": "frozen"})
    learner, opponent = players_of(training)
    outcomes = []
    for _ in range(12):
        that_played, before = weights_of(learner), weights_of(opponent)
        record = training.episode()
        won = record.learning["reward_opponent"] > 0
        assert ("opponent" in record.scores) == (True in outcomes)
        outcomes.append(won)
        expected = that_played if won else before
        assert is_same(opponent.policy.state_dict(), policy_part(expected))
        if won:
            assert not is_same(opponent.policy.state_dict(), learner.policy.state_dict())
        assert opponent.policy is not learner.policy
    assert set(outcomes) == {True, False}


def starts_of(training: MetaTraining, monkeypatch: pytest.MonkeyPatch, episodes: int) -> list[list[bool]]:
    """For each episode: whether each player's inner loop started from the pre-trained LM."""
    original, seen = inner_episode.run_trials, []

    def spy(context: Any, start: Any, *rest: Any) -> Any:
        seen[-1].append(is_same(start, training.pretrained))
        return original(context, start, *rest)

    monkeypatch.setattr(inner_episode, "run_trials", spy)
    for _ in range(episodes):
        seen.append([])
        training.episode()
    return seen


def test_without_continual_adaptation_every_episode_starts_from_the_pretrained_lm(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    training = new_training(inputs, meta={"continual": False})
    assert starts_of(training, monkeypatch, 3) == [[True] * 2, [True] * 3, [True] * 3]


def test_with_continual_adaptation_all_players_start_from_the_learners_last_lm(
    inputs: Inputs, monkeypatch: pytest.MonkeyPatch
):
    training = new_training(inputs)
    assert starts_of(training, monkeypatch, 3) == [[True] * 2, [False] * 3, [False] * 3]


def test_a_reset_brings_the_pretrained_lm_back(inputs: Inputs, monkeypatch: pytest.MonkeyPatch):
    training = new_training(inputs, meta={"reset": True})
    training.next_episode = RESET_EPISODES - 1  # 40 contexts, 8 an episode: the period is its lower bound
    assert starts_of(training, monkeypatch, 3) == [[True] * 2, [True] * 3, [False] * 3]


@pytest.mark.parametrize("continual", [True, False])
def test_states_are_those_of_the_lm_an_episode_starts_from(inputs: Inputs, continual: bool):
    """The learner's replay holds them in float16."""
    training = new_training(inputs, meta={"continual": continual})
    play(training, 1)
    start = {name: tensor.clone() for name, tensor in training.lm_state.items()}
    play(training, 1)
    episode = training.sample(1)
    training.context.model.load_state_dict(start)
    blocks = training.corpus.blocks(episode.block_ids)
    states = encoder_states(training.context.model, blocks)[blocks.is_token]
    torch.testing.assert_close(training.learner.learner.replay.shards[1].states, states.half())


def test_a_record_tells_credit_and_age(inputs: Inputs):
    """Counts add up to the learner's actions, and means to the mean reward; nothing is older than the run."""
    training = new_training(inputs)
    for index, record in enumerate(play(training, 4)):
        actions = {case: counted["actions"] for case, counted in record.learning["credit"].items()}
        stored = {case: counted for case, counted in record.learning["credit"].items() if case != "with_both"}
        n_stored = sum(counted["actions"] for counted in stored.values())
        assert n_stored / sum(actions.values()) == pytest.approx(record.learning["stored_share"])
        mean = sum(counted["actions"] * counted["reward"] for counted in stored.values()) / n_stored
        assert mean == pytest.approx(record.learning["mean_reward"], abs=1e-5)
        if stored.get("with_random"):
            assert stored["with_random"]["reward"] == pytest.approx(record.learning["reward_opponent"])
        if index == 0:
            assert set(actions) <= {"alone", "with_both"}, "until it plays, the opponent is the random player"
        keys = training.learner.learner.replay.transitions_state()["shard"].double()
        if index == 3:
            assert record.learning["replay_age"] == pytest.approx(3 - float(keys.mean()))
        assert "learner_update" in record.learning
        assert 0 <= record.learning["learner_update"]["age"] <= index
    assert 0 < record.learning["replay_age"] < 3


def test_a_record_of_an_empty_replay_has_no_age(inputs: Inputs):
    record = play(new_training(inputs, masking={"rate": 0.9999999999}), 1)[0]
    assert record.learning["transitions"] == 0
    assert "replay_age" not in record.to_json()
    assert set(record.learning["credit"]) == {"with_both"}


def test_a_record_is_plain_json(inputs: Inputs, tmp_path: Path):
    record = play(new_training(inputs), 1)[0].to_json()
    assert json.loads(json.dumps(record)) == record
    assert "opponent_update" not in record
