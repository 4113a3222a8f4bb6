"""CMA-ES, alone and in a run: it hands out its mean, and is remade from what it asked and was told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nmg.base.errors import UserError
from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.types import MaskPlan, TokenBlocks
from nmg.config import Config
from nmg.learners.base import LearnerContext, LearnerState
from nmg.learners.evolution import MOST_WEIGHTS, Evolution, EvolutionSettings
from nmg.meta_training import run as meta_training
from nmg.policies.base import Policy, PolicyConfig
from nmg.policies.registry import load_policy
from support.runs import Inputs, is_same, read_log, resume_run
from support.trials import scored

from .test_random_search import BLOCKS, episode


class Remainders(Policy):
    """A weight for each remainder of a position by their number: its logit."""

    kind = "remainders"
    config = PolicyConfig()

    def __init__(self, n_weights: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_weights))

    @property
    def observation_size(self) -> int:
        return len(self.weight)

    def observe(self, blocks: TokenBlocks, encode: Any) -> Tensor:
        remainder = torch.arange(blocks.input_ids.shape[1]) % self.observation_size
        return nn.functional.one_hot(remainder, self.observation_size).float().expand(len(blocks), -1, -1)

    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:
        return (observation @ self.weight).masked_fill(~is_maskable, -torch.inf)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)

    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:
        pass


def new_evolution(seed: int = 0, n_weights: int = 4, **settings: Any) -> Evolution:
    ground = LearnerContext(
        new_policy=lambda: Remainders(n_weights),
        rate=0.2,
        score=lambda outcome: outcome.score("gain"),
        randomness=StreamName(seed),
        device=torch.device("cpu"),
    )
    return Evolution(EvolutionSettings(**settings), ground)


def propose(evolution: Evolution, index: int) -> dict[str, Any]:
    return evolution.propose(episode(index), BLOCKS, None)  # type: ignore[arg-type]


def tell(evolution: Evolution, index: int, gains: list[float]) -> dict[str, Any]:
    outcomes = {f"candidate-{n}": scored({"gain": gain}) for n, gain in enumerate(gains)}
    return evolution.learn(episode(index), outcomes)


def gain(plan: MaskPlan) -> float:
    """The share of positions of remainder 0 among the masks, by 4."""
    return float((plan.positions % 4 == 0).float().mean())


def play(evolution: Evolution, episodes: range) -> list[dict[str, Any]]:
    return [tell(evolution, index, [gain(plan) for plan in propose(evolution, index).values()]) for index in episodes]


def weights(evolution: Evolution) -> np.ndarray:
    return evolution.policy.weight.detach().numpy().copy()


def asked(evolution: Evolution) -> np.ndarray:
    return np.stack(list(evolution._candidates().values()))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_it_learns_what_scores(seed: int):
    evolution = new_evolution(seed)
    assert weights(evolution).tolist() == [0] * 4
    play(evolution, range(12))
    wanted, *others = weights(evolution)
    assert wanted - max(others) > 1.5


@pytest.mark.parametrize(("n_weights", "expected"), [(1, 4), (2, 6), (4, 8), (15, 12)])
def test_as_many_candidates_as_usual_for_that_many_weights(n_weights: int, expected: int):
    evolution = new_evolution(n_weights=n_weights)
    assert evolution.capabilities.max_players == expected == len(propose(evolution, 0))
    assert new_evolution(n_weights=n_weights, candidates=5).capabilities.max_players == 5


def test_the_spread_is_that_of_the_first_candidates():
    records = play(new_evolution(n_weights=15, candidates=40, sigma=0.5), range(1))
    assert records[0]["spread"] == pytest.approx(0.5, rel=0.1)


def test_the_mean_is_handed_out_and_not_the_best_candidate():
    """Of four, the better two weigh ln 2.5 and ln 1.25; the first step is damped by exp(-0.1 · (1 - r / 1.4)).

    r = 0.1 · (0.1 - 1 / 19) / 0.09 is the signal to noise ratio of a single step (arXiv 2304.03473, section 3).
    """
    evolution = new_evolution(candidates=4, sigma=0.5)
    candidates = asked(evolution)
    propose(evolution, 0)
    assert weights(evolution).tolist() == [0] * 4, "proposing leaves the mean as it was"
    record = tell(evolution, 0, [0.1, 0.5, 0.2, 0.4])
    better = (np.log(2.5) * candidates[1] + np.log(1.25) * candidates[3]) / np.log(2.5 * 1.25)
    ratio = 0.1 * (0.1 - 1 / 19) / 0.09
    expected = np.exp(-0.1 * (1 - ratio / 1.4)) * better
    np.testing.assert_allclose(weights(evolution), expected, rtol=1e-5)
    assert record == {
        "best": "candidate-1",
        "step": pytest.approx(np.linalg.norm(expected)),
        "spread": pytest.approx(np.sqrt(np.square(candidates).mean())),
    }


def test_candidates_follow_from_the_seed_and_the_history():
    evolution = new_evolution()
    first = asked(evolution)
    assert np.array_equal(asked(evolution), first)
    assert np.array_equal(asked(new_evolution()), first)
    assert not np.array_equal(asked(new_evolution(seed=1)), first)
    play(evolution, range(1))
    assert not np.array_equal(asked(evolution) - weights(evolution), first)


def test_candidates_of_equal_weights_have_equal_masks():
    """They explore by their weights alone: the noise of actions is common."""
    first, *others = propose(new_evolution(sigma=1e-9), 0).values()
    assert all(torch.equal(plan.positions, first.positions) for plan in others)


def test_an_episode_of_ties_tells_nothing():
    evolution = new_evolution()
    first = asked(evolution)
    assert tell(evolution, 0, [0.3] * 8)["step"] == 0
    assert weights(evolution).tolist() == [0] * 4
    assert not np.array_equal(asked(evolution), first), "the next candidates are others"


@pytest.mark.parametrize(("spread", "ends"), [(1.0, False), (2e4, True)])
def test_it_ends_where_weights_have_no_bounds(spread: float, ends: bool):
    evolution = new_evolution(sigma=spread)
    assert not evolution.is_finished
    play(evolution, range(1))
    assert evolution.is_finished == ends


def test_a_score_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="cannot compare the scores"):
        tell(new_evolution(candidates=4), 0, [0.1, float("nan"), 0.2, 0.3])


def test_it_goes_on_where_it_was_saved():
    """To the bit, from a checkpoint that has been through JSON."""
    whole, part = new_evolution(), new_evolution()
    records = play(whole, range(6))
    play(part, range(2))
    tie = [0.3] * 8  # a generation that is left out is remembered all the same
    saved = part.save()
    for _ in range(2):
        resumed = new_evolution(seed=0)
        files = {name: {key: tensor.clone() for key, tensor in t.items()} for name, t in saved.files.items()}
        resumed.restore(LearnerState(files, json.loads(json.dumps(saved.facts))))
        assert is_same(resumed.policy, part.policy)
        assert np.array_equal(asked(resumed), asked(part))
        saved = resumed.save()
    assert play(resumed, range(2, 6)) == records[2:]
    assert is_same(resumed.policy, whole.policy)
    for one in (whole, resumed):
        tell(one, 6, tie)
    again = new_evolution()
    again.restore(resumed.save())
    assert np.array_equal(asked(again), asked(whole))
    assert play(again, range(7, 9)) == play(whole, range(7, 9))


@pytest.mark.parametrize(("n_weights", "said"), [(0, "no weights"), (MOST_WEIGHTS + 1, "at most 1000 weights")])
def test_a_policy_of_too_many_weights_or_none_is_refused(n_weights: int, said: str):
    with pytest.raises(UserError, match=said):
        new_evolution(n_weights=n_weights)


def test_fewer_than_four_candidates_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 4"):
        EvolutionSettings(candidates=3)


def test_a_run_of_evolution_over_a_linear_policy(inputs: Inputs, tmp_path: Path):
    """The whole outer loop: log, checkpoint, resume, and a policy folder to hand out."""
    changes: dict[str, Any] = {"learner": {"kind": "evolution", "candidates": 4}, "policy": {"kind": "linear"}}

    def start(out: Path, episodes: int) -> meta_training.MetaTraining:
        sections = inputs.sections() | changes
        sections["meta"] = inputs.sections()["meta"] | {"continual": False, "episodes": episodes}
        config = Config.model_validate(sections)
        return meta_training.start(config, out, Silent(), lambda _record, _n: None)

    whole = start(tmp_path / "whole", 3)
    start(tmp_path / "part", 1)
    resumed = resume_run(tmp_path / "part", ["--meta.episodes=3"], Silent(), lambda _record, _n: None)
    assert is_same(whole.learner.policy, resumed.learner.policy)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "part")
    line = read_log(tmp_path / "whole")[-1]
    assert set(line["scores"]) == {f"candidate-{n}" for n in range(4)}
    assert line["best"] in line["scores"]
    assert min(line["step"], line["spread"]) > 0
    assert is_same(load_policy(tmp_path / "whole"), whole.learner.policy)
