"""The HTML page of an audit, and its tables for the terminal."""

from nmg.auditing.findings import RewardFinding, Schedule
from nmg.auditing.recommend import LEAST_CORRELATION
from nmg.auditing.result import AuditResult
from nmg.base.files import last_part
from nmg.data.overlap import near_duplicates_text
from nmg.report.page import Block, Facts, Listing, PageContent, Paragraph, Plot, Section
from nmg.report.plots import results_plot
from nmg.report.tables import NOTHING, Table, difference_text, duration_text, p_equals, p_text, score_text


def audit_page(result: AuditResult) -> PageContent:
    """Build the page of an audit."""
    facts = result.facts
    metric = facts["maskings"]["metric"]
    scores: dict[str, list[float]] = {}
    for play in result.fresh:
        mean = sum(one[metric] for one in play.counted) / len(play.counted)
        scores.setdefault(play.key.masking, []).append(mean)
    blocks: list[Block] = [Paragraph(facts["recommendation"]), _facts(result)]
    tables = dict(audit_tables(result))
    return PageContent(
        "Is there anything to learn?",
        f"nmg audit · {last_part(result.config.model.name)}",
        [
            Section("In short", blocks),
            Section("Does adapting pay?", [tables["Does adapting pay?"]]),
            Section(
                "How far do maskings differ?",
                [
                    Plot(results_plot(scores, metric), "A dot for each seed, a bar at the mean; dashed: random."),
                    Paragraph(_on_maskings(result)),
                ],
            ),
            Section("Which reward tells them apart?", [tables["Which reward tells maskings apart?"]]),
            Section("Settings", [Listing("Recommended configuration", result.recommended.to_yaml())]),
        ],
    )


def audit_tables(result: AuditResult) -> list[tuple[str, Table]]:
    """Return the tables of an audit, each with its title."""
    return [
        ("Does adapting pay?", _schedules(result)),
        ("Which reward tells maskings apart?", _rewards(result)),
    ]


def _facts(result: AuditResult) -> Facts:
    lm, leakage = result.facts["lm"], result.facts["leakage"]
    return Facts(
        (
            ("masked-LM loss", f"{lm['loss']:.2f}"),
            ("word frequencies alone", f"{lm['unigram_entropy']:.2f}"),
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
        return f"{name}{one.steps} steps at {one.learning_rate:g}", gain, p_text(one.p), f"{one.lm_loss:.2f}"

    adapting = result.adaptation
    rows = [*(row(one, "") for one in adapting.schedules), row(adapting.best, "the best again: ")]
    notes = (
        "Random masks against no adaptation, on the validation set, mean of the fine-tunings of each seed; p: paired t "
        "test over seeds, of the first plays corrected for the schedules tried.",
        "The best of several is too good in the plays that chose it. Its last row is of fresh plays with other seeds, "
        f"and says whether adapting pays (without adaptation: {score_text(adapting.none, metric)}).",
    )
    return Table(("schedule", f"Δ {metric} [95 %]", "p", "LM loss"), tuple(rows), notes)


def _rewards(result: AuditResult) -> Table:
    rows = [
        (
            f"{one.name}: {one.metric}",
            duration_text(one.seconds),
            NOTHING if one.rank_correlation is None else f"{one.rank_correlation:+.2f}".replace("-", "−"),
            _corrected(one),
            f"{one.between / one.noise:.2f}" if one.noise > 0 else NOTHING,
            NOTHING if one.plays_needed is None else f"{one.plays_needed:,}",
            NOTHING if one.minutes is None else f"{one.minutes:.0f} min",
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
    return Table(header, tuple(rows), notes)


def _corrected(one: RewardFinding) -> str:
    """The corrected rank correlation with its interval."""
    estimate = NOTHING if one.corrected is None else f"{one.corrected:+.2f}"
    limits = "" if one.corrected_low is None else f" [{one.corrected_low:+.2f}, {one.corrected_high:+.2f}]"
    return f"{estimate}{limits}".replace("-", "−")


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
