"""Registry of policies: builds a policy from the settings of its kind, and loads saved policies."""

import os
from typing import Annotated, TypeAlias

from pydantic import Field

from nmg.base.section import default_kind
from nmg.policies.attention import AttentionSettings
from nmg.policies.base import Policy, PolicyContext
from nmg.policies.linear import LinearSettings
from nmg.policies.storage import policy_class

PolicySettings: TypeAlias = Annotated[
    AttentionSettings  # from the paper
    | LinearSettings,  # new in nmg
    Field(discriminator="kind"),
    default_kind("linear"),
]
"""Settings of any kind of policy; the field `kind` selects the class. `storage.KINDS` names the policy classes."""


def build_policy(settings: PolicySettings, ground: PolicyContext) -> Policy:
    """Build a policy on the CPU with the initial weights of its modules (see `Policy.reset_parameters`)."""
    policy: Policy = policy_class(settings.kind).from_settings(settings, ground)
    return policy


def load_policy(place: str | os.PathLike[str], revision: str | None = None) -> Policy:
    """Load a policy of any kind.

    Args:
        place: Folder of a run or of a policy, or name of a hub repository (`OWNER/NAME`).
        revision: Revision of the hub repository.

    Returns:
        The policy, on the CPU and in evaluation mode.

    Raises:
        UserError: If there is no policy or its files are invalid.

    Example:
        ```python
        policy = nmg.load_policy("runs/mine")
        ```
    """
    return Policy.from_pretrained(place, revision)
