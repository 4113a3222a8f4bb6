"""Former names of settings, so that error messages can suggest the current name."""

from collections.abc import Mapping

FORMER_NAMES: Mapping[str, str] = {
    "meta.self_play": "learner.self_play",
    "reward.clip": "learner.reward_clip",
    "reward.kind": "learner.reward",
    "runtime.player_processes": "runtime.processes",
}
"""Former name → current name, each as `section.field`."""
