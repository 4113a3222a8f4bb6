"""The result of an audit, from which its page and tables are rendered."""

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
    """All trials that did not diverge, except for the pilot."""
    fresh: Sequence[AuditTrial]
    """The trials at the best schedule that were not used to choose it; the findings are based on these trials."""
    adaptation: Adaptation
    rewards: Sequence[RewardFinding]
