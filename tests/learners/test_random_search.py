"""Random search, alone and in a run: what it needs of the house is one registry line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nmg.base.progress import Silent
from nmg.base.seeding import StreamName
from nmg.base.types import Episode, TokenBlocks
from nmg.config import Config
from nmg.learners.base import LearnerContext, LearnerState
from nmg.learners.random_search import RandomSearch, RandomSearchSettings
from nmg.meta_training import run as meta_training
from nmg.policies.base import Policy, PolicyConfig
from nmg.policies.registry import load_policy
from support.runs import Inputs, is_same, read_log, resume_run
from support.trials import scored


class Favourite(Policy):
    """Its one weight is the logit of every even position; odd ones have 0."""

    kind = "favourite"
    config = PolicyConfig()
    observation_size = 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def observe(self, blocks: TokenBlocks, encode: Any) -> Tensor:
        return (torch.arange(blocks.input_ids.shape[1]) % 2 == 0).float().expand_as(blocks.input_ids)[:, :, None]

    def logits(self, observation: Tensor, is_token: Tensor, is_maskable: Tensor) -> Tensor:
        return (observation * self.weight).squeeze(2).masked_fill(~is_maskable, -torch.inf)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)

    def check_fits(self, hidden_size: int, vocabulary_size: int) -> None:
        pass


BLOCKS = TokenBlocks(
    block_ids=torch.arange(20),
    context_ids=torch.arange(20),
    input_ids=torch.zeros(20, 30, dtype=torch.int64),
    is_token=torch.ones(20, 30, dtype=torch.bool),
    is_maskable=torch.ones(20, 30, dtype=torch.bool),
    word_index=torch.arange(30).expand(20, 30),
)


def new_search(seed: int = 0, **settings: Any) -> RandomSearch:
    ground = LearnerContext(
        new_policy=Favourite,
        rate=0.2,
        score=lambda outcome: outcome.score("gain"),
        randomness=StreamName(seed),
        device=torch.device("cpu"),
    )
    return RandomSearch(RandomSearchSettings(**settings), ground)


def episode(index: int) -> Episode:
    return Episode(index, np.arange(20), np.arange(0))


def play(search: RandomSearch, episodes: range) -> list[dict[str, Any]]:
    """A player scores the share of even positions among its masks."""
    records = []
    for index in episodes:
        plans = search.propose(episode(index), BLOCKS, None)  # type: ignore[arg-type]
        shares = {name: float((plan.positions % 2 == 0).float().mean()) for name, plan in plans.items()}
        outcomes = {name: scored({"gain": share}) for name, share in shares.items()}
        records.append(search.learn(episode(index), outcomes))
    return records


def weight(search: RandomSearch) -> float:
    return float(search.policy.weight.detach())


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_it_learns_what_scores(seed: int):
    search = new_search(seed)
    assert weight(search) == 0
    play(search, range(8))
    assert weight(search) > 1.5


def test_a_step_is_to_the_mean_of_the_better_half():
    search = new_search(candidates=5, std=0.5)
    candidates = {name: float(weights) for name, weights in search._candidates(episode(0)).items()}
    assert len(set(candidates.values())) == 5
    gains = dict(zip(candidates, [0.1, 0.5, 0.3, 0.2, 0.4], strict=True))
    search.propose(episode(0), BLOCKS, None)  # type: ignore[arg-type]
    assert weight(search) == 0, "proposing leaves the mean as it was"
    record = search.learn(episode(0), {name: scored({"gain": gain}) for name, gain in gains.items()})
    best = [candidates[f"candidate-{n}"] for n in (1, 4, 2)]
    assert weight(search) == pytest.approx(np.mean(best), rel=1e-6)
    assert record == {"best": "candidate-1", "step": pytest.approx(abs(np.mean(best)), rel=1e-6)}


def test_candidates_of_equal_weights_have_equal_masks():
    """They explore by their weights alone: the noise of actions is common."""
    search = new_search(candidates=3, std=1e-9)
    first, *others = search.propose(episode(0), BLOCKS, None).values()  # type: ignore[arg-type]
    assert all(torch.equal(plan.positions, first.positions) for plan in others)


def test_it_goes_on_where_it_was_saved():
    whole, part = new_search(), new_search()
    play(whole, range(4))
    play(part, range(2))
    saved = part.save()
    resumed = new_search()
    resumed.restore(LearnerState({name: {k: v.clone() for k, v in t.items()} for name, t in saved.files.items()}))
    play(resumed, range(2, 4))
    assert weight(resumed) == weight(whole)


def test_a_run_of_random_search_over_a_linear_policy(inputs: Inputs, tmp_path: Path):
    """The whole outer loop: log, checkpoint, resume, and a policy folder to hand out."""
    changes: dict[str, Any] = {
        "learner": {"kind": "random-search", "candidates": 3},
        "policy": {"kind": "linear"},
    }

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
    assert set(line["scores"]) == {"candidate-0", "candidate-1", "candidate-2"}
    assert line["best"] in line["scores"]
    assert line["step"] > 0
    assert is_same(load_policy(tmp_path / "whole"), whole.learner.policy)
