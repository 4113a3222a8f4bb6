"""Settings under the names they had: still read, from files and from the command line."""

from collections.abc import Mapping
from typing import Any

from nmg.errors import UserError

_OF_UPDATES = (
    *("learning_rate", "weight_decay", "max_grad_norm", "updates", "batch_size", "entropy_weight", "value_weight"),
    *("objective", "importance_ratio"),
)
RENAMED: Mapping[str, str] = {
    **{f"policy.{field}": f"learner.{field}" for field in _OF_UPDATES},
    **{f"replay.{field}": f"learner.replay_{field}" for field in ("capacity", "max_states", "start", "weighting")},
    "reward.kind": "learner.reward",
    "reward.clip": "learner.reward_clip",
    "meta.self_play": "learner.self_play",
    "runtime.player_processes": "runtime.processes",
}
"""old name → new name"""


def rename(settings: dict[str, Any]) -> dict[str, str]:
    """Move what stands under an old name, in place; returns new name → old name of what was moved.

    Raises UserError where a setting stands under both.
    """
    moved = {}
    for old, new in RENAMED.items():
        (section, field), (new_section, new_field) = old.split("."), new.split(".")
        fields = settings.get(section)
        if not isinstance(fields, dict) or field not in fields:
            continue
        target = settings.setdefault(new_section, {})
        if not isinstance(target, dict):
            continue
        if new_field in target:
            raise UserError(f"{old} is called {new} now, and both are given; give {new} alone")
        target[new_field] = fields.pop(field)
        moved[new] = old
    if settings.get("replay") == {}:  # a section of old names alone
        del settings["replay"]
    if any(new.startswith("learner.") for new in moved):
        as_before(settings)
    return moved


def as_before(settings: dict[str, Any]) -> None:
    """What went without saying while these names were used: the published learner and policy, continual adaptation."""
    for section, field, value in (
        ("learner", "kind", "actor-critic"),
        ("policy", "kind", "attention"),
        ("meta", "continual", True),
    ):
        fields = settings.setdefault(section, {})
        if isinstance(fields, dict):
            fields.setdefault(field, value)
