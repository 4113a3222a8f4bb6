"""A learning player: policy, value network, optimiser and replay, and how they are saved."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nmg.learners.actor_critic.replay import Replay, StateShard
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.actor_critic.update import UpdateStatistics, new_optimiser, update_policy
from nmg.learners.actor_critic.value import ValueNetwork
from nmg.learners.base import Ground, Tensors
from nmg.policies.base import Policy

HIDDEN = 128
"""units of a value network beside a policy that has no hidden layer"""


@dataclass
class Player:
    name: str
    settings: ActorCriticSettings
    ground: Ground
    policy: Policy
    value: ValueNetwork
    optimiser: torch.optim.Optimizer
    replay: Replay

    @classmethod
    def create(cls, name: str, settings: ActorCriticSettings, ground: Ground) -> "Player":
        """Networks drawn from the stream of the player's name, with an empty replay."""
        with (ground.randomness / "policy" / name).torch():
            policy = ground.new_policy()
            n_hidden = settings.value_hidden or int(getattr(policy.config, "head_hidden", HIDDEN))
            value = ValueNetwork(policy.observation_size, n_hidden)
            policy.reset_parameters()
            value.reset_parameters()
        policy.to(ground.device)
        value.to(ground.device)
        replay = Replay(settings.replay_capacity, settings.replay_max_states)
        return cls(name, settings, ground, policy, value, new_optimiser(policy, value, settings), replay)

    def learn(self, episode: int) -> UpdateStatistics | None:
        """Update the policy; None until the replay holds enough."""
        if len(self.replay) < max(self.settings.replay_start, 1):
            return None
        rng = (self.ground.randomness / "episode" / episode / "update" / self.name).generator()
        return update_policy(self.policy, self.value, self.optimiser, self.replay, self.settings, episode, rng)

    def to_files(self) -> dict[str, Tensors]:
        """Everything but the states: name of a file → its tensors."""
        return {
            f"{self.name}-policy": self.policy.state_dict(),
            f"{self.name}-value": self.value.state_dict(),
            f"{self.name}-optimiser": _optimiser_tensors(self.optimiser),
            f"{self.name}-replay": self.replay.transitions_state(),
        }

    def restore(self, files: Mapping[str, Tensors], shards: Mapping[int, StateShard]) -> None:
        """Become what `to_files` saved; `shards`: the states of each episode, but for those that are lost."""
        self.policy.load_state_dict(files[f"{self.name}-policy"])
        self.value.load_state_dict(files[f"{self.name}-value"])
        _restore_optimiser(self.optimiser, files[f"{self.name}-optimiser"])
        self.replay.restore(files[f"{self.name}-replay"], shards)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors: '<parameter index>.<name>'."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
