"""The result of an audit, which pages and tables render."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nmg.auditing.findings import Adaptation, RewardFinding
from nmg.auditing.trials import AuditTrial
from nmg.config import Config


@dataclass(frozen=True)
class AuditResult:
    """The findings and the recommendation of an audit."""

    config: Config
    facts: dict[str, Any]
    """The content of audit.json."""
    recommended: Config
    """The recommended settings."""
    trials: Sequence[AuditTrial]
    """All trials."""
    fresh: Sequence[AuditTrial]
    """The trials that the findings are based on: those at the best schedule that were not used to choose it."""
    adaptation: Adaptation
    rewards: Sequence[RewardFinding]
