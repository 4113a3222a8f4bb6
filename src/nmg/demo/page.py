"""The demo's page: one sentence, one chart and the words that are masked; everything else is folded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nmg.comparison.results import HELD_OUT, ComparisonResults, SettingResult
from nmg.meta_training.log import RunLog
from nmg.report.comparison_page import score_blocks
from nmg.report.document import Block, Details, Document, Figure, Links, Notice, Paragraph, Section, Table, Verdict
from nmg.report.experiment import selected_words
from nmg.report.learner_parts import learner_sections
from nmg.report.masked_kinds import empty_word_warning
from nmg.report.numbers import score_text
from nmg.report.plots import difference_plot
from nmg.report.run_page import sample_blocks

METRIC = "accuracy"
NAMES: Mapping[str, str] = {"none": "no adaptation", "random": "random masks", "learned": "learned masks"}
"""Masking → its name on the page; a rule has its own name."""


@dataclass(frozen=True)
class MaskedWords:
    """The words of the corpus that the learned policy masks most and least often, compared with random masks."""

    most: Sequence[tuple[str, float]]
    """(word, share of its occurrences that is masked), the most masked first."""
    least: Sequence[tuple[str, float]]
    """The same for the least masked words, the least masked first."""


@dataclass(frozen=True)
class DemoResult:
    """The results of the demo so far."""

    comparison: ComparisonResults
    log: RunLog | None = None
    """The log of the finished run; None before masks are learned."""
    words: MaskedWords | None = None

    @property
    def setting(self) -> SettingResult:
        """The only condition of the comparison."""
        return self.comparison.settings[0]

    def mean(self, masking: str, metric: str = METRIC) -> float | None:
        """Return the mean score of a masking over seeds, or None if it was not measured."""
        for one in self.setting.maskings:
            if one.masking == masking and metric in one.estimates:
                return one.estimates[metric].mean
        return None


def answer(result: DemoResult) -> str:
    """Return the answer of the demo in one sentence of at most 20 words."""
    none, random, learned = (_points(result.mean(name)) for name in NAMES)
    if result.log is None:
        return f"Adapting with random masks gives {random} % accuracy; without adaptation it is {none} %."
    if result.log.findings["selected"] == "policy":
        return (
            f"Adapted with learned masks, the model reaches {learned} % accuracy: {none} % without adaptation, "
            f"{random} % with random masks."
        )
    selected = selected_words(result.log.findings)
    return (
        f"No learned masks were kept; {selected} did as well: accuracy {none} unadapted, {random} random, "
        f"{learned} learned."
    )


def held_out_warning(result: DemoResult) -> list[str]:
    """Return a warning if adapting with random masks did not lower the loss on held-out text of the domain."""
    before, after = result.mean("none", HELD_OUT), result.mean("random", HELD_OUT)
    if before is None or after is None or after < before:
        return []
    return [
        f"**Adapting with random masks did not lower the held-out LM loss** ({before:.3f} → {after:.3f}). The model "
        "does not learn the language of these texts, so differences in accuracy have other causes."
    ]


def first_table(result: DemoResult) -> list[str]:
    """Return the lines of a small table for the terminal: accuracy and held-out LM loss of each masking."""
    lines = [f"  {'':<16}{'accuracy':>10}{'held-out LM loss':>20}"]
    for one in result.setting.maskings:
        loss = result.mean(one.masking, HELD_OUT)
        shown = "–" if loss is None else f"{loss:.3f}"
        lines.append(f"  {_name(one.masking):<16}{_points(result.mean(one.masking)):>8} %{shown:>20}")
    return lines


def demo_page(result: DemoResult) -> Document:
    """Build the page of the demo from the results so far."""
    why = _held_out(result)
    blocks: list[Block] = [Verdict(answer(result), why, "nmg init YOUR.csv")]
    warnings = held_out_warning(result) + (empty_word_warning(result.log) if result.log else [])
    blocks += [Notice(text) for text in warnings]
    if figure := _differences(result):
        blocks.append(figure)
    if result.words:
        blocks.append(_words_table(result.words))
    if result.log is None:
        blocks.append(Paragraph("Masks are being learned. Load this page again in a few minutes."))
    else:
        blocks.append(_links(result))
    sections = [Section("The answer", blocks), *_folded(result)]
    return Document(
        "Learning what to mask", "nmg demo · BBC News, five topics, a small BERT whose encoder stays frozen", sections
    )


def _points(share: float | None) -> str:
    return "–" if share is None else score_text(share, METRIC)


def _held_out(result: DemoResult) -> str:
    before, after = result.mean("none", HELD_OUT), result.mean("random", HELD_OUT)
    if before is None or after is None:
        return ""
    verb = "lower" if after < before else "do not lower"
    return f"Random masks {verb} the LM loss on held-out text: {before:.2f} before, {after:.2f} after."


def _name(masking: str) -> str:
    return NAMES.get(masking, masking)


def _differences(result: DemoResult) -> Figure | None:
    """Return the chart of differences from no adaptation; None if nothing else was measured."""
    scores = {one.masking: one.scores[METRIC] for one in result.setting.maskings if one.scores.get(METRIC)}
    base = scores.pop("none", None)
    if base is None or not scores:
        return None
    intervals = {pair.first: pair.test for pair in result.setting.pairs if pair.second == "none"}
    rows = []
    for name, of_seeds in scores.items():
        differences = [100 * (one - other) for one, other in zip(of_seeds, base, strict=False)]
        test = intervals.get(name)
        interval = None if test is None or test.low is None or test.high is None else (100 * test.low, 100 * test.high)
        rows.append((_name(name), differences, interval))
    return Figure(
        difference_plot(rows, "points of accuracy above no adaptation (higher is better)", "Gain over no adaptation"),
        "A dot per seed; diamond and line: mean and its 95 % interval, coloured if it excludes zero.",
    )


def _words_table(words: MaskedWords) -> Table:
    rows = zip(words.most, words.least, strict=False)
    cells = tuple((f"{most} · {100 * p:.0f} %", f"{least} · {100 * q:.0f} %") for (most, p), (least, q) in rows)
    note = "Words that occur at least ten times in the corpus, and how many of their occurrences are masked."
    return Table(("masked most", "masked least"), cells, (note,), "What the learned policy masks", n_words=2)


def _links(result: DemoResult) -> Links:
    assert result.log is not None
    return Links(
        (
            ("All scores and tests", "results/index.html"),
            ("What is masked, in each text", "masks.html"),
            ("How the masks were learned", "run/report.html"),
            ("The adapted models", "results/models/"),
        )
    )


def _folded(result: DemoResult) -> list[Section]:
    """Return the sections that the reader may open."""
    how = Paragraph(
        "A small language model was trained on one part of the articles. It was then adapted to paragraphs of other "
        "articles with different masks. A designed experiment learned which tokens to mask, from the scores of a "
        "linear classifier on the adapted model. All maskings are compared on the same labels, the same test texts and "
        "the same seeds."
    )
    found = [Section("How it was done", (how,), is_folded=True)]
    found.append(Section("Results on the test set", score_blocks(result.comparison, result.setting), is_folded=True))
    if result.log is not None:
        found += [Section(one.heading, one.blocks, is_folded=True) for one in learner_sections(result.log)]
        masks = (*sample_blocks(result.log), Details("Settings", result.log.config.to_yaml()))
        found.append(Section("What the selected policy masks in three texts", masks, is_folded=True))
    return found
