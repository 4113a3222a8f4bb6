"""The loss against slow versions and finite differences."""

import math

import pytest
import torch
from torch import Tensor

from nmg.learners.actor_critic.losses import entropy, policy_loss, total_loss, value_loss
from nmg.learners.actor_critic.replay import TransitionBatch
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.policies.base import log_probabilities

IS_MASKABLE = torch.tensor([[False, True, True, True, False], [False, True, True, False, False], [False] * 5])


def _numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _logits(seed: int = 0) -> Tensor:
    return _numbers(3, 5, seed=seed).masked_fill(~IS_MASKABLE, -torch.inf)


def _slow_entropy(logits: Tensor) -> float:
    total = 0.0
    for row, flags in zip(logits.tolist(), IS_MASKABLE.tolist(), strict=True):
        weights = [math.exp(x) for x, flag in zip(row, flags, strict=True) if flag]
        terms = [-(w / sum(weights)) * math.log(w / sum(weights)) for w in weights]
        total += sum(terms) / len(terms) if terms else 0.0
    return total


def test_the_policy_loss_is_that_of_the_slow_version() -> None:
    new, old, advantage = _numbers(7), _numbers(7, seed=1), _numbers(7, seed=2)
    ratios = [math.exp(n - o) for n, o in zip(new.tolist(), old.tolist(), strict=True)]
    with_ratio, statistics = policy_loss(new, old, advantage, importance_ratio=True)
    rows = list(zip(advantage.tolist(), ratios, new.tolist(), strict=True))
    assert float(with_ratio) == pytest.approx(-sum(a * r for a, r, _ in rows) / 7)
    without, _ = policy_loss(new, old, advantage, importance_ratio=False)
    assert float(without) == pytest.approx(-sum(a * r * n for a, r, n in rows) / 7)
    assert float(statistics["ratio_mean"]) == pytest.approx(sum(ratios) / 7)
    assert float(statistics["ratio_max"]) == pytest.approx(max(ratios))


def test_the_ratio_is_not_clipped() -> None:
    loss, _ = policy_loss(torch.tensor([0.0]), torch.tensor([-5.0]), torch.tensor([1.0]), importance_ratio=True)
    assert float(loss) == pytest.approx(-math.exp(5.0))


def test_the_clipped_ratio_by_hand() -> None:
    """c = 0.2: of a good action the gain ends at 1.2, of a bad one the loss at 0.8; PPO keeps the worse of the two."""
    ratio, advantage = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1]), torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    new = ratio.log().requires_grad_()
    loss, statistics = policy_loss(new, torch.zeros(5), advantage, importance_ratio=True, clip_range=0.2)
    assert loss.item() == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8 + 2.2) / 5)
    (gradient,) = torch.autograd.grad(loss, new)
    torch.testing.assert_close(gradient, -torch.tensor([0.0, 0.5, -1.5, 0.0, 2.2]) / 5)
    assert float(statistics["ratio_max"]) == pytest.approx(1.5), "told as it is before it is clipped"


def test_only_the_new_log_probability_gets_a_gradient() -> None:
    new, old, advantage = (_numbers(4, seed=seed).requires_grad_() for seed in range(3))
    for importance_ratio in (True, False):
        loss, _ = policy_loss(new, old, advantage, importance_ratio)
        gradient, *others = torch.autograd.grad(loss, [new, old, advantage], allow_unused=True)
        assert others == [None, None]
        torch.testing.assert_close(gradient, (-advantage * (new - old).exp() / 4).detach())


def test_the_value_loss() -> None:
    assert float(value_loss(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 1.0]))) == pytest.approx((0.25 + 4.0) / 2)


def test_entropy_is_that_of_the_slow_version_with_a_zero_logit_and_a_row_of_special_tokens() -> None:
    logits = _logits()
    logits[0, 2] = 0.0
    assert float(entropy(log_probabilities(logits, IS_MASKABLE), IS_MASKABLE)) == pytest.approx(_slow_entropy(logits))


def test_entropy_of_special_tokens_alone_is_zero_and_has_no_nan_gradient() -> None:
    logits = _numbers(3, 5).requires_grad_()
    nothing = torch.zeros(3, 5, dtype=torch.bool)
    log_prob = log_probabilities(logits, nothing)
    found = entropy(log_prob, nothing)
    assert found.item() == 0.0
    for gradient in torch.autograd.grad(found, [log_prob, logits]):
        assert torch.equal(gradient, torch.zeros(3, 5, dtype=torch.float64))


def test_entropy_of_a_certain_policy_is_zero_and_has_no_nan_gradient() -> None:
    logits = torch.tensor([[0.0, 1e4, 0.0, -1e4, 0.0]]).requires_grad_()
    found = entropy(log_probabilities(logits, IS_MASKABLE[:1]), IS_MASKABLE[:1])
    (gradient,) = torch.autograd.grad(found, logits)
    assert found.item() == 0.0
    assert gradient.isfinite().all()


