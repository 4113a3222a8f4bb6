"""Decides whether a model should be adapted, and adapts it if so: `nmg.adapt_automatically`, `nmg adapt --auto`."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from nmg.auto.decision import Decision, decide
from nmg.auto.folder import AutoFolder, Clock, read_state, recorded_config
from nmg.auto.page import auto_page, verdict
from nmg.auto.plan import audit_seconds, comparison_seconds, learning_seconds
from nmg.auto.records import AdaptationStage, AuditStage, ComparisonStage, LearnStage
from nmg.auto.split import divide
from nmg.auto.stages import ADAPTED, AUDIT, COMPARISON, LEARN, Jobs, OnProgress, Stages
from nmg.base.errors import UserError
from nmg.base.files import user_path
from nmg.base.outputs import check_output, output_lock
from nmg.base.progress import Reporter, Silent
from nmg.config import Config
from nmg.executors.registry import require_single_process
from nmg.jobs.progress import Messages
from nmg.report.document import Verdict
from nmg.report.html import write_html
from nmg.report.run_files import damage_named, page_text
from nmg.trials.provenance import source_digests

PAGE = "index.html"
"""File name of the page."""
MINUTES = 60.0
"""Default duration, in minutes."""


@dataclass(frozen=True)
class AutoResult:
    """The result of `nmg.adapt_automatically`."""

    out: Path
    decision: Decision
    model: str
    """The model to use: the folder of the adapted model, or the base model if it is left as it is."""
    verdict: Verdict
    """The verdict with its reasons and the next command, as on the page."""


def adapt_automatically(
    config: Config,
    out: str | Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
    on_progress: OnProgress = lambda _stage, _what, _done, _total: None,
    clock: Clock = time.monotonic,
) -> AutoResult:
    """Decide whether adapting `config.model` pays for the task, and adapt it with the best masking if so.

    An audit finds the schedule. If it sees room, masks are learned. A comparison on validation examples that nothing
    was chosen by tests no adaptation, random masks and the selected masking. The winner adapts the model to the whole
    corpus if it beats no adaptation; otherwise the model is left as it is. The test set is not read.

    Args:
        config: The settings; `data.train` has labelled examples, and `test.evaluation` says how models are scored.
        out: The output folder; it must be empty or missing, unless the run is resumed.
        minutes: Approximate duration of everything, in minutes. None means `MINUTES` or, for a resumed run, the number
            that it began with.
        resume: True continues the run in `out` after its last finished stage, or within an interrupted one.
        reporter: Receives messages for the user; None for no messages.
        on_progress: Called with the stage, what is counted, how many are done, and the expected total.
        clock: Returns a time in seconds.

    Returns:
        The decision, the model to use, and the verdict in words.

    Raises:
        UserError: Settings, data, model or `out` are invalid. Also if the run in `out` is finished or was begun with
            other settings or data.

    Example:
        ```python
        result = nmg.adapt_automatically(nmg.load_config(Path("config.yaml")), "auto", minutes=60)
        print(result.decision.reason, result.model)
        ```
    """
    require_single_process("adapt --auto")
    path, reporter = user_path(Path(out)), Messages(reporter or Silent())
    check_settings(config, minutes)
    if not resume:
        check_output(path, f"another run (continue a run of --auto with --resume {path})")
    with output_lock(path):
        inputs = source_digests(config.data, ("train", "validation", "corpus"))
        if resume:
            folder = AutoFolder.resume(path, config, minutes, inputs, clock)
            jobs = Jobs(config, divide(config, path / "data"), path, reporter, on_progress)
        else:
            try:
                jobs = Jobs(config, divide(config, path / "data"), path, reporter, on_progress)
                jobs.check()
            except UserError:
                shutil.rmtree(path / "data", ignore_errors=True)
                raise
            folder = AutoFolder.begin(path, config, minutes or MINUTES, inputs, clock)
        decision = run_stages(folder, jobs)
        page = verdict(folder.facts, path)
        write_html(path / PAGE, auto_page(folder.facts, config, path))
    model = str(path / ADAPTED) if decision.decision == "adapt" else config.model.name
    return AutoResult(path, decision, model, page)


def render_auto(folder: Path) -> str:
    """Return the page of a finished run as HTML. Raises UserError if it is not finished, or auto.json is damaged."""
    facts = read_state(folder)
    with damage_named(folder):
        if not facts["is_finished"]:
            raise UserError(
                f"{folder}: this run of nmg adapt --auto is not finished, so it has no page. Continue it: nmg adapt "
                f"--auto --resume {folder}"
            )
        return page_text(auto_page(facts, recorded_config(folder, []), folder))


def check_settings(config: Config, minutes: float | None) -> None:
    """Check, before anything is read, that the settings suit the command.

    Raises UserError without labelled examples, and for settings of a fixed adaptation.
    """
    if config.data.train is None:
        raise UserError(
            "--auto: needs labelled examples to decide by. Give --data.train FILE or, without any, run nmg adapt "
            "without --auto."
        )
    if minutes is not None and not minutes > 0:
        raise UserError(f"--minutes {minutes:g}: must be above 0")
    if config.adapt.epochs == 0 or config.test.adapt_epochs == 0:
        raise UserError("adapt.epochs, test.adapt_epochs: --auto needs an adaptation of at least one epoch")
    for name in ("steps", "minutes", "add_words"):
        if getattr(config.adapt, name) is not None:
            raise UserError(f"adapt.{name}: --auto compares adaptations without it. Remove the setting.")
    if config.adapt.replay:
        raise UserError("adapt.replay: --auto compares adaptations without it. Remove the setting.")


def run_stages(folder: AutoFolder, stages: Stages) -> Decision:
    """Run the stages that have no stored result, decide, and record the decision.

    Args:
        folder: The state of the run.
        stages: The work of each stage.

    Returns:
        The decision.
    """
    audited = folder.stage(AUDIT, AuditStage, lambda: audit_seconds(folder.seconds), stages.audit)
    learned = folder.stage(
        LEARN,
        LearnStage,
        lambda: learning_seconds(folder.seconds_left, audited.costs),
        lambda seconds: stages.learn(audited, seconds),
    )
    compared = folder.stage(
        COMPARISON,
        ComparisonStage,
        lambda: comparison_seconds(folder.seconds_left, audited.costs),
        lambda seconds: stages.compare(audited, learned, seconds),
    )
    decision = decide(compared)
    winner = decision.masking
    if winner is not None:
        folder.stage(
            ADAPTED,
            AdaptationStage,
            lambda: folder.seconds_left,
            lambda seconds: stages.adapt(audited, winner, seconds),
        )
    folder.finish(decision)
    return decision
