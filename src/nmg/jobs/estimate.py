"""Estimates the time, memory and disk space that learning takes: `nmg.estimate`."""

from collections.abc import Mapping
from typing import Any, Unpack

from nmg.base.progress import Reporter
from nmg.config.sources import Settings, Source, config_of
from nmg.jobs.progress import job_progress
from nmg.jobs.results import Estimated
from nmg.meta_training.estimate import estimate as estimate_run


def estimate(
    config: Source,
    *,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    **settings: Unpack[Settings],
) -> Estimated:
    """Estimate the time, memory and disk space of `nmg.learn` on this machine, from three short episodes.

    Args:
        config: A `Config`, a configuration file, the name of a configuration that nmg ships, or a file of labelled
            texts.
        overrides: Other settings, as `section.field` → value.
        progress: Whether to show bars in a terminal or a notebook.
        reporter: Receives messages and phases instead of the bars.
        **settings: `model`, `task`, `train`, `validation`, `test`, `corpus`, `rate` and `seed`.

    Returns:
        The estimate: `minutes`, `peak_mib`, `disk_mib`, and the numbers of episodes and inner loops.

    Raises:
        UserError: Settings, data or model are invalid, or the run would end before three episodes.

    Example:
        ```python
        print(nmg.estimate("train.jsonl", model="bert-base-uncased").minutes)
        ```
    """
    chosen = config_of(config, settings, overrides, call="nmg.estimate")
    with job_progress(progress, reporter) as shown:
        return Estimated(**vars(estimate_run(chosen, shown)))
