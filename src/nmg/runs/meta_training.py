"""A meta-training run on disk: its folder, log, checkpoints and trackers, from a first start or after an interruption.

RUN/config.yaml      every setting as it was resolved
RUN/run.json         command, versions, seed, digest of the settings
RUN/metrics.jsonl    one line per episode
RUN/samples.jsonl    mask probabilities of a few texts while the policy learns, see nmg.runs.samples
RUN/policy/          the policy that the learner hands out (config.json, model.safetensors)
RUN/effects.json     what the learner has found, where it has something to tell
RUN/checkpoints/, RUN/replay/   see nmg.runs.checkpoint
"""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmg.config import Config, load_config
from nmg.engines.registry import check_alone
from nmg.errors import UserError
from nmg.files import write_text
from nmg.inner.runtime import Runtime
from nmg.learners.base import Saved, Tensors
from nmg.meta_train import EpisodeRecord, MetaTraining
from nmg.reporter import Reporter
from nmg.runs.checkpoint import (
    drop_lasting_except,
    keep_checkpoint,
    lasting_names,
    load_checkpoint,
    load_lasting,
    save_checkpoint,
    save_lasting,
)
from nmg.runs.samples import log_samples
from nmg.runs.trackers import check_trackers, start_trackers
from nmg.types import PHASES
from nmg.workbench import Workbench, check_output

TIES_BEFORE_WARNING = 3

OnEpisode = Callable[[EpisodeRecord, int], None]
"""Takes the record of an episode and the number of episodes of the run."""


def start(config: Config, out: Path, reporter: Reporter, on_episode: OnEpisode) -> MetaTraining:
    """Meta-train into the empty folder `out`. Raises UserError for bad settings, data, model or folder."""
    check_alone("meta-train")
    check_output(out, "another run (continue that one with --resume)")
    check_trackers(config)
    training = MetaTraining(Workbench.prepare(config, reporter))
    describe_run(out, config, training.arena.runtime)
    go_on(training, out, reporter, on_episode)
    return training


def resume(out: Path, overrides: Sequence[str], reporter: Reporter, on_episode: OnEpisode) -> MetaTraining:
    """Continue a run where its last checkpoint left it.

    The result is that of an uninterrupted run. Only `meta.episodes` and `runtime.*` may be overridden.
    """
    check_alone("meta-train")
    if not (out / "config.yaml").is_file():
        raise UserError(f"--resume {out}: there is no run in this folder (no config.yaml)")
    recorded, config = load_config(out / "config.yaml"), load_config(out / "config.yaml", overrides)
    meta = config.meta.model_copy(update={"episodes": recorded.meta.episodes})
    if config.model_copy(update={"meta": meta}).digest != recorded.digest:
        raise UserError(f"--resume {out}: only meta.episodes and runtime settings may change when a run is resumed")
    check_trackers(config)
    training = MetaTraining(Workbench.prepare(config, reporter))
    restore(training, out)
    drop_lasting_except(out, training.learner.save().lasting)  # what came after the checkpoint is made again
    write_text(out / "config.yaml", config.to_yaml())
    _cut_log(out / "metrics.jsonl", training.next_episode)
    reporter.notify(f"resuming after {training.next_episode} of {training.planned_episodes} episodes")
    go_on(training, out, reporter, on_episode)
    return training


