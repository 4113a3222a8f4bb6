"""The parts of a meta-training page on the scores of the players, by episode."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from nmg.meta_training.log import RunLog
from nmg.report.document import Block, Figure, Table
from nmg.report.numbers import count_text, p_text, score_text, shown_scale, signed_text
from nmg.report.plots import axis_name
from nmg.report.run_plots import Panel, curves_plot

LEADER = "learner"
"""Name of the player whose policy the run keeps, for learners that have such a player."""
KNOWN = (LEADER, "opponent", "random")
"""Players that are listed first in legends, in this order."""
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
    panels = [Panel(axis_name(metric), curves)]
    if LEADER in curves:
        leads = {f"over {p}": better * (curves[LEADER] - curve) for p, curve in curves.items() if p != LEADER}
        panels.append(Panel("lead of the learner", leads, reference=0.0, first_colour=1))
    return [
        Figure(
            curves_plot(panels, "Scores by episode"),
            f"{axis_name(metric)} of each player on the validation set, with a dot per episode and a line for the "
            "running mean. Scores vary with the texts and examples of an episode, which all its players share."
            + (" Right: the lead of the learner, above 0 if it is better." if LEADER in curves else ""),
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
    players = log.episodes[-1]["scores"]
    shared = [e["scores"] for e in log.episodes[-RECENT:] if set(players) <= set(e["scores"])]
    rows = []
    for player in [p for p in players_of(log) if p in players]:
        means = {metric: float(np.mean([scores[player][metric] for scores in shared])) for metric in players[player]}
        rows.append((player, *(score_text(mean, metric) for metric, mean in means.items())))
    note = f"Mean over the last {count_text(len(shared), 'episode')}; scores × 100, losses unscaled."
    return Table(("player", *next(iter(players.values()))), tuple(rows), (note,), "Recent scores")


def players_of(log: RunLog) -> list[str]:
    """Return all players of the run: first those of `KNOWN`, then the others in order of appearance."""
    found = dict.fromkeys(player for episode in log.episodes for player in episode["scores"])
    return [*(player for player in KNOWN if player in found), *(player for player in found if player not in KNOWN)]


def leaders_of(log: RunLog) -> list[str]:
    """Return the players whose scores measure the run's policies: the leader or, without one, all players."""
    players = players_of(log)
    return [LEADER] if LEADER in players else players
