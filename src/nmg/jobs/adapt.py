"""Adapts a model to a corpus and saves it: `nmg.adapt` and `nmg adapt`."""

import os
from pathlib import Path

from nmg.adaptation.adapt import adapt_corpus
from nmg.adaptation.recorder import OnStep
from nmg.adaptation.result import AdaptationResult
from nmg.base.distributed import is_main_process
from nmg.base.files import user_path, write_text
from nmg.base.progress import Reporter
from nmg.config import Config
from nmg.masking.base import Masking
from nmg.report.run_files import render_adaptation

PAGE = "index.html"
"""File name of the page of an adaptation."""


def adapt(
    config: Config,
    masking: str | os.PathLike[str] | Masking,
    out: str | os.PathLike[str],
    reporter: Reporter | None = None,
    *,
    resume: bool = False,
    on_step: OnStep = lambda _record, _steps: None,
) -> AdaptationResult:
    """Adapt `config.model` to the text of `config.data.corpus`, and save it in a folder that transformers loads.

    The folder also has a model card (README.md) and a page (index.html).

    Args:
        config: The settings of the run.
        masking: The name of a masking, the folder of a policy, or a custom masking.
        out: The output folder; it must be empty or missing, unless the run is resumed.
        reporter: Receives messages for the user; None for no messages.
        resume: True continues the run in `out` from its last checkpoint, as if it had not been interrupted. Settings,
            text and model must be the same; only `runtime.*` may differ.
        on_step: Called about once a second with the last line of metrics.jsonl and the number of steps.

    Returns:
        Losses on held-out text before and after, number of steps and tokens, and wall time in seconds; `summary()`
        returns a text with the main numbers.

    Raises:
        UserError: Settings, text, model or policy are invalid, `out` cannot be used, or training diverges. Also if the
            run in `out` is finished or was begun with other settings, text or model.

    Example:
        ```python
        config = nmg.load_config(None, ["--data.corpus=domain.txt"])
        print(nmg.adapt(config, masking="idf", out="adapted").summary())
        ```
    """
    named = os.fspath(masking) if isinstance(masking, os.PathLike) else masking
    folder = user_path(Path(out))
    result = adapt_corpus(config, named, folder, reporter, resume=resume, on_step=on_step)
    if is_main_process():
        write_text(folder / PAGE, render_adaptation(folder)[1])
    return result
