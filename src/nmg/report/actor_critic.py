"""The parts of a meta-training page that only the actor-critic has: rewards, credit and the state of the policy."""

from collections.abc import Sequence

import numpy as np

from nmg.base.types import FloatArray
from nmg.meta_training.log import RunLog
from nmg.report.document import Block, Figure, Paragraph, Section, Table
from nmg.report.numbers import NOTHING, count_text, number_text, p_equals, percent, signed_text
from nmg.report.run_plots import Panel, bars_plot, curves_plot
from nmg.report.run_scores import RECENT, duels, players_of

CASES = {
    "alone": "learner alone",
    "with_random": "random too",
    "with_opponent": "opponent too",
    "with_both": "all (dropped)",
}
"""Case of `credit_by_case` in the actor-critic's rewards → its label: which players took the action."""
HIGH_RATIO = 1e3
"""Importance ratio above which the page warns."""
COLLAPSED = 0.1
"""Fraction of its first value below which the entropy of the policy causes a warning."""


def sections(log: RunLog) -> list[Section]:
    """Return the sections on rewards and on the policy; the run must have at least one episode."""
    return [Section("Rewards and credit", _rewards(log)), Section("Policy", _policy(log))]


def summary(log: RunLog) -> str:
    """Return one sentence per other player: how often the learner won, lost and tied against it."""
    return " ".join(
        f"Against the {'random player' if one.rival == 'random' else one.rival} the learner won "
        f"{count_text(one.wins, 'episode')}, lost {one.losses} and tied in {one.ties} "
        f"(sign test: {p_equals(one.p)})."
        for one in duels(log)
    )


def warnings(log: RunLog) -> list[str]:
    """Return a warning for each apparent problem of the run, with advice on how to solve it."""
    found = []
    if log.episodes and all(episode["is_tie"] for episode in log.episodes):
        found.append(
            f"**All rewards are 0 so far** ({count_text(len(log.episodes), 'episode')}): the players have the same "
            "scores, so the policy learns nothing. Use more validation examples (`data.validation`, "
            "`meta.validation_fraction`), a longer adaptation (`adapt.epochs`, `adapt.learning_rate`), or "
            "`--learner.reward difference --reward.metric loss`."
        )
    ratios = np.array(log.series("learner_update", "ratio_max"))
    if (is_high := ratios > HIGH_RATIO).any():
        worst, n_high = int(np.nanargmax(ratios)), count_text(int(is_high.sum()), "episode")
        found.append(
            "**The policy is far from the policies that filled its replay.** The largest importance ratio is "
            f"{number_text(ratios[worst])} (episode {worst + 1}; above {HIGH_RATIO:.0f} in {n_high}), so a few old "
            "actions dominate the updates. Use smaller steps (`learner.learning_rate`, "
            "`learner.updates_per_episode`), or a smaller replay (`learner.replay_capacity`, "
            "`learner.replay_max_states`)."
        )
    entropies = finite(log.series("learner_update", "entropy_per_row"))
    if len(entropies) and entropies[-1] < COLLAPSED * entropies[0]:
        found.append(
            f"**The policy has collapsed to a few tokens.** Its entropy fell from {entropies[0]:.2g} to "
            f"{entropies[-1]:.2g}, so it hardly explores and will not improve. Raise `learner.entropy_coef` or lower "
            "`learner.learning_rate`."
        )
    return found