def go_on(training: MetaTraining, out: Path, reporter: Reporter, on_episode: OnEpisode) -> None:
    """Play the episodes that are missing, and keep in `out` what each leaves."""
    log_samples(training, out / "samples.jsonl")
    ties = 0
    with start_trackers(training.config, training.arena.runtime.accelerator, out) as track, training.engine:
        while not training.is_finished:
            record = training.episode()
            with (out / "metrics.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(record.to_json()) + "\n")
            checkpoint(training, out)
            log_samples(training, out / "samples.jsonl")
            track(record)
            ties = ties + 1 if record.is_tie else 0
            if ties == TIES_BEFORE_WARNING:
                reporter.notify(
                    f"every player has tied for {ties} episodes, so there is nothing to learn from. More validation "
                    "examples, longer adaptation, or '--reward.metric loss' tell players apart."
                )
            on_episode(record, training.planned_episodes)
    _publish(training, out)
    for name, policy in training.learner.extra_policies().items():
        policy.save_pretrained(out / name)


def _publish(training: MetaTraining, out: Path) -> None:
    """Write what the learner would hand out now, and what it has found."""
    training.learner.policy.save_pretrained(out / "policy")
    findings = training.learner.findings()
    if findings:
        write_text(out / "effects.json", json.dumps(findings, indent=1, allow_nan=False) + "\n")


def checkpoint(training: MetaTraining, out: Path) -> None:
    """Write everything an exact continuation needs, then let go of what it no longer needs."""
    saved, policy = training.learner.save(), training.learner.policy
    for name, tensors in saved.lasting.items():
        save_lasting(out, name, tensors)
    files: dict[str, Tensors] = dict(saved.files)
    if training.config.meta.continual:
        files["lm"] = training.lm_state
    facts = {"next_episode": training.next_episode, "learner": saved.facts}
    save_checkpoint(out, training.next_episode, files, facts)
    drop_lasting_except(out, saved.lasting)
    _publish(training, out)
    if training.next_episode % training.config.meta.checkpoint_every == 0:
        kept = {"learner-policy": policy.state_dict()} | {name: files[name] for name in files if name == "lm"}
        keep_checkpoint(out, training.next_episode, kept, facts)


def restore(training: MetaTraining, out: Path) -> None:
    """Bring `training` to the state of the run's last checkpoint; leave it at the start where there is none."""
    loaded = load_checkpoint(out)
    if loaded is None:
        return
    files, facts = loaded
    training.next_episode = int(facts["next_episode"])
    # Checkpoints written before learners had facts of their own hold them beside the number of the episode.
    of_learner = facts.get("learner", facts)
    lasting = {name: partial(load_lasting, out, name) for name in lasting_names(out)}
    try:
        training.learner.restore(Saved(files, of_learner, lasting))
    except KeyError as error:
        raise UserError(f"{out}: the last checkpoint lacks {error}") from error
    if "lm" in files:
        device = training.arena.runtime.device
        training.lm_state = {name: tensor.to(device) for name, tensor in files["lm"].items()}


def describe_run(out: Path, config: Config, runtime: Runtime) -> None:
    """Write the resolved settings, and the command, versions, digest and device that go with them."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.yaml", config.to_yaml())
    packages = ("nmg", "torch", "transformers", "tokenizers", "accelerate", "numpy")
    facts: dict[str, Any] = {
        "command": sys.argv,
        "settings_digest": config.digest,
        "seed": config.run.seed,
        "python": platform.python_version(),
        "device": runtime.device.type,
        "precision": runtime.precision,
        "versions": {name: version(name) for name in packages},
    }
    write_text(out / "run.json", json.dumps(facts, indent=2) + "\n")


def _cut_log(path: Path, episodes: int) -> None:
    """Drop the lines of episodes that ran after the last checkpoint, whole or half-written."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:episodes]
        write_text(path, "".join(lines))


def episode_line(record: EpisodeRecord, episodes: int) -> str:
    """One line per episode: the players' scores, what the learner says of rewards and entropy, seconds."""
    players = "  ".join(f"{name} {record.scores[name][record.metric]:.4f}" for name in sorted(record.scores))
    reward, update = record.learning.get("mean_reward"), record.learning.get("learner_update")
    reward = "" if reward is None else f"  reward {reward:+.3f}"
    entropy = f"  entropy {update['entropy_per_row']:.3f}" if update else ""
    tie = "  (tie: no reward)" if record.is_tie else ""
    seconds = sum(record.seconds[phase] for phase in PHASES)
    return f"episode {record.episode + 1}/{episodes}  {record.metric}: {players}{reward}{entropy}  {seconds:.1f} s{tie}"
