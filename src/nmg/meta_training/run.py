"""Runs meta-training in a folder with log, checkpoints and trackers, as a new or as a resumed run.

RUN/config.yaml      every setting as it was resolved
RUN/run.json         command, versions, seed, digest of the settings, planned episodes, whether the run is finished
RUN/metrics.jsonl    one line per episode
RUN/samples.jsonl    mask probabilities of a few texts while the policy learns, see nmg.meta_training.samples
RUN/policy/          the policy that the learner returns (config.json, model.safetensors); missing if it selects none
RUN/effects.json     findings of the learner, if it reports any
RUN/recommended.yaml the settings with the tuned recipe, if the policy has one
RUN/checkpoints/, RUN/replay/   see nmg.meta_training.checkpoint
"""

import platform
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nmg.base.errors import Diverged, UserError, bad_input
from nmg.base.files import append_line, as_json, write_text
from nmg.base.json_lines import read_lines
from nmg.base.outputs import RECOMMENDED, check_output, output_lock
from nmg.base.progress import Reporter
from nmg.base.types import PHASES
from nmg.config import Config, load_config
from nmg.data.overlap import report_overlaps
from nmg.executors.registry import require_single_process
from nmg.learners.base import LearnerState, Tensors
from nmg.meta_training.checkpoint import Checkpoint, keep_checkpoint, load_checkpoint, save_checkpoint
from nmg.meta_training.log import read_facts
from nmg.meta_training.loop import EpisodeRecord, MetaTraining
from nmg.meta_training.samples import log_samples
from nmg.policies.card import Provenance
from nmg.tasks.loaded import LoadedData
from nmg.training.runtime import package_versions
from nmg.trials.provenance import check_unchanged, input_digests
from nmg.trials.session import Session
from nmg.trials.trackers import check_trackers, start_trackers

TIES_BEFORE_WARNING = 3
"""Number of consecutive ties after which the user is warned."""
TIED = (
    f"all players have had equal scores for {TIES_BEFORE_WARNING} episodes, so there is nothing to learn from. Use "
    "more validation examples, a longer adaptation, or '--reward.metric loss' to distinguish the players."
)
DIVERGED_BEFORE_END = 3
"""Number of consecutive episodes with diverged training after which the run stops."""

OnEpisode = Callable[[EpisodeRecord, int], None]
"""Called after each episode with its record and the planned number of episodes of the run."""


def start(config: Config, out: Path, reporter: Reporter, on_episode: OnEpisode) -> MetaTraining:
    """Start a meta-training run in the empty folder `out` and run all its episodes.

    Args:
        config: The settings of the run.
        out: The folder of the run.
        reporter: Receives messages for the user.
        on_episode: Called after each episode.

    Returns:
        The finished run.

    Raises:
        UserError: If the settings, data, model or folder are invalid, or if training diverges in several consecutive
            episodes.
    """
    require_single_process("learn")
    check_output(out, "another run (continue it with --resume)")
    check_trackers(config)
    with output_lock(out):
        session = Session.open_all(config, reporter)
        inputs, session = input_digests(session), session.preflight()
        training = MetaTraining(session.with_head())
        report_overlaps(_sides(training, session.loaded), reporter)
        describe_run(out, training, inputs)
        go_on(training, out, reporter, on_episode)
    return training


