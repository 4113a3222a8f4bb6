"""Policies by kind: their settings, and what is built from these."""

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from nmg.policies.attention import AttentionSettings
from nmg.policies.base import Ground, Policy
from nmg.policies.linear import LinearSettings
from nmg.policies.storage import policy_class
from nmg.settings import default_kind

PolicySettings: TypeAlias = Annotated[
    AttentionSettings  # the paper's
    | LinearSettings,  # ours
    Field(discriminator="kind"),
    default_kind("linear"),
]
"""A line per kind; `storage.KINDS` names their classes."""


def build_policy(settings: PolicySettings, ground: Ground) -> Policy:
    """Returns a new policy on the CPU; its weights are as its modules made them (see `Policy.reset_parameters`)."""
    policy: Policy = policy_class(settings.kind).from_settings(settings, ground)
    return policy


def load_policy(place: Path | str, revision: str | None = None) -> Policy:
    """`Policy.from_pretrained`: the policy of a run's folder, of a policy's, or of a hub repository."""
    return Policy.from_pretrained(place, revision)
