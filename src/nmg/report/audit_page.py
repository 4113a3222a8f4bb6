"""The page of an audit; the terminal shows its verdict and tables too."""

import math
import shlex
from pathlib import Path

from nmg.auditing.findings import RewardFinding, Schedule
from nmg.auditing.recommend import LEAST_CORRELATION, best_reward, is_shortened, is_sound, may_beat_no_adaptation
from nmg.auditing.result import AuditResult
from nmg.base.files import last_part
from nmg.base.numerals import duration_text
from nmg.base.outputs import RECOMMENDED
from nmg.data.overlap import near_duplicates_text
from nmg.report.comparison import SEEDS_FOR_POWER
from nmg.report.document import Details, Document, Facts, Figure, Paragraph, Section, Table, Verdict
from nmg.report.numbers import NOTHING, decimal, difference_text, p_equals, p_text, score_text
from nmg.report.plots import results_plot

ADAPTING = {True: "Adapting pays.", False: "Random masks do not pay.", None: "Adapting: not clear."}
"""Whether adaptation with random masks improves the score → first sentence of the verdict."""


def audit_page(result: AuditResult, out: Path) -> Document:
    """Build the page of an audit in the folder `out`."""
    metric = result.facts["maskings"]["metric"]
    scores: dict[str, list[float]] = {}
    for trial in result.fresh:
        mean = sum(one[metric] for one in trial.counted) / len(trial.counted)
        scores.setdefault(trial.spec.masking, []).append(mean)
    plot = Figure(
        results_plot(scores, metric), "One dot per seed; the bar is the mean, the dashed line the mean of random."
    )
    schedules, rewards = audit_tables(result)
    return Document(
        "Is there anything to learn?",
        f"nmg audit · {last_part(result.config.model.name)}",
        [
            Section("Summary", [verdict(result, out), _facts(result)]),
            Section(schedules.caption, [schedules]),
            Section("How much do maskings differ?", [plot, Paragraph(_on_maskings(result))]),
            Section(rewards.caption, [rewards]),
            Section("Settings", [Details("Recommended configuration", result.recommended.to_yaml())]),
        ],
    )


def verdict(result: AuditResult, out: Path) -> Verdict:
    """Return whether there is anything to learn, the reasons, and the command to run next.

    Learning comes next if a sound reward shows that masks differ, or if adapting pays and masks may differ. If adapting
    pays and no reward shows which masks are better, adapting with random masks comes next. If it is not clear that
    adapting pays, a longer audit comes next or, if this one used all steps and examples, a comparison with more seeds.
    If random masks lower the score, something comes next only if the masks differ and one has a higher mean than no
    adaptation.

    `out` is the folder of the audit, which contains the recommended settings.
    """
    settings = shlex.quote(str(out / RECOMMENDED))
    facts, pays = result.facts, result.adaptation.pays
    p = facts["maskings"]["p"]
    reward = best_reward(result.rewards, p)
    is_clear = reward is not None and is_sound(reward, p)
    if pays is False and not may_beat_no_adaptation(facts["maskings"], result.adaptation.none):
        return Verdict(f"{ADAPTING[pays]} No other masks are shown to be better.", facts["recommendation"], "")
    if is_clear:
        learning = "yes, some masks are better than others"
    else:
        learning = "these trials cannot tell good masks from bad" if reward is None else "perhaps"
    if is_clear or (pays and reward is not None):
        command = f"nmg learn {settings} --out run"
    elif pays:
        command = f"nmg adapt --config {settings} --masking random --out adapted"
    elif is_shortened(facts):
        longer = shlex.quote(f"{out}-longer")
        command = f"nmg audit {settings} --minutes {math.ceil(facts['minutes'])} --out {longer}"
    else:
        command = f"nmg compare {settings} --out comparison"
    return Verdict(f"{ADAPTING[pays]} Learning masks: {learning}.", facts["recommendation"], command)


def audit_tables(result: AuditResult) -> tuple[Table, Table]:
    """Return the two tables of an audit: the schedules, and the rewards."""
    return _schedules(result), _rewards(result)