def test_entropy_gradient_is_that_of_finite_differences() -> None:
    free = _numbers(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: entropy(log_probabilities(x, IS_MASKABLE), IS_MASKABLE), free)


def _batch() -> TransitionBatch:
    return TransitionBatch(
        states=torch.zeros(2, 5, 1),
        is_token=torch.ones(2, 5, dtype=torch.bool),
        is_maskable=IS_MASKABLE[:2],
        state_index=torch.tensor([0, 1, 0]),
        position=torch.tensor([1, 2, 3]),
        log_prob=torch.tensor([-1.0, -0.5, -2.0], dtype=torch.float64),
        reward=torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64),
        value=torch.zeros(3, dtype=torch.float64),
    )


def _total(logits: Tensor, value: Tensor, settings: ActorCriticSettings) -> tuple[Tensor, dict[str, Tensor]]:
    """The total loss of logits [2, 5] and values [2] of two blocks with three transitions."""
    batch = _batch()
    log_prob = log_probabilities(logits, batch.is_maskable)[batch.state_index]
    return total_loss(log_prob, value[batch.state_index], batch, settings)


@pytest.mark.parametrize("objective", ["actor-critic", "policy-gradient"])
def test_the_total_loss_is_that_of_the_slow_version(objective: str) -> None:
    settings = ActorCriticSettings(objective=objective)
    logits, value = _logits()[:2], torch.tensor([0.3, -0.2], dtype=torch.float64)
    loss, statistics = _total(logits, value, settings)
    old, rewards, expected = [-1.0, -0.5, -2.0], [1.0, -1.0, 0.0], 0.0
    for n, (block, position) in enumerate([(0, 1), (1, 2), (0, 3)]):
        weights = logits[block].exp()
        new = math.log(float(weights[position] / weights.sum()))
        advantage = rewards[n]
        if objective == "actor-critic":
            advantage -= float(value[block])
            expected += 0.25 * (rewards[n] - float(value[block])) ** 2 / 3
        expected -= advantage * math.exp(new - old[n]) / 3
    padded = torch.stack([logits[0], logits[1], logits[0]])
    spread = sum(_slow_row_entropy(row) for row in padded)
    assert float(loss) == pytest.approx(expected - 0.01 * spread)
    assert float(statistics["entropy"]) == pytest.approx(spread)
    assert float(statistics["entropy_per_row"]) == pytest.approx(spread / 3)
    assert float(statistics["reward"]) == pytest.approx(0.0)


def _slow_row_entropy(row: Tensor) -> float:
    finite = row[row.isfinite()]
    probabilities = finite.exp() / finite.exp().sum()
    return float(-(probabilities * probabilities.log()).mean())


def test_the_total_loss_clips_where_it_is_told_to() -> None:
    logits, value = _logits()[:2], torch.tensor([2.0, -2.0], dtype=torch.float64)
    log_prob, batch = log_probabilities(logits, IS_MASKABLE[:2]), _batch()
    new = torch.stack([log_prob[0, 1], log_prob[1, 2], log_prob[0, 3]])
    advantage = torch.tensor([1.0 - 2.0, -1.0 + 2.0, 0.0 - 2.0], dtype=torch.float64)
    of_policy = [float(policy_loss(new, batch.log_prob, advantage, True, clip)[0]) for clip in (None, 0.01)]
    whole = [float(_total(logits, value, ActorCriticSettings(clip_range=clip))[0]) for clip in (None, 0.01)]
    assert whole[1] - whole[0] == pytest.approx(of_policy[1] - of_policy[0])
    assert whole[1] - whole[0] > 0.01


def test_a_ratio_can_be_clipped_only_where_there_is_one() -> None:
    with pytest.raises(ValueError, match="clip_range: there is no ratio to clip"):
        ActorCriticSettings(clip_range=0.2, importance_ratio=False)


@pytest.mark.parametrize("objective", ["actor-critic", "policy-gradient"])
def test_the_gradient_of_the_total_loss(objective: str) -> None:
    """Finite differences of the logits; by hand for the values, through which no gradient of the advantage goes."""
    settings = ActorCriticSettings(objective=objective, entropy_coef=0.3)
    logits, value = _numbers(2, 5).requires_grad_(), torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: _total(x, value.detach(), settings)[0], logits)
    (gradient,) = torch.autograd.grad(
        _total(logits, value, settings)[0], value, allow_unused=True, materialize_grads=True
    )
    residual = torch.tensor([(0.3 - 1.0) + (0.3 - 0.0), -0.2 + 1.0], dtype=torch.float64)
    weight = 0.25 if objective == "actor-critic" else 0.0
    torch.testing.assert_close(gradient, weight * 2 * residual / 3)
