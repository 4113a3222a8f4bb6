"""Adapts a model to a corpus and saves it: `nmg.adapt` and `nmg adapt`."""

import os
from collections.abc import Mapping
from typing import Any, Unpack

from nmg.adaptation.adapt import adapt_corpus
from nmg.adaptation.recorder import OnStep
from nmg.base.distributed import is_main_process
from nmg.base.files import user_path, write_text
from nmg.base.progress import Reporter
from nmg.config.sources import AnyPath, Settings, Source, config_of
from nmg.jobs.progress import job_progress
from nmg.jobs.results import Adapted
from nmg.masking.base import Masking
from nmg.report.run_files import render_adaptation

PAGE = "index.html"
"""File name of the page of an adaptation."""


def adapt(
    config: Source,
    masking: AnyPath | Masking,
    out: AnyPath,
    *,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    on_step: OnStep = lambda _record, _steps: None,
    **settings: Unpack[Settings],
) -> Adapted:
    """Adapt `config.model` to the text of `config.data.corpus`, and save it in a folder that transformers loads.

    The folder also has a model card (README.md) and a page (index.html).

    Args:
        config: A `Config`, a configuration file, the name of a configuration that nmg ships, or a file or folder of
            texts.
        masking: The name of a masking, the folder of a policy, or a custom masking.
        out: The output folder; it must be empty or missing, unless the run is resumed.
        resume: True continues the run in `out` from its last checkpoint, as if it had not been interrupted. Settings,
            text and model must be the same; only `runtime.*` may differ.
        overrides: Other settings, as `section.field` → value.
        progress: Whether to show bars in a terminal or a notebook.
        reporter: Receives messages and phases instead of the bars.
        on_step: Called about once a second with the last line of metrics.jsonl and the number of steps.
        **settings: `model`, `task`, `train`, `validation`, `test`, `corpus`, `rate` and `seed`.

    Returns:
        Losses on held-out text before and after, number of steps and tokens, and wall time in seconds. It has
        `summary()` and `to_frame()`, and as a path it is the folder of the model.

    Raises:
        UserError: Settings, text, model or policy are invalid, `out` cannot be used, or training diverges. Also if the
            run in `out` is finished or was begun with other settings, text or model.

    Example:
        ```python
        adapted = nmg.adapt("domain.txt", masking="idf", out="adapted", model="bert-base-uncased")
        print(adapted.summary())
        ```
    """
    named = os.fspath(masking) if isinstance(masking, os.PathLike) else masking
    chosen = config_of(config, settings, overrides, call="nmg.adapt", data="corpus")
    folder = user_path(out)
    with job_progress(progress, reporter) as shown:

        def on_each(record: Mapping[str, Any], steps: int) -> None:
            speed = f"{record['tokens_per_second']:,.0f} tokens/s"
            text = f"step {record['step']}/{steps} · loss {record['loss']:.3f} · {speed}"
            shown.overall(text, record["step"], steps)
            on_step(record, steps)

        result = adapt_corpus(chosen, named, folder, shown, resume=resume, on_step=on_each)
    if is_main_process():
        write_text(folder / PAGE, render_adaptation(folder)[1])
    return Adapted.of(result)
