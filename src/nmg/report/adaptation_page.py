"""The HTML page of an adaptation, from its folder: during the run or after it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from nmg.adaptation.facts import in_words, perplexity
from nmg.adaptation.log import AdaptationLog
from nmg.base.files import last_part
from nmg.base.numerals import duration_text
from nmg.report.document import Block, Details, Document, Facts, Figure, Paragraph, Section, Table, Verdict
from nmg.report.figure_style import SERIES
from nmg.report.labels import label_ends
from nmg.report.numbers import percent
from nmg.report.plots import running_mean, to_svg
from nmg.report.screens import for_both_screens, new_figure
from nmg.report.terms import terms_table

CLEAR = 0.005
"""Difference of losses, in nats, below which the page says that nothing changed."""
LOSS_HEIGHT = 3.0
"""Height of the figure of losses, in inches."""
POINTS = 400
"""Maximum number of points of the curve of the training loss."""


def adaptation_page(log: AdaptationLog, refresh_seconds: int | None = None) -> Document:
    """Build the page. With `refresh_seconds`, the browser reloads it at that interval until the run is finished."""
    first: list[Block] = [verdict(log), facts(log)]
    sections = [Section("The adaptation", first)]
    if log.steps:
        sections.append(Section("Loss", _losses(log)))
    if log.facts is not None and log.facts["terms"] and log.facts["terms"]["measured"]:
        sections.append(Section("Terms", [terms_table(log.facts["terms"])]))
    if log.facts is not None and log.facts.get("masked"):
        sections.append(Section("What was masked", _masked(log.facts["masked"])))
    if log.facts is not None and log.facts.get("examples"):
        sections.append(Section("Before and after", _examples(log.facts["examples"])))
    details = [Details("All settings", log.config.to_yaml()), Details("Versions", json.dumps(log.run, indent=2))]
    sections.append(Section("Settings", details))
    return Document(
        f"Adaptation: {last_part(log.config.model.name)} on {last_part(log.config.data.corpus or 'text')}",
        log.progress + (" · finished" if log.is_finished else ""),
        sections,
        None if log.is_finished else refresh_seconds,
    )


def verdict(log: AdaptationLog) -> Verdict:
    """Return whether the held-out loss fell, the numbers, and what to run next."""
    out = str(log.folder)
    if log.facts is None:
        return Verdict("The run is not finished.", command=f"nmg adapt --resume {out}")
    held_out = log.facts["held_out"]
    if held_out is None:
        return Verdict("The held-out loss was not measured.", "No text was held out.", f"nmg share {out} OWNER/NAME")
    before, best = held_out["before"], held_out["best"]
    after = best if log.facts["is_best"] else held_out["after"]
    why = (
        f"Perplexity {perplexity(before):,.1f} → {perplexity(after):,.1f}, on {held_out['masked_tokens']:,} masked "
        f"tokens of {held_out['documents']:,} documents that were not trained on. Blocks and masks are the same each "
        "time."
    )
    change = f"{before:.3f} → {after:.3f}, lower is better"
    if after - best > CLEAR:
        said = f"The held-out loss fell to {best:.3f} by step {held_out['best_step']:,} and then rose: {change}."
        return Verdict(said, why, "nmg adapt … --adapt.patience 3")
    if before - after > CLEAR:
        return Verdict(f"The held-out loss fell: {change}.", why, f"nmg share {out} OWNER/NAME")
    rate = log.config.adapt.learning_rate / 2
    return Verdict(f"The held-out loss did not fall: {change}.", why, f"nmg adapt … --adapt.learning_rate {rate:g}")


def facts(log: AdaptationLog) -> Facts:
    """Return the facts that the terminal and the card show, or the progress of a run that is not finished."""
    if log.facts is not None:
        return Facts(tuple({"masking": str(log.facts["masking"]), **in_words(log.facts)}.items()))
    shown = [("masking", str(log.run["masking"])), ("recipe", log.config.adapt.recipe)]
    if log.steps:
        last = log.steps[-1]
        left = last["seconds"] / last["step"] * ((log.run["planned_steps"] or last["step"]) - last["step"])
        shown += [("time", duration_text(last["seconds"])), ("time left, about", duration_text(left))]
    return Facts(tuple(shown))


def _losses(log: AdaptationLog) -> list[Block]:
    """Return a figure of both losses, and a table of the measurements."""
    blocks: list[Block] = [
        Figure(
            loss_plot([record["step"] for record in log.steps], [record["loss"] for record in log.steps], log.held_out),
            "Nats per masked token, lower is better. Training: running mean over the steps, on the masks that the run "
            "draws. Held out: documents that are not trained on, under random masks of 15 % that never change. The two "
            "are comparable only if the run masks in the same way.",
        )
    ]
    if log.held_out:
        tokens = {record["step"]: record["tokens"] for record in log.records}
        rows = [
            (f"{step:,}", f"{tokens[step]:,}", f"{loss:.3f}", f"{perplexity(loss):,.1f}") for step, loss in log.held_out
        ]
        best = min(range(len(rows)), key=lambda row: log.held_out[row][1])
        header = ("step", "tokens", "held-out loss", "perplexity")
        blocks.append(Table(header, tuple(rows), (), "Held-out loss", highlighted=frozenset({(best, 2)})))
    return blocks


@for_both_screens
def loss_plot(steps: Sequence[int], losses: Sequence[float], held_out: Sequence[tuple[int, float]]) -> str:
    """Draw the training loss and the held-out loss over the steps, each named at its end.

    Args:
        steps: Numbers of the steps.
        losses: Training loss of each step.
        held_out: Step and loss of each measurement.

    Returns:
        The figure as an `<svg>` element.
    """
    smooth = running_mean(losses, max(len(losses) // 20, 1))
    picked = np.unique(np.linspace(0, len(steps) - 1, POINTS).round().astype(int))
    ends = {"training": (float(steps[-1]), float(smooth[-1]))}
    with new_figure(LOSS_HEIGHT) as figure:
        axes = figure.add_subplot()
        axes.plot(np.asarray(steps)[picked], smooth[picked], color=SERIES[2], linewidth=1.2)
        if held_out:
            axes.plot(*zip(*held_out, strict=True), "o-", color=SERIES[0], linewidth=2, markersize=4)
            ends["held out"] = (float(held_out[-1][0]), held_out[-1][1])
        axes.set(xlabel="step", ylabel="loss (lower is better)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        label_ends(axes, ends, {"training": SERIES[2], "held out": SERIES[0]}, LOSS_HEIGHT)
        return to_svg(figure, "Loss on training and held-out text by step")


def _masked(masked: Mapping[str, Any]) -> list[Block]:
    """Return a paragraph with the realised rate, and the tokens masked most and least for their frequency."""
    header = ("token", "occurrences", "masked", "share masked", "z")
    tables = [
        Table(
            header,
            tuple(
                (
                    row["token"],
                    f"{row['seen']:,}",
                    f"{row['masked']:,}",
                    percent(row["masked"] / row["seen"]),
                    f"{row['z']:+.1f}",
                )
                for row in masked[end]
            ),
            (),
            f"Masked {end} for their frequency",
        )
        for end in ("most", "least")
    ]
    words = (
        f"Of all maskable tokens trained on, {percent(masked['rate'])} were masked. A token's z is the difference "
        "between how often it was masked and how often this rate would mask it, in standard deviations. With random "
        "masks nearly all z are between −3 and 3."
    )
    return [Paragraph(words), *tables]


def _examples(examples: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return a table of held-out texts with the guesses before and after the adaptation."""
    rows = [
        (one["text"], *(", ".join(one[column]) for column in ("masked", "before", "after")), _right(one))
        for one in examples
    ]
    words = (
        "The first held-out texts. Words in brackets were masked; the columns show the masked words and what the model "
        "guessed before and after its adaptation."
    )
    header = ("text", "masked", "before", "after", "right before → after")
    return [Paragraph(words), Table(header, tuple(rows), (), "Guesses at masked words", n_words=4)]


def _right(one: Mapping[str, Any]) -> str:
    """Return the numbers of right guesses before and after the adaptation."""
    before, after = (
        sum(guess == word for guess, word in zip(one[column], one["masked"], strict=True))
        for column in ("before", "after")
    )
    return f"{before} → {after} of {len(one['masked'])}"
