"""Audits settings and writes the page of the audit: `nmg.audit` and `nmg audit`."""

from collections.abc import Mapping
from typing import Any, Unpack

from nmg.auditing import run
from nmg.auditing.trials import AuditTrial
from nmg.base.files import user_path
from nmg.base.progress import Reporter
from nmg.config.sources import AnyPath, Settings, Source, config_of
from nmg.jobs.progress import job_progress
from nmg.jobs.results import Audited
from nmg.report.audit_page import audit_page
from nmg.report.html import write_html


def audit(
    config: Source,
    out: AnyPath,
    *,
    seeds: int = 3,
    minutes: float = 10.0,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    on_trial: run.OnTrial = lambda _trial, _done, _in_all: None,
    **settings: Unpack[Settings],
) -> Audited:
    """Find out within a time budget whether there is anything to learn. The test set is not read.

    Writes audit.json, recommended.yaml and index.html.

    Args:
        config: A `Config`, a configuration file, the name of a configuration that nmg ships, or a file of labelled
            texts.
        out: The output folder; finished trials in it are reused.
        seeds: Number of seeds per phase of the audit.
        minutes: Approximate duration, in minutes.
        overrides: Other settings, as `section.field` → value.
        progress: Whether to show bars in a terminal or a notebook.
        reporter: Receives messages and phases instead of the bars.
        on_trial: Called after each trial with the trial, the number of finished trials and the expected total.
        **settings: `model`, `task`, `train`, `validation`, `test`, `corpus`, `rate` and `seed`.

    Returns:
        The findings and the recommended settings: `verdict`, `recommended`, `summary()`, `to_frame()`.

    Raises:
        UserError: Settings or data are invalid, or training diverges under every schedule.

    Example:
        ```python
        found = nmg.audit("train.jsonl", "audit", model="bert-base-uncased", minutes=5)
        print(found.summary())
        run = nmg.learn(found.recommended, "run")
        ```
    """
    chosen, folder = config_of(config, settings, overrides, call="nmg.audit"), user_path(out)
    with job_progress(progress, reporter) as shown:

        def on_each(trial: AuditTrial, done: int, in_all: int) -> None:
            shown.overall(f"trial {done}/{in_all}", done, in_all)
            on_trial(trial, done, in_all)

        result = run.audit(chosen, folder, seeds=seeds, minutes=minutes, reporter=shown, on_trial=on_each)
    write_html(folder / "index.html", audit_page(result, folder))
    return Audited(**vars(result), out=folder)
