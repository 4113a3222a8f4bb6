"""A learning player: its policy, value network, optimizer and replay, and the files that store its state."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nmg.learners.actor_critic.replay import Replay, StateShard
from nmg.learners.actor_critic.settings import ActorCriticSettings
from nmg.learners.actor_critic.update import UpdateStatistics, new_optimiser, update_policy
from nmg.learners.actor_critic.value import ValueNetwork
from nmg.learners.base import LearnerContext, Tensors
from nmg.policies.base import Policy

HIDDEN = 128
"""Number of hidden units of the value network if the policy has no hidden layer."""


@dataclass
class Player:
    """A player that learns from its own replay."""

    name: str
    """`learner` or `opponent`: the prefix of its files and the name of its random streams."""
    settings: ActorCriticSettings
    ground: LearnerContext
    policy: Policy
    value: ValueNetwork
    optimiser: torch.optim.Optimizer
    replay: Replay

    @classmethod
    def create(cls, name: str, settings: ActorCriticSettings, ground: LearnerContext) -> "Player":
        """Create a player with an empty replay and networks initialized from the random stream of its name.

        Args:
            name: Name of the player.
            settings: Settings of the learner.
            ground: The learner's context, which provides the policy, the random streams and the device.

        Returns:
            The new player.
        """
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
        """Update the networks after an episode. Returns None if nothing was updated, e.g. while the replay fills."""
        if len(self.replay) < max(self.settings.learning_starts, 1):
            return None
        rng = (self.ground.randomness / "episode" / episode / "update" / self.name).generator()
        return update_policy(self.policy, self.value, self.optimiser, self.replay, self.settings, episode, rng)

    def to_files(self) -> dict[str, Tensors]:
        """Return the state of the player as file name → tensors, without the states in its replay."""
        return {
            f"{self.name}-policy": self.policy.state_dict(),
            f"{self.name}-value": self.value.state_dict(),
            f"{self.name}-optimiser": _optimiser_tensors(self.optimiser),
            f"{self.name}-replay": self.replay.transitions_state(),
        }

    def restore(self, files: Mapping[str, Tensors], shards: Mapping[int, StateShard]) -> None:
        """Restore what `to_files` saved.

        `shards` maps episode indices to states. Transitions whose states are missing are dropped.
        """
        self.policy.load_state_dict(files[f"{self.name}-policy"])
        self.value.load_state_dict(files[f"{self.name}-value"])
        _restore_optimiser(self.optimiser, files[f"{self.name}-optimiser"])
        self.replay.restore(files[f"{self.name}-replay"], shards)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as a flat dictionary with keys '<parameter index>.<name>'."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Load the state that `_optimiser_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
