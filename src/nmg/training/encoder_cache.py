"""Caches the loss and entropy of tokens for several steps, because computing them takes several passes of the LM."""

import numpy as np
import torch
from torch import Tensor

from nmg.base.state import State
from nmg.base.types import StateEncoder, TokenBlocks


class CachedEncoder:
    """`StateEncoder` that recomputes the loss and entropy of a block only after `steps` calls of `surprise`.

    Blocks are identified by their tokens. Hidden states are not cached.

    Args:
        encode: Encoder to cache.
        steps: Number of calls of `surprise` for which a result is kept.
    """

    def __init__(self, encode: StateEncoder, steps: int) -> None:
        self._encode, self._steps = encode, steps
        self._calls = 0
        self._kept: dict[bytes, tuple[int, Tensor]] = {}

    def __call__(self, blocks: TokenBlocks) -> Tensor:
        return self._encode(blocks)

    def surprise(self, blocks: TokenBlocks) -> Tensor:
        """Return the loss and the entropy of each token in nats, float32 [B, T, 2], on the CPU."""
        lengths = blocks.is_token.sum(dim=1).tolist()
        ids = blocks.input_ids.cpu().numpy()
        keys = [ids[row, :length].tobytes() for row, length in enumerate(lengths)]
        stale = {key: row for row, key in enumerate(keys) if not self._is_fresh(key)}
        if stale:
            rows = list(stale.values())
            read = self._encode.surprise(blocks.rows(torch.tensor(rows, device=blocks.input_ids.device))).cpu()
            for key, row, values in zip(stale, rows, read, strict=True):
                self._kept.pop(key, None)  # keeps the oldest result first
                self._kept[key] = self._calls, values[: lengths[row]].clone()
        found = torch.zeros(*blocks.input_ids.shape, 2)
        for row, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            found[row, :length] = self._kept[key][1]
        self._calls += 1
        self._forget()
        return found

    def _is_fresh(self, key: bytes) -> bool:
        """Return whether the cache has a result for the block with this key that is not too old."""
        return key in self._kept and self._calls - self._kept[key][0] < self._steps

    def _forget(self) -> None:
        """Delete results that are too old."""
        while self._kept and not self._is_fresh(key := next(iter(self._kept))):
            del self._kept[key]

    def state(self) -> State:
        """Return the cached results.

        The state has the tokens and values of all blocks, concatenated, and the number of the `surprise` call that
        computed each block.
        """
        ids = [torch.from_numpy(np.frombuffer(key, dtype=np.int64).copy()) for key in self._kept]
        values = [value for _, value in self._kept.values()]
        return State(
            {
                "calls": torch.tensor([self._calls, *(call for call, _ in self._kept.values())]),
                "lengths": torch.tensor([len(one) for one in ids], dtype=torch.int64),
                "ids": torch.cat([torch.zeros(0, dtype=torch.int64), *ids]),
                "values": torch.cat([torch.zeros(0, 2), *values]),
            }
        )

    def restore(self, state: State) -> None:
        """Restore the cached results and the number of calls from `state`."""
        self._calls, *calls = state.tensors["calls"].tolist()
        lengths = state.tensors["lengths"].tolist()
        ids, values = (torch.split(state.tensors[name], lengths) for name in ("ids", "values"))
        self._kept = {
            one.numpy().tobytes(): (call, value.clone()) for one, call, value in zip(ids, calls, values, strict=True)
        }
