"""The page of an audit; its verdict and tables are also for the terminal."""

import shlex
from pathlib import Path

from nmg.auditing.findings import RewardFinding, Schedule
from nmg.auditing.recommend import LEAST_CORRELATION, best_reward, is_sound
from nmg.auditing.result import AuditResult
from nmg.base.files import last_part
from nmg.data.overlap import near_duplicates_text
from nmg.report.document import Details, Document, Facts, Figure, Paragraph, Section, Table, Verdict
from nmg.report.numbers import NOTHING, decimal, difference_text, duration_text, p_equals, p_text, score_text
from nmg.report.plots import results_plot


def audit_page(result: AuditResult, out: Path) -> Document:
    """Build the page of an audit in the folder `out`."""
    metric = result.facts["maskings"]["metric"]
    scores: dict[str, list[float]] = {}
    for play in result.fresh:
        mean = sum(one[metric] for one in play.counted) / len(play.counted)
        scores.setdefault(play.key.masking, []).append(mean)
    plot = Figure(results_plot(scores, metric), "A dot for each seed, a bar at the mean; dashed: random.")
    schedules, rewards = audit_tables(result)
    return Document(
        "Is there anything to learn?",
        f"nmg audit · {last_part(result.config.model.name)}",
        [
            Section("In short", [verdict(result, out), _facts(result)]),
            Section(schedules.caption, [schedules]),
            Section("How far do maskings differ?", [plot, Paragraph(_on_maskings(result))]),
            Section(rewards.caption, [rewards]),
            Section("Settings", [Details("Recommended configuration", result.recommended.to_yaml())]),
        ],
    )


def verdict(result: AuditResult, out: Path) -> Verdict:
    """Return whether there is anything to learn, the reasons, and the command that follows from it.

    `out` is the folder of the audit, which has the recommended settings.
    """
    settings = shlex.quote(str(out / "recommended.yaml"))
    p = result.facts["maskings"]["p"]
    reward = best_reward(result.rewards, p)
    if result.adaptation.pays is False:
        answer, command = "No: adapting does not pay.", ""
    elif reward is None:
        answer = "Not with what this audit could measure: no reward shows how maskings differ."
        command = f"nmg compare {settings} --out comparison"
    else:
        found = "Yes: a reward shows" if is_sound(reward, p) else "Perhaps: a reward seems to show"
        answer, command = f"{found} how maskings differ.", f"nmg meta-train {settings} --out run"
    return Verdict(answer, result.facts["recommendation"], command)


def audit_tables(result: AuditResult) -> tuple[Table, Table]:
    """Return the tables of an audit: schedules and rewards."""
    return _schedules(result), _rewards(result)


def _facts(result: AuditResult) -> Facts:
    lm, leakage = result.facts["lm"], result.facts["leakage"]
    return Facts(
        (
            ("masked-LM loss", decimal(lm["loss"], 2)),
            ("word frequencies alone", decimal(lm["unigram_entropy"], 2)),
            ("near duplicates", near_duplicates_text(leakage)),
            ("adapting pays", {True: "yes", False: "no", None: "cannot tell"}[result.adaptation.pays]),
            ("plays", str(len(result.trials))),
            ("labelled examples of a fine-tuning", "{used:,} of {labelled:,}".format(**result.facts["examples"])),
        )
    )


def _schedules(result: AuditResult) -> Table:
    metric = result.facts["maskings"]["metric"]

    def row(one: Schedule, name: str) -> tuple[str, ...]:
        gain = difference_text(one.gain, one.low, one.high, metric)
        return f"{name}{one.steps} steps at {one.learning_rate:g}", gain, p_text(one.p), decimal(one.lm_loss, 2)

    adapting = result.adaptation
    rows = [*(row(one, "") for one in adapting.schedules), row(adapting.best, "the best again: ")]
    notes = (
        "Random masks against no adaptation, on the validation set, mean of the fine-tunings of each seed; p: paired t "
        "test over seeds, of the first plays corrected for the schedules tried.",
        "The best of several is too good in the plays that chose it. Its last row is of fresh plays with other seeds, "
        f"and says whether adapting pays (without adaptation: {score_text(adapting.none, metric)}).",
    )
    return Table(("schedule", f"Δ {metric} [95 %]", "p", "LM loss"), tuple(rows), notes, "Does adapting pay?")


def _rewards(result: AuditResult) -> Table:
    rows = [
        (
            f"{one.name}: {one.metric}",
            duration_text(one.seconds),
            decimal(one.rank_correlation, 2, "+"),
            _corrected(one),
            decimal(one.between / one.noise if one.noise > 0 else None, 2),
            NOTHING if one.plays_needed is None else f"{one.plays_needed:,}",
            decimal(one.minutes, 0, unit=" min"),
        )
        for one in result.rewards
    ]
    notes = (
        "Rank correlation: of the maskings' means with those of the full score, from another fine-tuning; corrected: "
        "of the true scores, without the noise of both and what they share of it, with limits that hold with 95 % "
        f"confidence each. A reward is sound if maskings differ and the lower limit is {LEAST_CORRELATION} or more.",
        "Signal: standard deviation between maskings over the noise of one play. Plays: to find a difference of one "
        "such standard deviation with 80 % power at 5 %, if the signal is as estimated; time: of one process.",
    )
    header = ("reward", "a play", "rank correlation", "corrected", "signal", "plays", "time")
    return Table(header, tuple(rows), notes, "Which reward distinguishes maskings?")


def _corrected(one: RewardFinding) -> str:
    """The corrected rank correlation with its interval."""
    low, high = (decimal(limit, 2, "+") for limit in (one.corrected_low, one.corrected_high))
    return decimal(one.corrected, 2, "+") + ("" if one.corrected_low is None else f" [{low}, {high}]")


def _on_maskings(result: AuditResult) -> str:
    """Paragraph on how much the maskings differ compared with the noise of one run."""
    found = result.facts["maskings"]
    n, between, noise = len(found["mean"]), 100 * found["between"], 100 * found["noise"]
    high = found["between_high"]
    at_most = "" if high is None else f" (at most {100 * high:.2f} with 95 % confidence)"
    return (
        f"{n} maskings over {found['seeds']} fresh seeds at the best schedule. Standard deviation between them "
        f"{between:.2f} points{at_most}, noise of one {noise:.2f}; F test that all score the same: "
        f"{p_equals(found['p'])}."
    )
