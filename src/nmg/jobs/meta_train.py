"""Runs meta-training in a folder and writes its page: `nmg.meta_train` and `nmg meta-train`."""

from pathlib import Path

from nmg.base.files import write_text
from nmg.base.progress import Reporter, Silent
from nmg.config import Config
from nmg.meta_training import run
from nmg.meta_training.loop import MetaTraining
from nmg.report.run_files import render_run

PAGE = "report.html"
"""Name of the page in the folder of a run."""


def meta_train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter | None = None,
    on_episode: run.OnEpisode = lambda _record, _episodes: None,
) -> MetaTraining:
    """Learn a masking policy in a folder, with log and checkpoints, and write the page of the run at the end.

    Args:
        config: The settings of the run. If it is resumed, only `meta.episodes` and `runtime.*` may differ from before.
        out: The folder of the run; it must be empty or missing, unless the run is resumed.
        resume: True continues the run in `out` from its last checkpoint, as if it had not been interrupted.
        reporter: Receives messages for the user; None for no messages.
        on_episode: Called after each episode with its record and the number of episodes of the run.

    Returns:
        The finished run; `learner.policy` is the learned policy, which is also saved in `out`.

    Raises:
        UserError: Settings, data, model or folder are invalid, or training diverges in several consecutive episodes.

    Example:
        ```python
        config = nmg.load_config(Path("config.yaml"))
        training = nmg.meta_train(config, Path("run"))
        nmg.adapt(config, masking="run", out=Path("adapted"))
        ```
    """
    start = run.continue_run if resume else run.start
    training = start(config, out, reporter or Silent(), on_episode)
    _, page = render_run(out)
    write_text(out / PAGE, page)
    return training
