"""The page of a meta-training, made from what its folder says, during the run and after it."""

import json
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from scipy import stats

from nmg.report.page import (
    Block,
    Facts,
    Listing,
    Notice,
    PageContent,
    Paragraph,
    Plot,
    Section,
    ShadedRow,
    ShadedText,
    ShadedTexts,
    ShadedToken,
)
from nmg.report.run_log import RunLog
from nmg.report.run_plots import Panel, bars_plot, curves_plot
from nmg.report.tables import Table, p_text, score_text, shown_scale
from nmg.types import INNER_PHASES, PHASES, FloatArray

PLAYERS = ("learner", "opponent", "random")
"""phases that an episode goes through one after the other"""
CASES = {
    "alone": "learner alone",
    "with_random": "random too",
    "with_opponent": "opponent too",
    "with_both": "all (dropped)",
}
"""as in `rl.reward.credit_by_case`: who took an action"""
RECENT = 10
"""episodes over which a mean says how things are now"""
HIGH_RATIO = 1e3
COLLAPSED = 0.1
"""of the first entropy"""
SNAPSHOTS_SHOWN = 6


def run_page(log: RunLog, refresh_seconds: int | None = None) -> PageContent:
    """The page; with `refresh_seconds` the browser loads it again, until the run is finished."""
    done, in_all = len(log.episodes), log.config.meta.episodes
    first: list[Block] = [*map(Notice, warnings(log)), _facts(log)]
    if not done:
        first.append(Paragraph("No episode has ended yet. Make this page again when one has."))
    sections = [Section("The run", first)]
    if done:
        sections += [
            Section("Scores", _scores(log)),
            Section("Rewards and credit", _rewards(log)),
            Section("Policy", _policy(log)),
            Section("Time", _time(log)),
        ]
    sections += [Section("Sample masks", _samples(log)), Section("Settings", _settings(log))]
    return PageContent(
        f"Meta-training: {log.name}",
        f"{done} of {in_all} episodes" + (" · finished" if log.is_finished else ""),
        sections,
        None if log.is_finished else refresh_seconds,
    )


def warnings(log: RunLog) -> list[str]:
    """What seems to go wrong with a run, and what to do about it."""
    found = []
    if log.episodes and all(episode["is_tie"] for episode in log.episodes):
        found.append(
            f"**All rewards are 0 so far** ({_count(len(log.episodes), 'episode')}): the players score alike, and the "
            "policy learns nothing. More validation examples (`data.validation`, `meta.validation_share`), a longer "
            "adaptation (`adapt.epochs`, `adapt.learning_rate`), or `--reward.kind difference --reward.metric loss` "
            "tell them apart."
        )
    ratios = np.array(log.series("learner_update", "ratio_max"))
    if (is_high := ratios > HIGH_RATIO).any():
        worst = int(np.nanargmax(ratios))
        found.append(
            f"**The policy is far from what its replay holds.** An importance ratio of {_number(ratios[worst])} was "
            f"seen (episode {worst + 1}; above {HIGH_RATIO:.0f} in {_count(int(is_high.sum()), 'episode')}), so a few "
            "old actions rule the updates. Take smaller steps (`policy.learning_rate`, `policy.updates`), or forget "
            "old actions sooner (`replay.capacity`, `replay.max_states`)."
        )
    entropies = _numbers(log.series("learner_update", "entropy_per_row"))
    if len(entropies) and entropies[-1] < COLLAPSED * entropies[0]:
        found.append(
            f"**The policy has settled on a few tokens.** Its entropy is {entropies[-1]:.2g}; it began at "
            f"{entropies[0]:.2g}. It hardly explores any more, so it will not get better than it is. Raise "
            "`policy.entropy_weight` or lower `policy.learning_rate`."
        )
    return found


def _facts(log: RunLog) -> Facts:
    config, done = log.config, len(log.episodes)
    seconds = _episode_seconds(log)
    facts = [("episodes", f"{done} of {config.meta.episodes}")]
    if done:
        metric = _metric(log)
        scores = np.array(log.series("scores", "learner", metric))
        best = int(np.nanargmin(scores) if metric == "loss" else np.nanargmax(scores))
        facts += [
            ("best episode", f"{best + 1} ({metric} {score_text(scores[best], metric)})"),
            ("time", _duration(sum(seconds))),
            ("an episode", _duration(float(np.mean(seconds)))),
        ]
        if not log.is_finished:
            left = (config.meta.episodes - done) * float(np.mean(seconds[-RECENT:]))
            facts.append(("left, about", _duration(left)))
    if done and log.last_episode_at:
        facts.append(("last episode ended", f"{log.last_episode_at:%Y-%m-%d %H:%M}"))
    if "device" in log.facts:
        facts.append(("device", f"{log.facts['device']}, {log.facts['precision']}"))
    facts += [
        ("model", _short(config.model.name)),
        ("task", config.data.task),
        ("data", _short(config.data.train or "–")),
        ("masking rate", f"{config.masking.rate:.3g}"),
        ("opponent", config.meta.self_play),
        ("seed", str(config.run.seed)),
    ]
    return Facts(tuple(facts))


