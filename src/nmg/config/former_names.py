"""Settings whose names changed before the first release: a file that holds one is told the new name."""

from collections.abc import Mapping

FORMER_NAMES: Mapping[str, str] = {
    "meta.self_play": "learner.self_play",
    "reward.clip": "learner.reward_clip",
    "reward.kind": "learner.reward",
    "runtime.player_processes": "runtime.processes",
}
"""former name → name, each as `section.field`"""
