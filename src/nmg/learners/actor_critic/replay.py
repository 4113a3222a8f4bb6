"""Replay buffer: a first-in-first-out memory of transitions with prioritized sampling.

A transition is one chosen position: (state, position, log-probability, reward, value). States take by far the most
memory, and all transitions of a block share one state, even across both players. The states of an episode are therefore
stored once, in an immutable `StateShard`, and a transition refers to a row of it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nmg.base.types import FloatArray, IntArray, MaskPlan, TokenBlocks

Weighting: TypeAlias = Literal["advantage", "reward", "value", "reward-advantage", "value-advantage", "uniform"]
"""Sampling priority, as in `ActorCriticSettings.replay_weighting`; `Replay.log_weights` defines the values."""

TransitionArray: TypeAlias = npt.NDArray[np.void]

_TRANSITION = np.dtype(
    [
        ("shard", np.int64),
        ("row", np.int32),
        ("position", np.int32),
        ("token_count", np.int32),
        ("log_prob", np.float32),
        ("reward", np.float32),
        ("value", np.float32),
    ]
)
_FIELDS = tuple(_TRANSITION.names or ())


@dataclass(frozen=True)
class StateShard:
    """Hidden states of the blocks of one episode, without padding: n_1 + ... + n_B tokens.

    States are stored as float16. Last hidden states are outputs of a LayerNorm and are small (below 7 for MiniLM). The
    wider range of bfloat16 would increase the rounding error eightfold: for MiniLM, from 2e-4 to 1.7e-3 standard
    deviations.
    """

    states: Tensor
    """float16 [n_1 + ... + n_B, H]: hidden states of the tokens."""
    offsets: Tensor
    """int64 [B + 1]: block b has the tokens offsets[b] up to, but not including, offsets[b + 1]."""
    is_maskable: Tensor
    """bool [n_1 + ... + n_B]: True for tokens that may be masked."""

    @classmethod
    def pack(cls, states: Tensor, blocks: TokenBlocks) -> "StateShard":
        """Pack the states [B, T, H] of the blocks without padding.

        Raises ValueError if a state is not finite in float16.
        """
        is_token = blocks.is_token.to(states.device)
        packed = states[is_token].to("cpu", torch.float16)
        if not packed.isfinite().all():
            raise ValueError("hidden states are not finite in float16")
        ends = blocks.is_token.sum(dim=1).cumsum(dim=0).cpu()
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
        return cls(packed, offsets, blocks.is_maskable[blocks.is_token].cpu())

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.to_tensors().values())

    def block(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the states, float16 [n, H], and `is_maskable`, bool [n], of the block `row`."""
        tokens = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.states[tokens], self.is_maskable[tokens]

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the fields by name."""
        return {"states": self.states, "offsets": self.offsets, "is_maskable": self.is_maskable}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "StateShard":
        """Return the shard that `to_tensors` saved."""
        return cls(tensors["states"], tensors["offsets"], tensors["is_maskable"])


@dataclass(frozen=True)
class TransitionBatch:
    """A batch of N transitions from S <= N distinct blocks."""

    states: Tensor
    """[S, T, H], zero at padding: float16 when returned by the replay, float32 after `to`."""
    is_token: Tensor
    """bool [S, T]: False at padding."""
    is_maskable: Tensor
    """bool [S, T]: True for tokens that may be masked."""
    state_index: Tensor
    """int64 [N]: index in 0..S-1 of the block of each transition."""
    position: Tensor
    """int64 [N]: chosen position in the block."""
    log_prob: Tensor
    """float32 [N]: log-probability of the action when it was taken."""
    reward: Tensor
    """float32 [N]: reward of the action."""
    value: Tensor
    """float32 [N]: estimated value of the block when the transition was stored or last sampled."""

    def to(self, device: torch.device) -> "TransitionBatch":
        """Return the batch on `device`, with states in float32.

        States are transferred as float16, which halves the traffic and loses no precision.
        """
        sent = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return TransitionBatch(**sent | {"states": sent["states"].float()})


class Replay:
    """Stores the newest `capacity` transitions and the states that they refer to.

    Args:
        capacity: Maximum number of transitions.
        max_states: Maximum number of blocks whose states are stored. Above this limit, the oldest shards are dropped
            with their transitions. The newest shard is always kept.
    """

    def __init__(self, capacity: int, max_states: int) -> None:
        self.capacity = capacity
        self.max_states = max_states
        # Oldest first. Indices stay contiguous at the cost of one copy per episode (1.6 MB for 50 000 transitions).
        self._table: TransitionArray = np.empty(0, dtype=_TRANSITION)
        self._shards: dict[int, StateShard] = {}

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self._table)

    @property
    def n_states(self) -> int:
        """Number of blocks whose states are stored."""
        return sum(len(shard) for shard in self._shards.values())

    @property
    def nbytes(self) -> int:
        """Size of transitions and states in bytes. A shard shared by two replays counts in both."""
        return self._table.nbytes + sum(shard.nbytes for shard in self._shards.values())

    @property
    def shards(self) -> Mapping[int, StateShard]:
        """Key → shard for all shards in use, oldest first. Shards are immutable, so each must be saved only once."""
        return MappingProxyType(self._shards)

    def add(
        self,
        key: int,
        shard: StateShard,
        plan: MaskPlan,
        values: Tensor,
        reward: Tensor,
        is_stored: Tensor,
        token_count: Tensor,
    ) -> None:
        """Append the actions of a plan for which `is_stored` is True, block by block.

        Args:
            key: Key of the shard, e.g. the episode's index. Keys must not decrease between calls.
            shard: States of the plan's blocks. Another replay may share them.
            plan: The plan, with `log_prob`.
            values: float32 [B], value estimates of the blocks.
            reward: float [B, K], rewards of the actions, as from `reward.credit`.
            is_stored: bool [B, K], True for actions to store, as from `reward.credit`.
            token_count: int [B, K], number of occurrences of the token in its block.

        Raises:
            ValueError: If the plan has no log-probabilities, the shard has a different number of blocks, the key
                decreases, or the key belongs to another shard.
        """
        if plan.log_prob is None:
            raise ValueError("a plan without log-probabilities cannot be stored")
        if len(shard) != len(plan.positions):
            raise ValueError(f"a shard of {len(shard)} blocks does not fit a plan of {len(plan.positions)}")
        newest = max(self._shards, default=key)
        if key < newest or self._shards.get(key, shard) is not shard:
            raise ValueError(f"shard {key} comes after shard {newest}, or another shard has this key")
        rows, columns = is_stored.nonzero(as_tuple=True)
        if len(rows) == 0:
            return
        added = np.empty(len(rows), dtype=_TRANSITION)
        added["shard"] = key
        added["row"] = rows
        added["position"] = plan.positions[rows, columns]
        added["token_count"] = token_count[rows, columns]
        added["log_prob"] = plan.log_prob[rows, columns]
        added["reward"] = reward[rows, columns]
        added["value"] = values[rows]
        self._table = np.concatenate([self._table, added])
        self._shards[key] = shard
        self._keep_limits()

    def _shard_keys(self) -> list[int]:
        """Return the keys of the shards that transitions refer to, in ascending order."""
        keys: list[int] = np.unique(self._table["shard"]).tolist()
        return keys

    def _keep_limits(self) -> None:
        """Drop the oldest transitions above the limits and the shards that are no longer used."""
        self._table = self._table[-self.capacity :]
        self._shards = {key: self._shards[key] for key in self._shard_keys()}
        while len(self._shards) > 1 and self.n_states > self.max_states:
            oldest = next(iter(self._shards))
            del self._shards[oldest]
            self._table = self._table[self._table["shard"] != oldest]

    def sample(self, n: int, rng: np.random.Generator, weighting: Weighting) -> IntArray:
        """Sample transitions without replacement, with probabilities proportional to exp(`log_weights`).

        Adding Gumbel noise and selecting the n largest keys is equivalent to n sequential draws (Efraimidis & Spirakis
        2006; Gumbel top-k: arXiv 1903.06059).

        Args:
            n: Number of transitions. If the replay holds fewer, all of them are returned.
            rng: Generator of the noise.
            weighting: The sampling priority.

        Returns:
            int64 [min(n, len)], distinct indices in the order of the draws. They are valid until the next `add`.
        """
        keys = self.log_weights(weighting) + rng.gumbel(size=len(self))
        best = np.argpartition(-keys, n - 1)[:n] if n < len(self) else np.arange(len(self))
        order: IntArray = best[np.argsort(-keys[best])].astype(np.int64)
        return order

    def log_weights(self, weighting: Weighting) -> FloatArray:
        """Return the log of the unnormalized probability of each transition to be drawn first, float64 [len].

            priority · 1 / √token_count        (uniform: 1)

        The priority is exp|r - V| (advantage), exp r (reward) or exp V (value). For reward-advantage and
        value-advantage it is the sum of two of these, each divided by its sum over the replay.
        """
        if weighting == "uniform":
            return np.zeros(len(self))
        reward = self._table["reward"].astype(np.float64)
        value = self._table["value"].astype(np.float64)
        of = {"advantage": np.abs(reward - value), "reward": reward, "value": value}
        first, *rest = (of[name] for name in weighting.split("-"))
        priority = np.logaddexp(_normalised(first), _normalised(rest[0])) if rest else first
        log_weights: FloatArray = priority - 0.5 * np.log(self._table["token_count"])
        return log_weights

    def batch(self, indices: IntArray) -> TransitionBatch:
        """Return the transitions at `indices`, int64 [N], in the same order, on the CPU, with states in float16."""
        drawn = self._table[indices]
        places, state_index = np.unique(drawn[["shard", "row"]], return_inverse=True)
        blocks = [self._shards[key].block(row) for key, row in places.tolist()]
        is_maskable = [flags for _, flags in blocks]
        return TransitionBatch(
            states=pad_sequence([states for states, _ in blocks], batch_first=True),
            is_token=pad_sequence([torch.ones_like(flags) for flags in is_maskable], batch_first=True),
            is_maskable=pad_sequence(is_maskable, batch_first=True),
            state_index=torch.from_numpy(state_index),
            position=_column(drawn, "position").long(),
            log_prob=_column(drawn, "log_prob"),
            reward=_column(drawn, "reward"),
            value=_column(drawn, "value"),
        )

    def mean_age(self, now: int, indices: IntArray | None = None) -> float:
        """Return the mean age of the transitions at `indices`, or of all: `now` minus the key of their shard.

        If keys are episode indices, the age is in episodes, and transitions of episode `now` have age 0. Returns NaN if
        there are no transitions.
        """
        keys = self._table["shard"] if indices is None else self._table["shard"][indices]
        return float(now - keys.mean()) if len(keys) else math.nan

    def refresh(self, indices: IntArray, values: Tensor) -> None:
        """Replace the stored values of the transitions at `indices`, int64 [N], with `values`, float [N]."""
        self._table["value"][indices] = values.detach().float().cpu().numpy()

    def transitions_state(self) -> dict[str, Tensor]:
        """Return field name → tensor [len] of all transitions, oldest first. `shards` holds the rest of the state."""
        return {name: _column(self._table, name) for name in _FIELDS}

    def restore(self, transitions: Mapping[str, Tensor], shards: Mapping[int, StateShard]) -> None:
        """Restore exactly the state that was saved, except for transitions whose shard is missing from `shards`."""
        self._table = np.empty(len(transitions["shard"]), dtype=_TRANSITION)
        for name in _FIELDS:
            self._table[name] = transitions[name].numpy()
        self._table = self._table[np.isin(self._table["shard"], list(shards))]
        self._shards = {key: shards[key] for key in self._shard_keys()}
        self._keep_limits()


def token_counts(blocks: TokenBlocks, plan: MaskPlan) -> Tensor:
    """Return the number of occurrences of each chosen token's id in its block, int64 [B, K]; 0 at padding."""
    chosen_ids = blocks.input_ids.gather(1, plan.positions.clamp(min=0))
    is_same = chosen_ids[:, :, None] == blocks.input_ids[:, None, :]
    counts = (is_same & blocks.is_token[:, None, :]).sum(dim=2)
    return counts.masked_fill(~plan.is_chosen, 0)


def _normalised(log_weights: FloatArray) -> FloatArray:
    """Return the logarithms of normalised weights, given the logarithms of the weights."""
    normalised: FloatArray = log_weights - np.logaddexp.reduce(log_weights)
    return normalised


def _column(transitions: TransitionArray, name: str) -> Tensor:
    return torch.from_numpy(transitions[name].copy())
