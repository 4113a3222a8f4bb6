"""Learns a masking policy in a folder and writes its page: `nmg.learn` and `nmg learn`."""

from collections.abc import Mapping
from typing import Any, Unpack

from nmg.base.files import user_path, write_text
from nmg.base.progress import Reporter
from nmg.config.sources import AnyPath, Settings, Source, config_of
from nmg.jobs.progress import job_progress
from nmg.jobs.results import Learned
from nmg.meta_training import run
from nmg.meta_training.loop import EpisodeRecord
from nmg.report.run_files import render_run

PAGE = "report.html"
"""Name of the page in the folder of a run."""


def learn(
    config: Source,
    out: AnyPath,
    *,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
    reporter: Reporter | None = None,
    on_episode: run.OnEpisode = lambda _record, _episodes: None,
    **settings: Unpack[Settings],
) -> Learned:
    """Learn a masking policy in a folder, with log and checkpoints, and write the page of the run at the end.

    Args:
        config: A `Config`, a configuration file, the name of a configuration that nmg ships, or a file of labelled
            texts. If the run is resumed, only `meta.episodes` and `runtime.*` may differ from before.
        out: The folder of the run; it must be empty or missing, unless the run is resumed.
        resume: True continues the run in `out` from its last checkpoint, as if it had not been interrupted.
        overrides: Other settings, as `section.field` → value.
        progress: Whether to show bars in a terminal or a notebook.
        reporter: Receives messages and phases instead of the bars.
        on_episode: Called after each episode with its record and the number of episodes of the run.
        **settings: `model`, `task`, `train`, `validation`, `test`, `corpus`, `rate` and `seed`.

    Returns:
        The finished run: `policy`, `summary()`, `to_frame()`. Pass it as the policy to `nmg.adapt`, `nmg.compare` and
        `MaskingCollator`.

    Raises:
        UserError: Settings, data, model or folder are invalid, or training diverges in several consecutive episodes.

    Example:
        ```python
        run = nmg.learn("train.jsonl", "runs/mine", validation="dev.jsonl", model="bert-base-uncased")
        print(run.summary())
        nmg.adapt(run, masking=run, out="adapted")
        ```
    """
    chosen, folder = config_of(config, settings, overrides, call="nmg.learn"), user_path(out)
    start = run.continue_run if resume else run.start
    with job_progress(progress, reporter) as shown:

        def on_each(record: EpisodeRecord, episodes: int) -> None:
            best = max((one[record.metric] for one in record.scores.values()), default=0.0)
            text = f"episode {record.episode}/{episodes} · best {record.metric} {best:.3f}"
            shown.overall(text, record.episode, episodes)
            on_episode(record, episodes)

        training = start(chosen, folder, shown, on_each)
    _, page = render_run(folder)
    write_text(folder / PAGE, page)
    return Learned(training, folder)
