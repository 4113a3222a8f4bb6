"""Estimates the time, memory and disk space of a meta-training run from three short episodes.

The episodes use the model, data, learner and executor of the run, and a temporary folder. Each training run stops after
a few steps, and at most `HELD_OUT` examples are scored. The first episode includes one-time start-up costs. The third
takes more steps than the second, and the difference gives the cost of one step. Costs other than training steps are
assumed to be the same for every episode.
"""

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nmg.base.errors import UserError
from nmg.base.files import default_cache_dir
from nmg.base.progress import Reporter
from nmg.base.seeding import StreamName
from nmg.base.types import INNER_PHASES
from nmg.config import Config
from nmg.executors.registry import process_count
from nmg.masking.rules import RandomMasking
from nmg.meta_training.disk import FolderGrowth
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.meta_training.memory import MIB, PeakMemory
from nmg.meta_training.run import describe_run, go_on
from nmg.training.adapt import adapt
from nmg.training.batches import batches_per_epoch
from nmg.training.head import MASKING, head_file
from nmg.training.masks import DrawnMasks
from nmg.trials.session import Session

FEW = 4
"""Number of steps per training run in the first two episodes."""
LEAST, MOST = 8, 40
"""Lower and upper limit of the number of steps in the third episode."""
SECONDS = 30.0
"""Target duration of training in the third episode, in seconds."""
HELD_OUT = 512
"""Maximum number of examples that a short episode scores."""
KEPT = 1.3
"""Factor by which the peak memory of a run may exceed that of three episodes, if freed memory is not returned.

Freed memory is fragmented, so memory grows for about a dozen inner loops. Three runs had factors of 1.24, 1.31
and 1.35.
"""
SAMPLED = 20
"""Number of episodes from which the average number of steps is computed."""


@dataclass(frozen=True)
class Estimate:
    """The resources that a run is expected to need."""

    minutes: float
    """Duration in minutes, if the run does not stop early."""
    peak_mib: float
    """Upper limit of the resident memory of all processes together, in MiB."""
    disk_mib: float
    """Size of the run's folder at the end, in MiB."""
    episodes: int
    """Number of episodes."""
    trials: int
    """Number of inner loops."""
    seconds_to_prepare: float
    """Seconds before the first episode."""
    head_steps: int
    """Maximum number of training steps for a missing LM head before the first episode; 0 if no training is needed."""

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Work:
    """The average amount of work of an inner loop, in steps and examples."""

    lm_steps: float
    """Mean number of adaptation steps."""
    task_steps: float
    """Mean number of steps per fine-tuning run."""
    rows: float
    """Mean number of rows (model inputs) of the labelled examples."""
    held_out: int
    """Number of examples that the full run scores."""
    scored: int
    """Number of examples that the short run scores."""


@dataclass(frozen=True)
class Measured:
    """The measurements of an episode whose training runs stop after `steps` steps."""

    steps: int
    record: EpisodeRecord
    wall: float
    """Seconds since the end of the previous episode, including the checkpoint."""

    @property
    def players(self) -> int:
        """Number of players of the episode."""
        return len(self.record.scores)

    @property
    def besides(self) -> float:
        """Seconds spent outside inner loops: mask selection, learning and checkpoints."""
        return self.wall - self.record.seconds["inner loops"]

    def seconds(self, phase: str) -> float:
        """Seconds that the inner loops of all players spent in a phase."""
        return self.record.seconds[phase]


def estimate(config: Config, reporter: Reporter) -> Estimate:
    """Measure three short episodes of the run that `config` describes, and forecast the whole run.

    All inputs are read and checked as in the run. The tokenized corpus stays in the cache, so the run can reuse it.
    Raises UserError if inputs of the run are invalid, or if it would end before three episodes.
    """
    with tempfile.TemporaryDirectory() as name, PeakMemory() as memory:
        began = time.perf_counter()
        session = Session.open_all(_short(config), reporter).preflight()
        opening = time.perf_counter() - began
        head_steps, making_head = _head(session)
        began = time.perf_counter()
        training = MetaTraining(session)
        preparing = opening + making_head + time.perf_counter() - began
        measured, growth = _short_run(training, Path(name) / "run", reporter)
    forecast = training.learner.forecast(config.meta.episodes)
    episodes, threads = len(forecast.players), session.runtime.threads
    inner = _inner_loops(measured, _work(training, session, config), config)
    besides = _mean(one.besides for one in measured[1:])
    at_once = training.jobs_at_once(config.meta.parallel_episodes)
    processes = process_count(config.runtime, at_once, session.lm.model.num_parameters())
    side_by_side = at_once > training.learner.capabilities.max_players  # parallel episodes leave no thread idle
    then = sum(n / min(at_once if side_by_side else n, processes, threads) for n in forecast.players)
    now = measured[-1].players / min(measured[-1].players, training.engine.processes, threads)
    more_processes = max((1 + processes) / (1 + training.engine.processes), 1.0)
    kept = KEPT if session.runtime.keeps_memory else 1.0
    starting = max(measured[0].wall - measured[1].wall, 0.0)
    seconds = preparing + starting + episodes * besides + inner * then / now
    return Estimate(
        minutes=seconds / 60,
        peak_mib=memory.mib * more_processes * kept + growth.immutable / MIB * max(forecast.held - len(measured), 0),
        disk_mib=growth.after(episodes, config.meta.checkpoint_every, forecast.held) / MIB,
        episodes=episodes,
        trials=sum(forecast.players),
        seconds_to_prepare=preparing + starting,
        head_steps=head_steps,
    )


