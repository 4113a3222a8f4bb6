"""First-in-first-out memory of transitions, drawn from by priority.

A transition is one chosen position: (state, position, log-probability, reward, value). States are by far the
largest part, and all transitions of a block, of both players, share the state; so states are held once a block, in one
immutable `StateShard` an episode, and a transition only points to its row.
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

from nmg.types import FloatArray, IntArray, MaskPlan, TokenBlocks

Weighting: TypeAlias = Literal["advantage", "reward", "value", "reward-advantage", "value-advantage", "uniform"]
"""As `ActorCriticSettings.replay_weighting`; see `log_weights`."""

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

    States are float16: last hidden states leave a LayerNorm and are small (below 7 with MiniLM), and the wider range of
    bfloat16 would cost eight times the rounding error (with MiniLM 1.7e-3 of a standard deviation instead of 2e-4).
    """

    states: Tensor
    """float16 [n_1 + ... + n_B, H]"""
    offsets: Tensor
    """int64 [B + 1]: block b has the tokens offsets[b] to offsets[b + 1]"""
    is_maskable: Tensor
    """bool [n_1 + ... + n_B]"""

    @classmethod
    def pack(cls, states: Tensor, blocks: TokenBlocks) -> "StateShard":
        """Drop the padding of states [B, T, H] of these blocks. Raises ValueError if a state is no finite float16."""
        is_token = blocks.is_token.to(states.device)
        packed = states[is_token].to("cpu", torch.float16)
        if not packed.isfinite().all():
            raise ValueError("hidden states are not finite, or beyond the range of float16")
        ends = blocks.is_token.sum(dim=1).cumsum(dim=0).cpu()
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
        return cls(packed, offsets, blocks.is_maskable[blocks.is_token].cpu())

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.to_tensors().values())

    def block(self, row: int) -> tuple[Tensor, Tensor]:
        """States [n, H] and is_maskable [n] of one block."""
        tokens = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.states[tokens], self.is_maskable[tokens]

    def to_tensors(self) -> dict[str, Tensor]:
        return {"states": self.states, "offsets": self.offsets, "is_maskable": self.is_maskable}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "StateShard":
        return cls(tensors["states"], tensors["offsets"], tensors["is_maskable"])


@dataclass(frozen=True)
class TransitionBatch:
    """N transitions on S <= N distinct blocks."""

    states: Tensor
    """[S, T, H], zeros at padding; float16 as the replay holds them, float32 on the device of an update"""
    is_token: Tensor
    """bool [S, T]"""
    is_maskable: Tensor
    """bool [S, T]"""
    state_index: Tensor
    """int64 [N]: which of the S blocks a transition belongs to"""
    position: Tensor
    """int64 [N]"""
    log_prob: Tensor
    """float32 [N]: log-probability of the action when it was taken"""
    reward: Tensor
    """float32 [N]"""
    value: Tensor
    """float32 [N]: estimate of the block's value when the transition was stored or last drawn"""

    def to(self, device: torch.device) -> "TransitionBatch":
        """The same on another device. States travel as they are held, in float16: half as much, and to the bit."""
        sent = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return TransitionBatch(**sent | {"states": sent["states"].float()})


