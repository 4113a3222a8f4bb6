"""The policies that a Python call names: a folder, several folders, or name → folder."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from nmg.base.errors import UserError, shown
from nmg.base.files import user_path
from nmg.masking.names import current_name
from nmg.policies.maskings import parse_policies

AnyPath: TypeAlias = str | os.PathLike[str]
AnyPolicies: TypeAlias = AnyPath | Sequence[AnyPath] | Mapping[str, AnyPath]
"""A folder of a run or policy, several folders, or name → folder. A result of `nmg.learn` is such a folder."""


def policies_of(policies: AnyPolicies | None) -> dict[str, Path]:
    """Return name → folder of policies; a folder without a name is named after its run.

    Raises UserError for a value of another type, or if two policies have the same name.
    """
    if policies is None:
        return {}
    if isinstance(policies, Mapping):
        return {current_name(name): user_path(folder) for name, folder in policies.items()}
    several = [policies] if isinstance(policies, str | os.PathLike) else policies
    if not isinstance(several, Sequence) or not all(isinstance(one, str | os.PathLike) for one in several):
        raise UserError(f"policies: must be a folder, a list of folders, or {{name: folder}}, not {shown(policies)}")
    return parse_policies([os.fspath(one) for one in several], "policies")


def names_of(maskings: str | Sequence[str]) -> list[str]:
    """Return the names of maskings; a text may hold several, separated by commas. Raises UserError for other types."""
    if isinstance(maskings, str):
        maskings = [name for name in map(str.strip, maskings.split(",")) if name]
    if not isinstance(maskings, Sequence) or not all(isinstance(name, str) for name in maskings):
        raise UserError(f"maskings: must be names such as ['none', 'random'], not {shown(maskings)}")
    return [current_name(name) for name in maskings]
