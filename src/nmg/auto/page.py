"""The page of `nmg adapt --auto`, from the content of auto.json; the terminal shows its verdict."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nmg.auto.decision import beats_none
from nmg.auto.records import AdaptationStage, AuditStage, ComparisonStage, LearnStage
from nmg.auto.stages import ADAPTED, AUDIT, COMPARISON, LEARN
from nmg.base.files import as_json, last_part
from nmg.base.numerals import duration_text
from nmg.config import Config
from nmg.report.document import Block, Details, Document, Figure, Links, Paragraph, Section, Table, Verdict
from nmg.report.numbers import NOTHING, difference_text, p_text, score_text
from nmg.report.plots import results_plot

PAGES = {AUDIT: "index.html", LEARN: "report.html", COMPARISON: "index.html", ADAPTED: "index.html"}
"""Stage → the page in its folder."""
TITLES = {AUDIT: "Audit", LEARN: "Learned masks", COMPARISON: "Comparison", ADAPTED: "Adaptation"}
"""Stage → its name on the page."""


def verdict(facts: Mapping[str, Any], out: Path) -> Verdict:
    """Return the decision, its reasons, and the command to run next.

    Args:
        facts: The content of auto.json of a finished run.
        out: The folder of the run.

    Returns:
        The verdict.
    """
    compared, learned = _compared(facts), LearnStage.from_json(_results(facts)[LEARN])
    why = [facts["reason"], *([f"No masks were learned: {learned.why_not}"] if learned.why_not else [])]
    if facts["decision"] == "adapt":
        folder = shlex.quote(str(out / ADAPTED))
        answer = f"Adapt, with the masking {facts['masking']}: the adapted model is in {out / ADAPTED}."
        return Verdict(answer, " ".join(why), f"nmg share {folder} OWNER/NAME")
    answer = "Do not adapt: the model is left as it is."
    if not any(gain.high is not None and gain.high > 0 for gain in compared.gains.values()):
        return Verdict(answer, " ".join(why))
    longer = f"nmg adapt --auto CONFIG.yaml --minutes {2 * facts['minutes']:g} --out NEW"
    return Verdict(answer, " ".join([*why, "More minutes allow more seeds, which may show a small gain."]), longer)


def auto_page(facts: Mapping[str, Any], config: Config, out: Path) -> Document:
    """Build the page.

    Args:
        facts: The content of auto.json of a finished run.
        config: The settings of the user.
        out: The folder of the run.

    Returns:
        The page.
    """
    compared = _compared(facts)
    figure = Figure(
        results_plot(compared.scores, compared.metric, baseline="none"),
        "One dot per seed; the bar is the mean, the dashed line the mean without adaptation.",
    )
    pages = [(TITLES[name], f"{name}/{PAGES[name]}") for name in PAGES if (out / name / PAGES[name]).is_file()]
    first: list[Block] = [verdict(facts, out), figure]
    settings = [Details("All settings", config.to_yaml()), Details("auto.json", as_json(facts, indent=1))]
    return Document(
        f"Does adapting {last_part(config.model.name)} pay?",
        f"nmg adapt --auto · {last_part(config.data.train or '')}",
        [
            Section("Decision", first),
            Section("Against no adaptation", [_gains(compared)]),
            Section("Stages", [_stages(facts), Links(tuple(pages))]),
            Section("What the decision rests on", [Paragraph(_basis(compared))]),
            Section("Settings", settings),
        ],
    )


def _results(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return stage → result."""
    return {name: stage["result"] for name, stage in facts["stages"].items()}


def _compared(facts: Mapping[str, Any]) -> ComparisonStage:
    return ComparisonStage.from_json(_results(facts)[COMPARISON])


def _gains(compared: ComparisonStage) -> Table:
    """Return the table of the maskings with their gains over no adaptation."""
    rows = []
    for name in compared.scores:
        gain, score = compared.gains.get(name), score_text(compared.mean(name), compared.metric)
        if gain is None:
            rows.append((name, score, NOTHING, NOTHING, NOTHING))
            continue
        difference = difference_text(gain.mean, gain.low, gain.high, compared.metric)
        rows.append((name, score, difference, p_text(gain.p), f"{gain.wins} of {gain.seeds}"))
    better = [name for name, gain in compared.gains.items() if beats_none(gain)]
    bold = frozenset((number, 2) for number, name in enumerate(compared.scores) if name in better)
    notes = (
        "Δ: difference from no adaptation with its 95 % interval; p: paired test over seeds, corrected for the number "
        "of maskings. Differences with p < 0.05 are bold.",
        *compared.failures,
    )
    header = ("masking", compared.metric, f"Δ {compared.metric} [95 %]", "p", "seeds won")
    return Table(header, tuple(rows), notes, "Scores on examples that nothing was chosen by", highlighted=bold)


def _stages(facts: Mapping[str, Any]) -> Table:
    rows = [
        (TITLES[name], said, duration_text(facts["stages"][name]["seconds"]), planned)
        for name, said in _said(_results(facts))
        for planned in [duration_text(facts["stages"][name]["planned_seconds"])]
    ]
    notes = (f"Planned: at most this long, of {facts['minutes']:g} minutes. What a stage leaves goes to the next.",)
    return Table(("stage", "result", "took", "planned"), tuple(rows), notes, "Stages", n_words=2)


def _said(results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (stage, its result in a few words); the verdict says why no masks were learned."""
    audited, learned = AuditStage.from_json(results[AUDIT]), LearnStage.from_json(results[LEARN])
    yield AUDIT, f"{audited.steps} steps at learning rate {audited.learning_rate:g}; best rule: {audited.rule}"
    what = (
        "No masks were learned."
        if learned.why_not
        else f"After {learned.plays} inner loops the gate selected: {learned.selected}."
    )
    yield LEARN, what
    compared = ComparisonStage.from_json(results[COMPARISON])
    n = max(map(len, compared.scores.values()))
    yield COMPARISON, f"{n} seeds, {', '.join(compared.scores)}, {compared.examples:,} validation examples"
    if ADAPTED in results:
        adapted = AdaptationStage.from_json(results[ADAPTED])
        losses = ""
        if adapted.held_out is not None:
            losses = f"; held-out loss {adapted.held_out['before']:.3f} → {adapted.held_out['after']:.3f}"
        yield ADAPTED, f"{adapted.steps:,} steps on the whole corpus{losses}"


def _basis(compared: ComparisonStage) -> str:
    """Return what the decision rests on, in words."""
    return (
        f"The comparison scores models on {compared.examples:,} validation examples. The schedule was chosen and masks "
        "were learned on other validation examples. Texts that differ only in case, digits or punctuation are on one "
        "side. Seeds differ in batches and masks (and in labelled examples, if only some are used), but share these "
        "validation examples. So p is about chance in training; about other texts it says less. The test set was not "
        "read: `nmg compare` can still use it."
    )