def _facts(result: AuditResult) -> Facts:
    lm, leakage = result.facts["lm"], result.facts["leakage"]
    return Facts(
        (
            ("masked-LM loss", decimal(lm["loss"], 2)),
            ("loss of word frequencies", decimal(lm["unigram_entropy"], 2)),
            ("near duplicates", near_duplicates_text(leakage)),
            ("trials", str(len(result.trials))),
            ("labelled examples per fine-tuning", "{used:,} of {labelled:,}".format(**result.facts["examples"])),
        )
    )


def _schedules(result: AuditResult) -> Table:
    metric = result.facts["maskings"]["metric"]

    def row(one: Schedule, name: str) -> tuple[str, ...]:
        gain = difference_text(one.gain, one.low, one.high, metric)
        return f"{name}{one.steps} steps at {one.learning_rate:g}", gain, p_text(one.p), decimal(one.lm_loss, 2)

    adapting = result.adaptation
    rows = [*(row(one, "") for one in adapting.schedules), row(adapting.best, "best, repeated: ")]
    notes = (
        "Δ: score with random masks minus score without adaptation, on the validation set, averaged over the "
        "fine-tuning runs of each seed; p: paired t test over seeds, corrected for the number of schedules.",
        "The scores that choose the best schedule overestimate it. The last row repeats it with new seeds and shows "
        f"whether adaptation helps (score without adaptation: {score_text(adapting.none, metric)}).",
    )
    return Table(("schedule", f"Δ {metric} [95 %]", "p", "LM loss"), tuple(rows), notes, "Does adaptation help?")


POWER_NOTE = (
    "Trials: number that finds a difference of one such standard deviation with 80 % power at 5 %, if the signal is as "
    "estimated. Time: with one process."
)


def _rewards(result: AuditResult) -> Table:
    tells_power = result.facts["maskings"]["seeds"] >= SEEDS_FOR_POWER
    rows = [
        (
            f"{one.name}: {one.metric}",
            duration_text(one.seconds),
            decimal(one.rank_correlation, 2, "+"),
            _corrected(one),
            decimal(one.between / one.noise if one.noise > 0 else None, 2),
            NOTHING if one.plays_needed is None or not tells_power else f"{one.plays_needed:,}",
            decimal(one.minutes if tells_power else None, 0, unit=" min"),
        )
        for one in result.rewards
    ]
    notes = (
        "Rank correlation: between the maskings' mean rewards and their mean full scores from another fine-tuning "
        "run; corrected: estimated correlation without noise, with two one-sided 95 % limits. A reward is sound if the "
        f"maskings differ and the lower limit is at least {LEAST_CORRELATION}.",
        "Signal: standard deviation between maskings divided by the noise of one trial. "
        + (POWER_NOTE if tells_power else ""),
    )
    header = ("reward", "time per trial", "rank correlation", "corrected", "signal", "trials", "time")
    return Table(header, tuple(rows), notes, "Which reward distinguishes maskings?")


def _corrected(one: RewardFinding) -> str:
    """Return the corrected rank correlation with its interval as text."""
    low, high = (decimal(limit, 2, "+") for limit in (one.corrected_low, one.corrected_high))
    return decimal(one.corrected, 2, "+") + ("" if one.corrected_low is None else f" [{low}, {high}]")


def _on_maskings(result: AuditResult) -> str:
    """Return a paragraph that compares the differences between maskings with the noise of one trial."""
    found = result.facts["maskings"]
    n, between, noise = len(found["mean"]), decimal(100 * found["between"], 2), decimal(100 * found["noise"], 2)
    high = found["between_high"]
    at_most = "" if high is None else f" (at most {decimal(100 * high, 2)} with 95 % confidence)"
    return (
        f"{n} maskings were run with {found['seeds']} new seeds at the best schedule. The standard deviation between "
        f"maskings is {between} points{at_most}; the noise of one score is {noise} points. F test of equal "
        f"scores: {p_equals(found['p'])}."
    )
