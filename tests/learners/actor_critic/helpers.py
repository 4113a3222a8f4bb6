"""Plans, and pairs of networks, for the tests of learning."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from nmg.base.types import NO_POSITION, MaskPlan
from nmg.learners.actor_critic.value import ValueNetwork
from nmg.policies.attention import AttentionPolicy
from support.policies import new_policy, new_value


def plan_of(rows: Sequence[Sequence[int]], log_prob: Tensor | None = None) -> MaskPlan:
    """A plan with these positions."""
    width = max((len(row) for row in rows), default=0)
    padded = [[*row, *[NO_POSITION] * (width - len(row))] for row in rows]
    positions = torch.tensor(padded, dtype=torch.int64).reshape(len(rows), width)
    return MaskPlan(positions, torch.tensor([len(row) for row in rows]), log_prob=log_prob)


class Networks(NamedTuple):
    policy: AttentionPolicy
    value: ValueNetwork

    @classmethod
    def new(cls, hidden_size: int = 8, spread: float = 0.3) -> "Networks":
        return cls(new_policy(0, hidden_size, spread), new_value(1, hidden_size, spread=spread))

    def parameters(self) -> list[Parameter]:
        return [*self.policy.parameters(), *self.value.parameters()]

    def copy(self) -> "Networks":
        return deepcopy(self)
