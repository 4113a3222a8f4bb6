"""How the last hidden states of a text become one embedding: the mean over its tokens, or a model's own pooling."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nmg.data.notices import warn_once
from nmg.training.sentence_modules import MODULES, sentence_modules


def _mean(states: Tensor, is_token: Tensor) -> Tensor:
    return _weighted(states, is_token.to(states.dtype))


def _mean_by_root(states: Tensor, is_token: Tensor) -> Tensor:
    return (states * is_token[:, :, None]).sum(dim=1) / is_token.sum(dim=1, keepdim=True).sqrt()


def _mean_by_position(states: Tensor, is_token: Tensor) -> Tensor:
    return _weighted(states, is_token * torch.arange(1, states.shape[1] + 1, dtype=states.dtype))


def _weighted(states: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of `states`, [B, T, H], with `weights`, [B, T]: [B, H]."""
    return (states * weights[:, :, None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


def _first(states: Tensor, _is_token: Tensor) -> Tensor:
    return states[:, 0]


def _last(states: Tensor, is_token: Tensor) -> Tensor:
    return states[torch.arange(len(states)), is_token.sum(dim=1) - 1]


def _largest(states: Tensor, is_token: Tensor) -> Tensor:
    return states.masked_fill(~is_token[:, :, None], -torch.inf).amax(dim=1)


POOLINGS: Mapping[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "cls": ("pooling_mode_cls_token", _first),
    "max": ("pooling_mode_max_tokens", _largest),
    "mean": ("pooling_mode_mean_tokens", _mean),
    "mean_sqrt_len_tokens": ("pooling_mode_mean_sqrt_len_tokens", _mean_by_root),
    "weightedmean": ("pooling_mode_weightedmean_tokens", _mean_by_position),
    "lasttoken": ("pooling_mode_lasttoken", _last),
}
"""Name in sentence-transformers → name of the flag in older files, and the function of (states, is_token).

The function takes last hidden states [B, T, H] and bool [B, T], False at padding after a row, and returns [B, H]."""
NO_EFFECT = ("Pooling", "Normalize")
"""Modules after the encoder that are applied, or that do not change a cosine."""


@dataclass(frozen=True)
class Pooling:
    """How the states of a text's tokens become one embedding."""

    names: tuple[str, ...] = ("mean",)
    """Keys of `POOLINGS`; the results of several are concatenated."""

    def __call__(self, states: Tensor, is_token: Tensor) -> Tensor:
        """Pool states.

        Args:
            states: Last hidden states [B, T, H].
            is_token: bool [B, T], False at padding.

        Returns:
            Embeddings [B, H × number of names].
        """
        return torch.cat([POOLINGS[name][1](states, is_token) for name in self.names], dim=1)


MEAN = Pooling()
"""The pooling of models that do not come from sentence-transformers."""


def pooling_of(name: str) -> Pooling:
    """Return the pooling of a sentence-transformers model, or the mean over tokens for any other model.

    `name` is the hub name or folder of the model. Warns if the model has a pooling that cannot be used, or a further
    module that changes embeddings, such as a dense layer.
    """
    modules = sentence_modules(name)
    if modules is None:
        return MEAN
    entries = modules.entries or []
    types = [str(module.get("type", "")).rpartition(".")[2] for module in entries[1:]]
    if others := sorted(set(types).difference(NO_EFFECT)):
        warn_once(name, f"embeddings are computed without its modules {', '.join(others)}: nmg does not run them")
    names = _names(modules.root / entries[1 + types.index("Pooling")]["path"]) if "Pooling" in types else None
    if names is None:
        warn_once(name, f"its {MODULES} has no pooling that can be used, so embeddings are the mean over tokens")
        return MEAN
    return Pooling(names)


def _names(folder: Path) -> tuple[str, ...] | None:
    """Return the names of the poolings in the configuration of a pooling module; None if they are invalid."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(config, dict):
        return None
    named = config.get("pooling_mode")
    if named is None:
        named = [name for name, (flag, _) in POOLINGS.items() if config.get(flag) is True] or ["mean"]
    names = [named] if isinstance(named, str) else named
    is_known = isinstance(names, list) and all(isinstance(one, str) and one in POOLINGS for one in names)
    return tuple(names) if is_known and names else None