def _scores(log: RunLog) -> list[Block]:
    metric, players = _metric(log), _players(log)
    curves = {p: shown_scale(metric) * np.array(log.series("scores", p, metric)) for p in players}
    better = -1 if metric == "loss" else 1
    leads = {f"over {p}": better * (curves["learner"] - curve) for p, curve in curves.items() if p != "learner"}
    panels = [Panel(_metric_name(metric), curves), Panel("lead of the learner", leads, reference=0.0, first_colour=1)]
    return [
        Plot(
            curves_plot(panels, "Scores by episode"),
            f"Left: {_metric_name(metric)} of each player on the validation set, a dot for each episode and a line for "
            "the running mean. It moves with the texts and examples of an episode, which are the same for its players. "
            "Right: by how much the learner is better (above 0) or worse.",
        ),
        _wins(log),
        _recent_scores(log),
    ]


def _wins(log: RunLog) -> Table:
    rows = []
    for rival in [player for player in _players(log) if player != "learner"]:
        rewards = np.array([e[f"reward_{rival}"] for e in log.episodes if rival in e["scores"]])
        wins, losses = int((rewards > 0).sum()), int((rewards < 0).sum())
        p_value = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else None
        counts = map(str, (len(rewards), wins, len(rewards) - wins - losses, losses))
        rows.append((f"against {rival}", *counts, _signed(rewards.mean()), p_text(p_value)))
    return Table(
        ("learner", "episodes", "wins", "ties", "losses", "mean reward", "p"),
        tuple(rows),
        (
            "A policy no better than chance wins half of the episodes that are not ties; p: two-sided sign test of "
            "that. What a policy is worth in the end, only a comparison on a test set says.",
        ),
    )


def _recent_scores(log: RunLog) -> Table:
    """Of the players of the last episode, over the same episodes for all of them."""
    players = log.episodes[-1]["scores"]
    shared = [e["scores"] for e in log.episodes[-RECENT:] if set(players) <= set(e["scores"])]
    rows = []
    for player in [p for p in PLAYERS if p in players]:
        means = {metric: float(np.mean([scores[player][metric] for scores in shared])) for metric in players[player]}
        rows.append((player, *(score_text(mean, metric) for metric, mean in means.items())))
    note = f"Mean over the last {_count(len(shared), 'episode')}; scores × 100, losses as they are."
    return Table(("player", *players["learner"]), tuple(rows), (note,))


def _rewards(log: RunLog) -> list[Block]:
    curves = {"mean of actions": log.series("mean_reward")}
    if "opponent" in _players(log):
        against = [e["reward_opponent"] if "opponent" in e["scores"] else np.nan for e in log.episodes]
        curves["against opponent"] = against
    curves["against random"] = log.series("reward_random")
    kind = log.config.reward.kind
    blocks: list[Block] = [
        Plot(
            curves_plot([Panel("reward", curves, reference=0.0)], "Rewards by episode"),
            f"Rewards of the learner ({kind} of {_metric(log)}): against each other player, and the mean "
            "over its stored actions.",
        )
    ]
    if not any("credit" in episode for episode in log.episodes):
        return [*blocks, Paragraph("Credit was not logged when this run was made.")]
    actions = {case: np.nan_to_num(log.series("credit", case, "actions")) for case in CASES}
    rewards = {case: np.nan_to_num(log.series("credit", case, "reward")) for case in CASES}
    of_episode = np.maximum(sum(actions.values()), 1)
    shares = {CASES[case]: 100 * counts / of_episode for case, counts in actions.items()}
    n_actions = sum(counts.sum() for counts in actions.values())
    rows = []
    for case, counts in actions.items():
        n = counts.sum()
        mean = _signed((counts * rewards[case]).sum() / n) if n and case != "with_both" else "–"
        rows.append((CASES[case], f"{n:,.0f}", f"{n / max(n_actions, 1):.1%}", mean))
    return [
        *blocks,
        Table(
            ("action taken by", "actions", "share", "mean reward"),
            tuple(rows),
            (
                "An action earns the comparison with those players that did not take it; the lower one if neither did. "
                "What all took tells nothing and is dropped. Before the opponent plays, it is the random player.",
            ),
        ),
        Plot(bars_plot(shares, "% of actions", "Credit by episode"), "The learner's actions, by who else took them."),
    ]


