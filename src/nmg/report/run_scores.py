"""The parts of a meta-training page on the scores of the players, by episode."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from nmg.meta_training.log import RunLog
from nmg.report.document import Block, Figure, Table
from nmg.report.labels import series_colours
from nmg.report.numbers import (
    best_rows,
    count_text,
    distinct_columns,
    p_text,
    score_text,
    shown_scale,
    signed_text,
)
from nmg.report.plots import axis_name, scaled_name
from nmg.report.run_plots import Panel, curves_plot

LEADER = "learner"
"""Name of the player whose policy the run keeps, for learners that have such a player."""
KNOWN = (LEADER, "opponent", "random")
"""Players that are listed first in legends, in this order."""
STAGES = {"explore": "exploring", "tune": "tuning (optimistic)", "gate": "confirmation"}
"""Stage of a designed experiment → its name on pages. Scores of the tuning stage choose, so they are optimistic."""
IMPORTANT = (LEADER, "policy", "random", "rule", "none", "opponent")
"""Players that get a colour first if there are more players than colours."""
RECENT = 10
"""Number of last episodes over which recent means are computed."""


class Duel(NamedTuple):
    """Wins and losses of the leader against another player, over the episodes in which both took part."""

    rival: str
    episodes: int
    wins: int
    losses: int
    reward: float
    """Mean reward of the leader."""
    p: float | None
    """p value of a two-sided sign test; None if all episodes are ties."""

    @property
    def ties(self) -> int:
        """Number of episodes that neither player won."""
        return self.episodes - self.wins - self.losses


def duels(log: RunLog) -> list[Duel]:
    """Return one duel per other player; empty if the run has no leader."""
    found = []
    for rival in [player for player in players_of(log) if player != LEADER and f"reward_{player}" in log.episodes[0]]:
        rewards = np.array([e[f"reward_{rival}"] for e in log.episodes if rival in e["scores"]])
        wins, losses = int((rewards > 0).sum()), int((rewards < 0).sum())
        p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else None
        found.append(Duel(rival, len(rewards), wins, losses, float(rewards.mean()), p))
    return found


def score_blocks(log: RunLog) -> list[Block]:
    """Return the plot of scores, the table of wins (if there is a leader) and the table of recent scores."""
    metric, players, fought = log.metric, players_of(log), duels(log)
    curves = {p: shown_scale(metric) * np.array(log.series("scores", p, metric)) for p in players}
    better = -1 if metric == "loss" else 1
    colours = series_colours(players, IMPORTANT)
    panels = [Panel(axis_name(metric), curves, colours=colours)]
    if LEADER in curves:
        leads = {f"over {p}": better * (curves[LEADER] - curve) for p, curve in curves.items() if p != LEADER}
        of_leads = {f"over {p}": colour for p, colour in colours.items()}
        panels.append(Panel("lead of the learner (above 0 is better)", leads, reference=0.0, colours=of_leads))
    pair = " plus and minus: a random direction of the policy's weights, and its opposite." if "plus" in curves else ""
    return [
        Figure(
            curves_plot(panels, "Scores by episode", stages_of(log)),
            f"{scaled_name(metric)} of each player on the validation set, with a dot per episode and a line for the "
            "running mean. Scores vary with the texts and examples of an episode, which all its players share." + pair,
        ),
        *([_wins(fought)] if fought else []),
        _recent_scores(log),
    ]


def _wins(fought: Sequence[Duel]) -> Table:
    rows = []
    for one in fought:
        counts = map(str, (one.episodes, one.wins, one.ties, one.losses))
        rows.append((f"against {one.rival}", *counts, signed_text(one.reward), p_text(one.p)))
    return Table(
        ("learner", "episodes", "wins", "ties", "losses", "mean reward", "p"),
        tuple(rows),
        (
            "A policy without any advantage wins half of the episodes that are not ties; p: two-sided sign test "
            "against this. Only a comparison on a test set measures how good a policy is.",
        ),
        "Wins against the other players",
    )


def _recent_scores(log: RunLog) -> Table:
    """Return a table of the mean scores of the last episode's players, over recent episodes in which all took part."""
    last = log.episodes[-1]["scores"]
    shared = [e["scores"] for e in log.episodes[-RECENT:] if set(last) <= set(e["scores"])]
    players, metrics = [p for p in players_of(log) if p in last], list(next(iter(last.values())))
    means = {metric: [float(np.mean([e[p][metric] for e in shared])) for p in players] for metric in metrics}
    columns = {metric: [score_text(mean, metric) for mean in of_players] for metric, of_players in means.items()}
    shown = distinct_columns(columns)
    rows = tuple(zip(players, *(columns[metric] for metric in shown), strict=True))
    note = f"Mean over the last {count_text(len(shared), 'episode')}; scores × 100, losses unscaled (lower is better)."
    return Table(("player", *shown), rows, (note,), "Recent scores", marks=best_rows(means[log.metric], log.metric))


def stages_of(log: RunLog) -> list[tuple[int, str]]:
    """Return the first episode and the name of each stage of a designed experiment; empty for other learners."""
    first: dict[str, int] = {}
    for number, episode in enumerate(log.episodes, start=1):
        if "stage" in episode:
            first.setdefault(STAGES[episode["stage"]], number)
    return [(number, name) for name, number in first.items()]


def players_of(log: RunLog) -> list[str]:
    """Return all players of the run: first those of `KNOWN`, then the others in order of appearance."""
    found = dict.fromkeys(player for episode in log.episodes for player in episode["scores"])
    return [*(player for player in KNOWN if player in found), *(player for player in found if player not in KNOWN)]


def leaders_of(log: RunLog) -> list[str]:
    """Return the players whose scores measure the run's policies: the leader or, without one, all players."""
    players = players_of(log)
    return [LEADER] if LEADER in players else players