def _rewards(log: RunLog) -> list[Block]:
    curves = {"mean of actions": log.series("mean_reward")}
    if "opponent" in players_of(log):
        against = [e["reward_opponent"] if "opponent" in e["scores"] else np.nan for e in log.episodes]
        curves["against opponent"] = against
    curves["against random"] = log.series("reward_random")
    kind = getattr(log.config.learner, "reward", "sign")
    blocks: list[Block] = [
        Figure(
            curves_plot([Panel("reward", curves, reference=0.0)], "Rewards by episode"),
            f"Rewards of the learner ({kind} of {log.metric}) against every other player, and the mean reward of the "
            "learner's stored actions.",
        )
    ]
    actions = {case: np.nan_to_num(log.series("credit", case, "actions")) for case in CASES}
    rewards = {case: np.nan_to_num(log.series("credit", case, "reward")) for case in CASES}
    of_episode = np.maximum(sum(actions.values()), 1)
    shares = {CASES[case]: 100 * counts / of_episode for case, counts in actions.items()}
    n_actions = sum(counts.sum() for counts in actions.values())
    rows = []
    for case, counts in actions.items():
        n = counts.sum()
        mean = signed_text((counts * rewards[case]).sum() / n) if n and case != "with_both" else NOTHING
        rows.append((CASES[case], f"{n:,.0f}", percent(n / max(n_actions, 1)), mean))
    return [
        *blocks,
        Table(
            ("action taken by", "actions", "share", "mean reward"),
            tuple(rows),
            (
                "The reward of an action compares the learner with the players that did not take the action; if "
                "neither did, the lower reward counts. Actions that all players took carry no information and are "
                "dropped. Before the opponent takes part, the random player replaces it.",
            ),
            "Credit by case",
        ),
        Figure(
            bars_plot(shares, "% of actions", "Credit by episode"),
            "The learner's actions by which other players also took them.",
        ),
    ]


def _policy(log: RunLog) -> list[Block]:
    if not any("learner_update" in episode for episode in log.episodes):
        wanted = max(getattr(log.config.learner, "learning_starts", 0), 1)
        held = log.episodes[-1]["transitions"]
        text = f"No update yet: updates begin when the replay has {wanted:,} transitions; it has {held:,}."
        return [Paragraph(text)]
    learners = {p: f"{p}_update" for p in ("learner", "opponent") if any(f"{p}_update" in e for e in log.episodes)}
    ratios = {name: log.series("learner_update", f"ratio_{name}") for name in ("mean", "max")}
    ages = {"sampled": log.series("learner_update", "age"), "stored": log.series("replay_age")}
    panels = [
        Panel("entropy", {p: log.series(update, "entropy_per_row") for p, update in learners.items()}),
        Panel("value error", {p: log.series(update, "value_loss") for p, update in learners.items()}),
        Panel("importance ratio", ratios, reference=1.0, may_be_logarithmic=True),
        Panel("replay age (episodes)", ages),
    ]
    rows = (
        ("entropy (nats per token)", "learner_update", "entropy_per_row"),
        ("value error", "learner_update", "value_loss"),
        ("mean importance ratio", "learner_update", "ratio_mean"),
        ("largest importance ratio", "learner_update", "ratio_max"),
        ("absolute advantage", "learner_update", "advantage"),
        ("norm of the gradient", "learner_update", "grad_norm"),
        ("age of sampled transitions (episodes)", "learner_update", "age"),
        ("age of stored transitions (episodes)", "replay_age"),
        ("stored transitions", "transitions"),
    )
    return [
        Figure(
            curves_plot(panels, "Policy by episode"),
            "Entropy: mean over tokens of −p log p. Value error: mean squared error of the predicted reward. "
            "Importance ratio (learner): probability of an action under the current policy divided by its probability "
            "when it was taken. Replay age: mean age in episodes of the transitions that updates sampled, and of all "
            "stored transitions.",
        ),
        Table(
            ("learner", "first", f"mean of the last {RECENT}", "lowest", "highest"),
            tuple((name, *_summary(values)) for name, *path in rows if len(values := finite(log.series(*path)))),
            caption="The policy in numbers",
        ),
    ]


def _summary(values: FloatArray) -> tuple[str, ...]:
    """Return first value, recent mean, minimum and maximum as text."""
    return tuple(number_text(float(v)) for v in (values[0], values[-RECENT:].mean(), values.min(), values.max()))


def finite(values: Sequence[float]) -> FloatArray:
    """Return the finite values as a float array [at most n]."""
    array: FloatArray = np.asarray(values, dtype=float)
    return array[np.isfinite(array)]