def recorded_config(out: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the settings that the run in `out` recorded, with overrides. Raises UserError if there is no such run."""
    if not (out / "config.yaml").is_file():
        raise UserError(f"--resume {out}: this folder contains no run (no config.yaml)")
    if (job := read_facts(out).get("job")) is not None:
        raise UserError(
            f"--resume {out}: this folder contains a run of nmg {job}. Continue it: nmg {job} --resume {out}"
        )
    return load_config(out / "config.yaml", overrides)


def continue_run(config: Config, out: Path, reporter: Reporter, on_episode: OnEpisode) -> MetaTraining:
    """Continue a run from its last checkpoint; the result is the same as that of an uninterrupted run.

    Args:
        config: The settings of the run; only `meta.episodes` and `runtime.*` may differ from the recorded ones.
        out: The folder of the run.
        reporter: Receives messages for the user.
        on_episode: Called after each episode.

    Returns:
        The finished run.

    Raises:
        UserError: If settings, data or model have changed, if no usable checkpoint is left, or if training diverges in
            several consecutive episodes.
    """
    require_single_process("learn")
    recorded = recorded_config(out)
    meta = config.meta.model_copy(update={"episodes": recorded.meta.episodes})
    if config.model_copy(update={"meta": meta}).digest != recorded.digest:
        raise UserError(f"--resume {out}: only meta.episodes and runtime settings may change when a run is resumed")
    check_trackers(config)
    with output_lock(out):
        session = Session.open_all(config, reporter)
        check_unchanged(out, _inputs_then(out), session)
        training = MetaTraining(session.preflight().with_head())
        restore(training, out, reporter)
        write_text(out / "config.yaml", config.to_yaml())
        _cut_log(out / "metrics.jsonl", training.next_episode, reporter)
        reporter.notify(f"resuming after {training.next_episode} of {training.planned_episodes} episodes")
        go_on(training, out, reporter, on_episode)
    return training


def go_on(training: MetaTraining, out: Path, reporter: Reporter, on_episode: OnEpisode) -> None:
    """Run the remaining episodes and record each one in the folder of the run.

    Args:
        training: The run, new or restored.
        out: The folder of the run.
        reporter: Receives messages for the user.
        on_episode: Called after each episode.

    Raises:
        UserError: Training diverged in each of `DIVERGED_BEFORE_END` consecutive episodes.
        Diverged: The weights of the learner are not finite.
    """
    _write_progress(training, out)
    log_samples(training, out / "samples.jsonl")
    ties, diverged = 0, training.diverged_in_a_row
    with start_trackers(training.config, out) as track, training.engine:
        while not training.is_finished:
            records = training.round()
            for record in records:
                append_line(out / "metrics.jsonl", as_json(record.to_json()))
            checkpoint(training, out, len(records))
            log_samples(training, out / "samples.jsonl")
            for record in records:
                track(record.to_json(), record.episode)
                ties = ties + 1 if record.is_tie else 0
                if ties == TIES_BEFORE_WARNING:
                    reporter.notify(TIED)
                on_episode(record, training.planned_episodes)
                diverged = diverged + 1 if record.diverged else 0
                if diverged >= DIVERGED_BEFORE_END:
                    raise UserError(_diverged(record, diverged))
    _publish(training, out)
    for name, policy in training.learner.extra_policies().items():
        policy.save_pretrained(out / name)
    _write_progress(training, out)  # last: a reader that sees a finished run then finds all its files


def _publish(training: MetaTraining, out: Path) -> None:
    """Write the findings and the learner's current policy, or remove the policy if the learner selects none."""
    findings = {**training.learner.findings(), **training.credit.findings()}
    if findings:
        write_text(out / "effects.json", as_json(findings, indent=1) + "\n")
    if training.learner.has_policy:
        policy = training.learner.policy
        policy.save_pretrained(out / "policy", Provenance.read(out))
        if policy.config.recipe is not None:
            write_text(out / RECOMMENDED, training.config.with_recipe(policy.config.recipe).to_yaml())
    else:  # the folder has the best rule so far
        shutil.rmtree(out / "policy", ignore_errors=True)


def checkpoint(training: MetaTraining, out: Path, n_new: int = 1) -> None:
    """Write a checkpoint with everything that an exact continuation needs, and delete files no longer needed.

    Args:
        training: The run, after an episode.
        out: The folder of the run.
        n_new: Number of episodes since the last checkpoint.

    Raises:
        Diverged: The learner's weights are not finite; the previous checkpoint is left unchanged.
    """
    saved, policy = training.learner.save(), training.learner.policy
    if not all(bool(tensor.isfinite().all()) for tensors in saved.files.values() for tensor in tensors.values()):
        raise Diverged(
            f"the learner diverged: after {training.next_episode} episodes its weights are not finite. Start a new run "
            "with a lower learner.learning_rate."
        )
    files: dict[str, Tensors] = dict(saved.files)
    if training.config.meta.continual:
        files["lm"] = training.lm_state
    facts = {
        "next_episode": training.next_episode,
        "diverged_in_a_row": training.diverged_in_a_row,
        "learner": saved.facts,
    }
    every = training.config.meta.checkpoint_every
    if training.next_episode // every > (training.next_episode - n_new) // every:
        kept = {"learner-policy": policy.state_dict()} | {name: files[name] for name in files if name == "lm"}
        keep_checkpoint(out, training.next_episode, kept, facts)  # first: a resumed run does not write it again
    save_checkpoint(out, training.next_episode, files, facts, saved.immutable)
    _publish(training, out)


def restore(training: MetaTraining, out: Path, reporter: Reporter) -> None:
    """Restore the state of the newest intact checkpoint; without a checkpoint, `training` is left unchanged.

    Args:
        training: The run to restore, built from the same settings.
        out: The folder of the run.
        reporter: Receives messages about damaged files.

    Raises:
        UserError: No usable checkpoint is left, or the last one is incomplete.
    """
    found = load_checkpoint(out)
    if found is None:
        return
    facts = found.facts
    training.next_episode = int(facts["next_episode"])
    training.diverged_in_a_row = int(facts["diverged_in_a_row"])
    try:
        training.learner.restore(LearnerState(found.files, facts["learner"], found.immutable))
    except KeyError as error:
        raise UserError(f"{out}: the last checkpoint lacks {error}: start a new run") from error
    if "lm" in found.files:
        device = training.context.runtime.device
        training.lm_state = {name: tensor.to(device) for name, tensor in found.files["lm"].items()}
    for line in _damage(found):
        reporter.notify(line)


def _damage(found: Checkpoint) -> Iterator[str]:
    """Yield messages about damaged files for the user."""
    if found.damaged:
        names = ", ".join(map(str, found.damaged))
        yield f"damaged: {names}. The run continues from the checkpoint after {found.facts['next_episode']} episodes."
    if found.lost:
        yield (
            f"The replay continues without the states of {', '.join(found.lost)}, so the result differs from that of a "
            "run without damaged files."
        )


def describe_run(out: Path, training: MetaTraining, inputs: Mapping[str, str]) -> None:
    """Write the resolved settings to config.yaml and the facts about the run to run.json.

    Args:
        out: The folder of the run, created if it is missing.
        training: The run, before its first episode.
        inputs: The `input_digests` of the run.
    """
    config, runtime = training.config, training.context.runtime
    facts: dict[str, Any] = {
        "command": sys.argv,
        "settings_digest": config.digest,
        "inputs": dict(inputs),
        "seed": config.run.seed,
        "python": platform.python_version(),
        "device": runtime.device.type,
        "precision": runtime.precision,
        "versions": package_versions(),
        **_progress(training),
    }
    out.mkdir(parents=True, exist_ok=True)
    _write_facts(out, facts)
    write_text(out / "config.yaml", config.to_yaml())  # last: this file marks the folder as a run


def _progress(training: MetaTraining) -> dict[str, Any]:
    """Return the facts of run.json that change: planned number of episodes, and whether the run is finished."""
    return {"planned_episodes": training.planned_episodes, "is_finished": training.is_finished}


def _write_progress(training: MetaTraining, out: Path) -> None:
    facts = read_facts(out)
    if (told := {**facts, **_progress(training)}) != facts:
        _write_facts(out, told)


def _write_facts(out: Path, facts: Mapping[str, Any]) -> None:
    write_text(out / "run.json", as_json(facts, indent=2) + "\n")


def _inputs_then(run: Path) -> dict[str, str]:
    """Return the `input_digests` that the run began with. Raises UserError if run.json does not contain them."""
    inputs = read_facts(run).get("inputs")
    if not isinstance(inputs, dict):
        problem = "the file or the field is missing, so the inputs of the run cannot be checked: start a new run"
        raise bad_input(run / "run.json", problem, field="inputs")
    return inputs


def _sides(training: MetaTraining, loaded: LoadedData) -> dict[str, Collection[str]]:
    """Return purpose ('train', …) → texts of the run, one per example, for purposes that may share texts."""
    data, seen = training.data, set(training.split.train_context_ids.tolist())
    settings, validation = training.config.data, [example.passage for example in training.split.validation_examples]
    if settings.drop_duplicates:  # only a validation set that was split off may still be in the corpus
        is_split_off = settings.validation is None and settings.corpus is not None
        return {"validation": validation, "corpus": loaded.corpus_texts} if is_split_off else {}
    sides: dict[str, Collection[str]] = {
        "train": [example.passage for example in data.train if example.context_id in seen],
        "validation": validation,
        "test": [example.passage for example in data.test or ()],
    }
    if settings.corpus is not None:
        sides["corpus"] = loaded.corpus_texts
    return sides


def _cut_log(path: Path, episodes: int, reporter: Reporter) -> None:
    """Remove lines of episodes after the checkpoint, repeated lines and broken lines from the log."""
    found = read_lines(path)
    of_episode = {line["episode"]: line for line in found.records if line.get("episode") in range(1, episodes + 1)}
    if found.broken:
        reporter.notify(f"{path}: removed invalid lines: {', '.join(map(str, found.broken))}")
    if path.is_file():
        write_text(path, "".join(as_json(of_episode[episode]) + "\n" for episode in sorted(of_episode)))


def _diverged(record: EpisodeRecord, in_a_row: int) -> str:
    player, what = next(iter(record.diverged.items()))
    return f"training diverged in {in_a_row} consecutive episodes, most recently for the player '{player}': {what}"


def episode_line(record: EpisodeRecord, episodes: int) -> str:
    """Return one line for the terminal: scores of the players, reward, entropy and seconds of the episode."""
    players = "  ".join(f"{name} {record.scores[name][record.metric]:.4f}" for name in sorted(record.scores))
    reward, update = record.learning.get("mean_reward"), record.learning.get("learner_update")
    reward = "" if reward is None else f"  reward {reward:+.3f}"
    entropy = f"  entropy {update['entropy_per_row']:.3f}" if update else ""
    tie = "  (tie: no reward)" if record.is_tie else ""
    tie += f"  (diverged: {', '.join(record.diverged)})" if record.diverged else ""
    seconds = sum(record.seconds[phase] for phase in PHASES)
    return f"episode {record.episode}/{episodes}  {record.metric}: {players}{reward}{entropy}  {seconds:.1f} s{tie}"
