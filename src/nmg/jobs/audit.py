"""Audits settings and writes the page of the audit: `nmg.audit` and `nmg audit`."""

from pathlib import Path

from nmg.auditing import run
from nmg.auditing.result import AuditResult
from nmg.base.progress import Reporter
from nmg.config import Config
from nmg.report.audit_page import audit_page
from nmg.report.html import write_html


def audit(
    config: Config,
    out: Path,
    *,
    seeds: int = 3,
    minutes: float = 10.0,
    reporter: Reporter | None = None,
    on_trial: run.OnTrial = lambda _trial, _done, _in_all: None,
) -> AuditResult:
    """Find out within a time budget whether there is anything to learn. The test set is not read.

    Writes audit.json, recommended.yaml and index.html.

    Args:
        config: The settings of the audit.
        out: The output folder; finished trials in it are reused.
        seeds: Number of seeds per phase of the audit.
        minutes: Approximate duration, in minutes.
        reporter: Receives messages for the user; None for no messages.
        on_trial: Called after each trial with the trial, the number of finished trials and the expected total.

    Returns:
        The findings and the recommended settings.

    Raises:
        UserError: Settings or data are invalid, or training diverges under every schedule.

    Example:
        ```python
        found = nmg.audit(config, Path("audit"), minutes=5)
        print(found.facts["recommendation"])
        policy = nmg.meta_train(found.recommended, Path("run")).learner.policy
        ```
    """
    result = run.audit(config, out, seeds=seeds, minutes=minutes, reporter=reporter, on_trial=on_trial)
    write_html(out / "index.html", audit_page(result, out))
    return result