class Replay:
    """The newest `capacity` transitions, and the states they point to.

    Args:
        capacity: transitions held at most.
        max_states: blocks whose states are held at most; beyond it the oldest shard goes with its transitions. The
            newest shard always stays.
    """

    def __init__(self, capacity: int, max_states: int) -> None:
        self.capacity = capacity
        self.max_states = max_states
        # Oldest first. One copy of the table an episode (1.6 MB at 50 000 transitions) buys contiguous indices.
        self._table: TransitionArray = np.empty(0, dtype=_TRANSITION)
        self._shards: dict[int, StateShard] = {}

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self._table)

    @property
    def n_states(self) -> int:
        """Number of blocks whose states are held."""
        return sum(len(shard) for shard in self._shards.values())

    @property
    def nbytes(self) -> int:
        """Bytes of transitions and states; a shard that two replays share counts in both."""
        return self._table.nbytes + sum(shard.nbytes for shard in self._shards.values())

    @property
    def shards(self) -> Mapping[int, StateShard]:
        """The shards in use, oldest first, by key. A shard never changes, so it need be saved only once."""
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
        """Append the stored actions of a plan, block by block.

        Args:
            key: names the shard; keys never decrease from one call to the next (the index of the episode will do).
            shard: states of the plan's blocks; may be shared with another replay.
            plan: with log_prob, as from a learned policy.
            values: float32 [B], the value network's estimate for each block.
            reward: float [B, K], and
            is_stored: bool [B, K], as from `reward.credit`.
            token_count: int [B, K], how often the token occurs in its block.
        """
        if plan.log_prob is None:
            raise ValueError("the actions of a plan without log-probabilities cannot be stored")
        if len(shard) != len(plan.positions):
            raise ValueError(f"a shard of {len(shard)} blocks does not fit a plan of {len(plan.positions)}")
        newest = max(self._shards, default=key)
        if key < newest or self._shards.get(key, shard) is not shard:
            raise ValueError(f"shard {key} comes after shard {newest}, or another one has this key")
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
        """Keys of the shards that transitions point to, ascending."""
        keys: list[int] = np.unique(self._table["shard"]).tolist()
        return keys

    def _keep_limits(self) -> None:
        """Drop the oldest transitions beyond the limits, and the shards that none points to."""
        self._table = self._table[-self.capacity :]
        self._shards = {key: self._shards[key] for key in self._shard_keys()}
        while len(self._shards) > 1 and self.n_states > self.max_states:
            oldest = next(iter(self._shards))
            del self._shards[oldest]
            self._table = self._table[self._table["shard"] != oldest]

    def sample(self, n: int, rng: np.random.Generator, weighting: Weighting) -> IntArray:
        """int64 [min(n, len)]: distinct indices, drawn one after the other with probability ∝ exp(`log_weights`).

        Adding Gumbel noise and taking the n largest is the same draw at once (Efraimidis & Spirakis 2006; Gumbel top-k:
        arXiv 1903.06059). Indices hold until the next `add`.
        """
        keys = self.log_weights(weighting) + rng.gumbel(size=len(self))
        best = np.argpartition(-keys, n - 1)[:n] if n < len(self) else np.arange(len(self))
        order: IntArray = best[np.argsort(-keys[best])].astype(np.int64)
        return order

    def log_weights(self, weighting: Weighting) -> FloatArray:
        """float64 [len]: log of the unnormalised probability that a transition is drawn first.

            priority · 1 / √token_count        (uniform: 1)

        with priority exp|r - V| (advantage), exp r (reward), exp V (value), or the mean of two of these, each first
        divided by its sum over the replay (reward-advantage, value-advantage).
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
        """The transitions at these indices, in their order, on the CPU, with states in float16."""
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
        """Mean of `now` minus the shard's key over the transitions at these indices, or over all; NaN over none.

        With episodes for keys: for how many episodes the transitions have been held, 0 for those of episode `now`.
        """
        keys = self._table["shard"] if indices is None else self._table["shard"][indices]
        return float(now - keys.mean()) if len(keys) else math.nan

    def refresh(self, indices: IntArray, values: Tensor) -> None:
        """Replace the stored values of the transitions at these indices by values, float [N]."""
        self._table["value"][indices] = values.detach().float().cpu().numpy()

    def transitions_state(self) -> dict[str, Tensor]:
        """The transitions, oldest first, as one tensor [len] a field; with `shards` all there is to restore."""
        return {name: _column(self._table, name) for name in _FIELDS}

    def restore(self, transitions: Mapping[str, Tensor], shards: Mapping[int, StateShard]) -> None:
        """Become, to the bit, what `transitions_state` came from, but without transitions whose shard is lost."""
        self._table = np.empty(len(transitions["shard"]), dtype=_TRANSITION)
        for name in _FIELDS:
            self._table[name] = transitions[name].numpy()
        self._table = self._table[np.isin(self._table["shard"], list(shards))]
        self._shards = {key: shards[key] for key in self._shard_keys()}
        self._keep_limits()


def token_counts(blocks: TokenBlocks, plan: MaskPlan) -> Tensor:
    """int64 [B, K]: how often the id of each chosen token occurs in its block; 0 at padding."""
    chosen_ids = blocks.input_ids.gather(1, plan.positions.clamp(min=0))
    is_same = chosen_ids[:, :, None] == blocks.input_ids[:, None, :]
    counts = (is_same & blocks.is_token[:, None, :]).sum(dim=2)
    return counts.masked_fill(~plan.is_chosen, 0)


def _normalised(log_weights: FloatArray) -> FloatArray:
    """log of the weights divided by their sum."""
    normalised: FloatArray = log_weights - np.logaddexp.reduce(log_weights)
    return normalised


def _column(transitions: TransitionArray, name: str) -> Tensor:
    return torch.from_numpy(transitions[name].copy())