def _short(config: Config) -> Config:
    """Return the settings with three episodes, a checkpoint after each, and a learner that learns from the first."""
    meta = {"episodes": 3, "checkpoint_every": 1, "parallel_episodes": 1}
    meta["max_validation_examples"] = min(HELD_OUT, config.meta.max_validation_examples)
    # Other trackers may publish the run.
    trackers = tuple(name for name in config.runtime.trackers if name == "tensorboard")
    at_once = {"learning_starts": 0} if "learning_starts" in type(config.learner).model_fields else {}
    return config.model_copy(
        update={
            "meta": config.meta.model_copy(update=meta),
            "learner": config.learner.model_copy(update=at_once),
            "runtime": config.runtime.model_copy(update={"trackers": trackers}),
        }
    )


def _head(session: Session) -> tuple[int, float]:
    """Return upper limits of the steps and the seconds to train a missing LM head; 0 steps if it is in the cache."""
    settings, context = session.config.model, session.context.silent()
    if not session.lm.new_parameters or settings.head_warmup_steps == 0:
        return 0, 0.0
    corpus = session.corpus(session.loaded.corpus_texts)
    began = time.perf_counter()
    cache = default_cache_dir(session.config.runtime.cache_dir)
    if head_file(context, settings, corpus, session.config.run.seed, cache).is_file():
        session.warm_up_head(corpus)
        return 0, time.perf_counter() - began
    masks, context = DrawnMasks(corpus, RandomMasking()), replace(context, masking=MASKING)
    few, more = (
        adapt(replace(context, adapt_steps=steps), masks, StreamName(0) / "estimate").seconds
        for steps in (FEW, 2 * LEAST)
    )
    steps = settings.head_warmup_steps + settings.head_tuning_steps
    return steps, extrapolate((FEW, few), (2 * LEAST, more), steps)


def _short_run(training: MetaTraining, out: Path, reporter: Reporter) -> tuple[list[Measured], FolderGrowth]:
    """Run the three episodes in the folder `out`, and return their measurements and the growth of the folder."""
    measured: list[Measured] = []
    growth = FolderGrowth(out)
    last = time.perf_counter()

    def on_episode(record: EpisodeRecord, _episodes: int) -> None:
        nonlocal last
        steps = training.trial.finetune_steps
        assert steps is not None, "the estimate limits the steps of each training run"
        measured.append(Measured(steps, record, time.perf_counter() - last))
        growth.look()
        reporter.notify(f"measured {len(measured)} of 3 episodes with {steps} steps per training run")
        if len(measured) == 2:
            a_step = (record.seconds["adapt"] + record.seconds["finetune"]) / FEW
            training.trial = training.trial.limited(int(np.clip(SECONDS / a_step, LEAST, MOST)))
        last = time.perf_counter()

    training.trial = training.trial.limited(FEW)
    describe_run(out, training, inputs={})
    go_on(training, out, reporter, on_episode)
    if len(measured) < 3:
        raise UserError(
            f"the learner ended the run after {len(measured)} episodes, but an estimate needs 3: raise learner.budget"
        )
    growth.look()
    return measured, growth


def _work(training: MetaTraining, session: Session, config: Config) -> Work:
    """Return the average work of an inner loop of the full run.

    `training` and `session` are those of the short run; `config` has the settings of the full run.
    """
    adapting, tuning = config.adapt, config.finetune
    batches, rows = [], []
    for index in range(min(SAMPLED, config.meta.episodes)):
        episode = training.sample(index)
        batches.append(batches_per_epoch(adapting, training.corpus.lengths[episode.block_ids]))
        rows.append(len(episode.row_ids))
    return Work(
        lm_steps=adapting.epochs * _mean(batches),
        task_steps=tuning.epochs * _mean(-(-n // tuning.batch_size) for n in rows),
        rows=_mean(rows),
        held_out=len(replace(session, config=config).split().validation_examples),
        scored=len(training.split.validation_examples),
    )


def _inner_loops(measured: Sequence[Measured], work: Work, config: Config) -> float:
    """Return the seconds of the inner loops of a full episode with as many players as the last measured episode."""
    few, more = measured[-2:]
    same = more.players / few.players
    adapting = extrapolate((few.steps, few.seconds("adapt") * same), (more.steps, more.seconds("adapt")), work.lm_steps)
    if config.reward.evaluation != "finetune":
        tuning = more.seconds("finetune")
    else:
        points = [(min(one.steps, work.task_steps), one.seconds("finetune")) for one in (few, more)]
        tuning = extrapolate((points[0][0], points[0][1] * same), points[1], work.task_steps)
    scoring = more.seconds("evaluate") * work.held_out / work.scored
    others = more.seconds("inner loops") - sum(more.seconds(phase) for phase in INNER_PHASES)
    return adapting + tuning + scoring + others


def extrapolate(few: tuple[float, float], more: tuple[float, float], steps: float) -> float:
    """Extrapolate the duration of a training run linearly from two measurements.

    Args:
        few: (steps, seconds) of the shorter run.
        more: (steps, seconds) of the longer run.
        steps: The number of steps to extrapolate to.

    Returns:
        Duration of `steps` steps in seconds. The cost per step is never negative.
    """
    (n, seconds), (n_more, seconds_more) = few, more
    if steps == 0:
        return 0.0
    if n_more == n:
        return seconds_more * steps / n_more
    a_step = max((seconds_more - seconds) / (n_more - n), 0.0)
    return seconds_more + (steps - n_more) * a_step


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
