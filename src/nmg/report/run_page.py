"""The page of a meta-training run, generated from the run's log during the run or after it."""

import json
from pathlib import Path, PurePath
from shlex import quote

import numpy as np

from nmg.base.numerals import duration_text
from nmg.base.types import INNER_PHASES, PHASES
from nmg.meta_training.log import RunLog
from nmg.report.document import (
    Block,
    Details,
    Document,
    Facts,
    Figure,
    Notice,
    Paragraph,
    Section,
    ShadedRow,
    ShadedText,
    ShadedTexts,
    ShadedToken,
    Table,
    Verdict,
)
from nmg.report.learner_parts import learner_sections, warnings
from nmg.report.numbers import NOTHING, percent, score_text
from nmg.report.run_plots import bars_plot
from nmg.report.run_scores import RECENT, leaders_of, score_blocks
from nmg.report.verdicts import learn_verdict

SNAPSHOTS_SHOWN = 6


def run_page(log: RunLog, refresh_seconds: int | None = None) -> Document:
    """Build the page of a run.

    The browser reloads the page every `refresh_seconds` until the run is finished; None for never.
    """
    done, in_all = len(log.episodes), log.planned_episodes
    if log.is_finished:
        verdict = learn_verdict(log, Path(log.name))
    else:
        verdict = Verdict("The run is not finished.", command=f"nmg learn --resume {quote(log.name)}")
    first: list[Block] = [verdict, *map(Notice, warnings(log)), facts(log)]
    if not done:
        first.append(Paragraph("No episode has ended yet. Write this page again after the first episode."))
    sections = [Section("The run", first)]
    if log.sound.episodes:
        sections.append(Section("Scores", score_blocks(log.sound)))
        sections += learner_sections(log.sound)
    if done:
        sections.append(Section("Time", _time(log), is_folded=True))
    sections += [Section("Sample masks", sample_blocks(log)), Section("Settings", _settings(log))]
    return Document(
        f"Learning masks: {log.name}",
        f"nmg learn · {done} of {in_all} episodes" + (" · finished" if log.is_finished else ""),
        sections,
        None if log.is_finished else refresh_seconds,
    )


def facts(log: RunLog) -> Facts:
    """Return progress, times, device, data and settings of the run."""
    config, done = log.config, len(log.episodes)
    seconds = _episode_seconds(log)
    shown = [("episodes", f"{done} of {log.planned_episodes}")]
    if log.sound.episodes:
        metric = log.metric
        of_players = [log.sound.series("scores", player, metric) for player in leaders_of(log.sound)]
        scores = np.nanmin(of_players, axis=0) if metric == "loss" else np.nanmax(of_players, axis=0)
        best = int(np.nanargmin(scores) if metric == "loss" else np.nanargmax(scores))
        number = log.sound.episodes[best]["episode"]
        shown += [
            ("best episode", f"{number} ({metric} {score_text(scores[best], metric)})"),
            ("time", duration_text(sum(seconds))),
            ("time per episode", duration_text(float(np.mean(seconds)))),
        ]
        if not log.is_finished:
            left = (log.planned_episodes - done) * float(np.mean(seconds[-RECENT:]))
            shown.append(("time left, about", duration_text(left)))
    if done and log.last_episode_at:
        shown.append(("last episode ended", f"{log.last_episode_at:%Y-%m-%d %H:%M}"))
    if "device" in log.facts:
        shown.append(("device", f"{log.facts['device']}, {log.facts['precision']}"))
    shown += [
        ("model", _short(config.model.name)),
        ("task", config.data.task),
        ("data", _short(config.data.train or NOTHING)),
        ("masking rate", percent(config.masking.rate)),
        ("learner", config.learner.kind),
        ("seed", str(config.run.seed)),
    ]
    return Facts(tuple(shown))


def _time(log: RunLog) -> list[Block]:
    """Return a figure and a table of the time per phase."""
    seconds = {lap: np.array(log.series("seconds", lap)) for lap in PHASES}
    inner = {phase: np.nan_to_num(log.series("seconds", phase)) for phase in INNER_PHASES}  # none if all diverged
    parts = {
        "states, masks": seconds["masks"],
        "adapt": inner["adapt"],
        "fine-tune": inner["finetune"],
        "evaluate": inner["evaluate"],
        "other": np.maximum(seconds["inner loops"] - sum(inner.values()), 0.0),
        "update": seconds["update"],
    }
    total = sum(part.sum() for part in parts.values())
    rows = [
        (name, duration_text(part.sum()), percent(part.sum() / max(total, 1e-9)), duration_text(part.mean()))
        for name, part in parts.items()
    ]
    rows.append(("all", duration_text(total), percent(1.0), duration_text(total / len(log.episodes))))
    return [
        Figure(
            bars_plot(parts, "seconds", "Time by phase"),
            "Seconds per episode; adapt, fine-tune and evaluate are summed over all players.",
        ),
        Table(
            ("phase", "time", "share", "per episode"),
            tuple(rows),
            (
                "States, masks: computing the LM's states for the policy, and selecting masks. Other: the rest of the "
                "inner loops, such as copying weights. Writing logs and checkpoints is not counted.",
            ),
            "Time by phase",
        ),
    ]


def sample_blocks(log: RunLog) -> list[Block]:
    """Return the sample texts, shaded by the policy's probabilities at up to `SNAPSHOTS_SHOWN` points of the run."""
    if not log.snapshots:
        return [Paragraph("This run has no sample masks (`samples.jsonl`).")]
    picked = sorted({round(i) for i in np.linspace(0, len(log.snapshots) - 1, SNAPSHOTS_SHOWN)})
    texts = []
    for number, text in enumerate(log.texts):
        rows = []
        for snapshot in [log.snapshots[i] for i in picked]:
            taken = set(snapshot["taken"][number])
            columns = zip(
                text["tokens"], text["starts_word"], text["is_maskable"], snapshot["probabilities"][number], strict=True
            )
            tokens = tuple(
                ShadedToken(token, p, starts, is_special=not maskable, is_masked=column in taken)
                for column, (token, starts, maskable, p) in enumerate(columns)
            )
            rows.append(ShadedRow(f"after {snapshot['episodes']}" if snapshot["episodes"] else "at the start", tokens))
        texts.append(ShadedText(f"Text {number + 1}", tuple(rows)))
    return [
        Paragraph(
            "The same texts under the policy at the start and after the given number of episodes. Shade: probability "
            "that a single draw selects the token; an episode draws several tokens without replacement. Underlined: "
            "the tokens that the policy masks without exploration, which are the most probable ones up to the masking "
            "rate."
        ),
        ShadedTexts(tuple(texts)),
    ]


def _settings(log: RunLog) -> list[Block]:
    blocks: list[Block] = [Details("All settings", log.config.to_yaml())]
    if log.facts:
        blocks.append(Details("Command and versions", json.dumps(log.facts, indent=2)))
    return blocks


def _episode_seconds(log: RunLog) -> list[float]:
    """Return the time of each episode in seconds, summed over its phases."""
    return [sum(episode["seconds"][lap] for lap in PHASES) for episode in log.episodes]


def _short(name: str) -> str:
    """Return the last two parts of a path or hub name, with a possible line break between them."""
    return "/\u200b".join(PurePath(name).parts[-2:])
