"""Masking by a policy: exact budgets, draws, log-probabilities."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from nmg.base.types import MaskPlan, TokenBlocks
from nmg.policies import base
from nmg.policies.attention import AttentionPolicy
from nmg.policies.base import predict
from nmg.policies.sampling import PolicyMasking, draw_plan, over_words, plan_greedily, policy_output
from support.policies import blocks_of, new_policy

BLOCKS = blocks_of([[5, 6, 7, 8, 9, 10], [9, 10], [], [5, 6, 7, 8]])
STATES = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))


class FixedStates:
    """A language model that has these states."""

    def __init__(self, states: torch.Tensor) -> None:
        self.states = states

    def __call__(self, blocks: TokenBlocks) -> torch.Tensor:
        return self.states

    def surprise(self, blocks: TokenBlocks) -> torch.Tensor:
        raise NotImplementedError


def _logits(policy: AttentionPolicy) -> torch.Tensor:
    with torch.no_grad():
        return policy.logits(STATES, BLOCKS.is_token, BLOCKS.is_maskable)


def _plan(policy: AttentionPolicy, *, greedy: bool, seed: int = 0) -> MaskPlan:
    return PolicyMasking(policy, greedy=greedy).plan(BLOCKS, 0.5, np.random.default_rng(seed), FixedStates(STATES))


@pytest.mark.parametrize("greedy", [True, False])
def test_a_plan_fills_its_budget_with_distinct_maskable_positions(greedy: bool) -> None:
    plan = _plan(new_policy(), greedy=greedy)
    assert plan.budget.tolist() == [3, 1, 0, 2]
    for b, k in enumerate((3, 1, 0, 2)):
        row = plan.positions[b].tolist()
        assert len(set(row[:k])) == k
        assert row[k:] == [-1] * (3 - k)
        assert BLOCKS.is_maskable[b, row[:k]].all()


@pytest.mark.parametrize("greedy", [True, False])
def test_log_probabilities_belong_to_their_positions(greedy: bool) -> None:
    policy = new_policy()
    plan = _plan(policy, greedy=greedy, seed=3)
    assert plan.log_prob is not None
    for b, row in enumerate(_logits(policy)):
        for position, log_prob in zip(plan.positions[b].tolist(), plan.log_prob[b].tolist(), strict=True):
            expected = float(row[position] - row[BLOCKS.is_maskable[b]].logsumexp(0)) if position >= 0 else 0.0
            assert log_prob == pytest.approx(expected, abs=1e-6)
    assert plan.log_prob.dtype == torch.float32
    assert not plan.log_prob.requires_grad


def test_greedy_takes_the_best_and_needs_no_noise() -> None:
    policy = new_policy()
    plan = _plan(policy, greedy=True)
    for b, row in enumerate(_logits(policy)):
        k = int(plan.budget[b])
        assert plan.positions[b, :k].tolist() == sorted(row.topk(k).indices.tolist())
    assert torch.equal(plan.positions, _plan(policy, greedy=True, seed=1).positions)


def _inclusion(weights: list[float], k: int) -> list[float]:
    """Probability of each index to be among k draws, one after the other from what is left: every order, summed."""
    total = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), k):
        probability, left = 1.0, sum(weights)
        for index in order:
            probability *= weights[index] / left
            left -= weights[index]
        for index in order:
            total[index] += probability
    return total


def test_draws_are_those_of_the_slow_sequential_version() -> None:
    policy, repeats = new_policy(), 5_000
    rows = torch.arange(4).repeat(repeats)
    many = TokenBlocks(**{name: column[rows] for name, column in vars(BLOCKS).items()})
    plan = draw_plan(predict(policy, STATES[rows], many), many, 0.5, np.random.default_rng(0))
    frequency = plan.is_masked(8).reshape(repeats, 4, 8).float().mean(dim=0)
    bound = 4 * np.sqrt(0.25 / repeats)
    for b, logits in enumerate(_logits(policy)):
        is_maskable = BLOCKS.is_maskable[b]
        expected = _inclusion(logits[is_maskable].double().exp().tolist(), (3, 1, 0, 2)[b])
        np.testing.assert_allclose(frequency[b, is_maskable], expected, atol=bound)
    is_uncertain = (frequency > 5 * bound) & (frequency < 1 - 5 * bound)
    assert is_uncertain.sum() >= 6, "the policy is far from greedy"
    assert frequency[0, 1:7].max() - frequency[0, 1:7].min() > 10 * bound, "the policy is far from uniform"


def test_the_same_stream_gives_the_same_plan_and_another_one_another() -> None:
    plans = [_plan(new_policy(), greedy=False, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(plans[0].positions, plans[1].positions)
    assert not torch.equal(plans[0].positions, plans[2].positions)


@pytest.mark.parametrize("greedy", [True, False])
def test_plan_asks_the_encoder(greedy: bool) -> None:
    policy = new_policy()
    masking, encode = PolicyMasking(policy, greedy=greedy), FixedStates(STATES)
    assert masking.name == "learned"
    assert masking.reads_states
    plan = masking.plan(BLOCKS, 0.5, np.random.default_rng(0), encode=encode)
    logits, rng = predict(policy, STATES, BLOCKS), np.random.default_rng(0)
    direct = plan_greedily(logits, BLOCKS, 0.5) if greedy else draw_plan(logits, BLOCKS, 0.5, rng)
    assert torch.equal(plan.positions, direct.positions)
    with pytest.raises(ValueError, match="encode"):
        masking.plan(BLOCKS, 0.5, np.random.default_rng(0))


def test_blocks_are_planned_alike_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = new_policy()
    whole = _plan(policy, greedy=False)
    monkeypatch.setattr(base, "CHUNK", 3)
    chunked = _plan(policy, greedy=False)
    assert torch.equal(whole.positions, chunked.positions)
    torch.testing.assert_close(whole.log_prob, chunked.log_prob)


def test_blocks_of_special_tokens_alone() -> None:
    masking, encode = PolicyMasking(new_policy(), greedy=False), FixedStates(torch.randn(2, 2, 8))
    plan = masking.plan(blocks_of([[], []]), 0.5, np.random.default_rng(0), encode)
    assert plan.positions.shape == (2, 0)


def test_a_read_out_is_what_the_policy_gives_and_takes() -> None:
    policy = new_policy()
    found = policy_output(policy, BLOCKS, FixedStates(STATES), 0.5)
    torch.testing.assert_close(found.logits, _logits(policy))
    expected = [[0.0] * 8 for _ in range(4)]
    for b, row in enumerate(_logits(policy)):
        weights = row[BLOCKS.is_maskable[b]].double().exp()
        for position, weight in zip(BLOCKS.is_maskable[b].nonzero().squeeze(1).tolist(), weights, strict=True):
            expected[b][position] = float(weight / weights.sum())
    assert found.probability.dtype == torch.float64
    torch.testing.assert_close(found.probability, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(found.taken.positions, _plan(policy, greedy=True).positions)


def _in_words(*words: int) -> TokenBlocks:
    """One block of words of so many pieces."""
    blocks = blocks_of([list(range(5, 5 + sum(words)))])
    index = torch.full_like(blocks.input_ids, -1)
    index[0, 1:-1] = torch.arange(len(words)).repeat_interleave(torch.tensor(words))
    return replace(blocks, word_index=index)


def test_words_are_taken_whole_by_the_mean_of_their_logits() -> None:
    blocks = _in_words(2, 1, 3)
    logits = torch.tensor([[-torch.inf, 5.0, 1.0, 2.9, 0.0, 9.0, 0.0, -torch.inf]])
    assert over_words(logits, blocks)[0, 1:-1].tolist() == [3.0, 3.0, pytest.approx(2.9), 3.0, 3.0, 3.0]
    # Of two words of mean 3 the first; the second does not fit into what remains of a budget of three.
    assert plan_greedily(logits, blocks, 0.5, "word").positions.tolist() == [[1, 2, 3]]
    assert plan_greedily(logits, blocks, 0.5).positions.tolist() == [[1, 3, 5]]


def test_words_are_drawn_by_the_softmax_of_their_means() -> None:
    blocks, repeats = _in_words(2, 2, 2), 20_000
    many = TokenBlocks(**{name: column[[0] * repeats] for name, column in vars(blocks).items()})
    logits = torch.tensor([[0.0, 2.0, 0.0, -1.0, 1.0, 0.5, 0.5, 0.0]])
    plan = draw_plan(logits.expand(repeats, -1), many, 0.34, np.random.default_rng(0), "word")
    assert (plan.positions[:, 0] % 2 == 1).all(), "words begin at odd positions"
    assert (plan.positions[:, 1] == plan.positions[:, 0] + 1).all()
    share = np.bincount(plan.positions[:, 0].numpy() // 2, minlength=3) / repeats
    expected = np.exp([1.0, 0.0, 0.5]) / np.exp([1.0, 0.0, 0.5]).sum()
    np.testing.assert_allclose(share, expected, atol=4 * 0.5 / np.sqrt(repeats))


def test_a_read_out_of_words() -> None:
    blocks = _in_words(2, 1, 3)
    policy = new_policy(unit="word")
    states = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(1))
    found = policy_output(policy, blocks, FixedStates(states), 0.5)
    means = [float(found.logits[0, part].mean()) for part in (slice(1, 3), slice(3, 4), slice(4, 7))]
    of_words = np.exp(means) / np.exp(means).sum()
    expected = [0.0, *np.repeat(of_words, (2, 1, 3)), 0.0]
    np.testing.assert_allclose(found.probability[0], expected, rtol=1e-6)
    greedy = PolicyMasking(policy, greedy=True).plan(blocks, 0.5, np.random.default_rng(0), FixedStates(states))
    assert torch.equal(found.taken.positions, greedy.positions)
    assert torch.equal(greedy.positions, plan_greedily(found.logits, blocks, 0.5, "word").positions)
