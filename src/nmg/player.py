"""A learning player: policy, optimiser and replay, and how they are saved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nmg.checkpoint import optimiser_tensors, restore_optimiser
from nmg.config import Config
from nmg.inner.lm import PretrainedLM
from nmg.inner.runtime import Runtime
from nmg.rl.network import MaskPolicy, MaskPolicyConfig
from nmg.rl.replay import Replay, StateShard
from nmg.rl.update import UpdateStatistics, new_optimiser, update_policy
from nmg.seeding import StreamName


@dataclass
class Player:
    name: str
    policy: MaskPolicy
    optimiser: torch.optim.Optimizer
    replay: Replay

    @classmethod
    def create(cls, name: str, lm: PretrainedLM, config: Config, runtime: Runtime) -> "Player":
        """A policy drawn from the stream of the player's name, with an empty replay."""
        architecture = MaskPolicyConfig(
            hidden_size=lm.hidden_size,
            num_attention_heads=lm.model.config.num_attention_heads,
            head_hidden=config.policy.hidden,
            base_model=lm.name,
            masking_rate=config.masking.rate,
        )
        with (StreamName(config.run.seed) / "policy" / name).torch():
            policy = MaskPolicy(architecture)
        policy = policy.to(runtime.device)
        replay = Replay(config.replay.capacity, config.replay.max_states)
        return cls(name, policy, new_optimiser(policy, config.policy), replay)

    def learn(self, config: Config, episode: int, rng: np.random.Generator) -> UpdateStatistics | None:
        return update_policy(
            self.policy, self.optimiser, self.replay, config.policy, config.replay.weighting, episode, rng
        )

    def to_files(self) -> dict[str, Mapping[str, Tensor]]:
        """Everything but the states: name of a file → its tensors."""
        return {
            f"{self.name}-policy": self.policy.state_dict(),
            f"{self.name}-optimiser": optimiser_tensors(self.optimiser),
            f"{self.name}-replay": self.replay.transitions_state(),
        }

    def restore(self, files: Mapping[str, Mapping[str, Tensor]], shard: Callable[[int], StateShard]) -> None:
        """Become what `to_files` saved; `shard(key)` gives the states of an episode."""
        self.policy.load_state_dict(files[f"{self.name}-policy"])
        restore_optimiser(self.optimiser, files[f"{self.name}-optimiser"])
        self.replay.restore(files[f"{self.name}-replay"], shard)