def _policy(log: RunLog) -> list[Block]:
    if not any("learner_update" in episode for episode in log.episodes):
        wanted = max(log.config.replay.start, 1)
        held = log.episodes[-1]["transitions"]
        text = f"No update yet: updates begin once the replay holds {wanted:,} transitions; it holds {held:,}."
        return [Paragraph(text)]
    learners = {p: f"{p}_update" for p in ("learner", "opponent") if any(f"{p}_update" in e for e in log.episodes)}
    ratios = {name: log.series("learner_update", f"ratio_{name}") for name in ("mean", "max")}
    ages = {"drawn": log.series("learner_update", "age"), "held": log.series("replay_age")}
    panels = [
        Panel("entropy", {p: log.series(update, "entropy_per_row") for p, update in learners.items()}),
        Panel("value error", {p: log.series(update, "value_loss") for p, update in learners.items()}),
        Panel("importance ratio", ratios, reference=1.0, may_be_logarithmic=True),
    ]
    if len(_numbers(ages["held"])):
        panels.append(Panel("replay age (episodes)", ages))
    rows = (
        ("entropy (nats a token)", "learner_update", "entropy_per_row"),
        ("value error", "learner_update", "value_loss"),
        ("mean importance ratio", "learner_update", "ratio_mean"),
        ("largest importance ratio", "learner_update", "ratio_max"),
        ("absolute advantage", "learner_update", "advantage"),
        ("norm of the gradient", "learner_update", "grad_norm"),
        ("age of what is drawn (episodes)", "learner_update", "age"),
        ("age of what is held (episodes)", "replay_age"),
        ("transitions held", "transitions"),
    )
    return [
        Plot(
            curves_plot(panels, "Policy by episode"),
            "Entropy: mean over tokens of −p log p. Value error: mean squared error of the predicted reward. "
            "Importance ratio: probability of an action now over that when it was taken, for the learner. Replay age: "
            "for how many episodes the learner's replay has held the transitions that updates drew, and all it holds.",
        ),
        Table(
            ("learner", "first", f"mean of the last {RECENT}", "lowest", "highest"),
            tuple((name, *_summary(values)) for name, *path in rows if len(values := _numbers(log.series(*path)))),
        ),
    ]


def _summary(values: FloatArray) -> tuple[str, ...]:
    return tuple(_number(float(v)) for v in (values[0], values[-RECENT:].mean(), values.min(), values.max()))


def _time(log: RunLog) -> list[Block]:
    seconds = {lap: np.array(log.series("seconds", lap)) for lap in PHASES}
    inner = {phase: np.array(log.series("seconds", phase)) for phase in INNER_PHASES}
    parts = {
        "states, masks": seconds["encode"] + seconds["masks"],
        "adapt": inner["adapt"],
        "fine-tune": inner["finetune"],
        "evaluate": inner["evaluate"],
        "other": np.maximum(seconds["inner loops"] - sum(inner.values()), 0.0),
        "update": seconds["update"],
    }
    total = sum(part.sum() for part in parts.values())
    rows = [
        (name, _duration(part.sum()), f"{part.sum() / max(total, 1e-9):.1%}", _duration(part.mean()))
        for name, part in parts.items()
    ]
    rows.append(("all", _duration(total), "100.0%", _duration(total / len(log.episodes))))
    return [
        Plot(
            bars_plot(parts, "seconds", "Time by phase"),
            "Seconds of an episode; adapt, fine-tune and evaluate over all players.",
        ),
        Table(
            ("phase", "time", "share", "an episode"),
            tuple(rows),
            (
                "States, masks: the LM's states for the policy, and drawing the masks. Other: what else inner loops "
                "do, such as copying weights. Writing logs and checkpoints is not counted.",
            ),
        ),
    ]


def _samples(log: RunLog) -> list[Block]:
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
            "The same few texts under the policy as it was at the start and after so many episodes. A shade is the "
            "probability that a single draw takes the token; an episode draws several, none twice. Underlined is what "
            "the policy takes when it does not explore: the likeliest tokens, as many as the masking rate says."
        ),
        ShadedTexts(tuple(texts)),
    ]


def _settings(log: RunLog) -> list[Block]:
    blocks: list[Block] = [Listing("All settings", log.config.to_yaml())]
    if log.facts:
        blocks.append(Listing("Command and versions", json.dumps(log.facts, indent=2)))
    return blocks


def _metric(log: RunLog) -> str:
    return str(log.episodes[0]["metric"])


def _metric_name(metric: str) -> str:
    return metric if shown_scale(metric) == 1 else f"{metric} × {shown_scale(metric)}"


def _players(log: RunLog) -> list[str]:
    return [player for player in PLAYERS if any(player in episode["scores"] for episode in log.episodes)]


def _episode_seconds(log: RunLog) -> list[float]:
    return [sum(episode["seconds"][lap] for lap in PHASES) for episode in log.episodes]


def _numbers(values: Sequence[float]) -> FloatArray:
    """Those that are numbers."""
    array: FloatArray = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}".replace("-", "−")


def _signed(reward: float) -> str:
    return f"{reward:+.3f}".replace("-", "−") if round(reward, 3) else "0.000"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _short(name: str) -> str:
    """The last two parts of a path (a hub's name has no more), which may be broken between them."""
    return "/\u200b".join(PurePath(name).parts[-2:])
