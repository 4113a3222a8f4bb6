"""The parts of a meta-training page that only the designed experiment has: effects, their tests, and the gate."""

from collections.abc import Iterator, Mapping
from typing import Any

from nmg.base.numerals import duration_text
from nmg.base.trial_recipe import TrialRecipe
from nmg.learners.experiment.stages import learned_name, rule_name
from nmg.meta_training.log import RunLog
from nmg.policies.features import FEATURES
from nmg.policies.linear import rule_words
from nmg.report.document import Block, Facts, Figure, Paragraph, Section, Table
from nmg.report.numbers import (
    RAW_METRICS,
    count_text,
    decimal,
    listed,
    number_text,
    p_equals,
    p_text,
    score_text,
    shown_scale,
)
from nmg.report.plots import forest_plot
from nmg.tasks.registry import task_kind


def warnings(log: RunLog) -> list[str]:
    """Return a warning if the finished run selected something else than the learned policy."""
    found = log.findings
    if found.get("stage") == "done" and found.get("selected") != "policy":
        return [f"**The run selected {selected_words(found)}, not the learned policy.**"]
    return []


def selected_words(found: Mapping[str, Any]) -> str:
    """Return what a run selected, in words; `found` is the content of effects.json."""
    if found["selected"] == "policy":
        return "the learned policy"
    return _alternative(found["selected"], found)


def _alternative(name: str, found: Mapping[str, Any]) -> str:
    """Return the words for `none`, `random`, `rule` or `recipe`."""
    words = {"none": "no adaptation", "random": "random masks", "recipe": "random masks under the tuned recipe"}
    return words.get(name) or rule_words(found["rule"])


def sections(log: RunLog) -> list[Section]:
    """Return the sections of a run with at least one episode; empty if the log has no findings."""
    found = log.findings
    if not found:
        return []
    said = [] if found["stage"] == "done" else [Paragraph(summary(log))]  # at the end, it is the verdict's reason
    return [
        Section("What raises the score", [*said, _facts(found), _effects(log)]),
        *([Section("Which recipe raises the score", _factors(log))] if found.get("factors") else []),
        Section("Is the policy better than all else?", _comparison(log)),
        *([Section("Which words are worth training on", _credit(found["credit"]))] if "credit" in found else []),
    ]


def summary(log: RunLog) -> str:
    """Return a few sentences on what was learned and how certain it is; empty if the log has no findings."""
    found = log.findings
    if not found:
        return ""
    sure = [one for one in found["features"] if one["low"] > 0 or one["high"] < 0]
    if found["f_p"] is None:
        text = "There are too few trials to test whether any feature matters."
    elif found["f_p"] < 0.05:
        text = f"Which tokens are masked matters for the score (F test of all features: {p_equals(found['f_p'])})."
    else:
        text = f"The data do not show that any feature matters (F test: {p_equals(found['f_p'])})."
    if sure:
        named = "; ".join(f"{'more' if one['effect'] > 0 else 'fewer'} tokens that are {_about(one)}" for one in sure)
        text += f" Higher scores come from {named} (intervals that exclude zero)."
    if found["stage"] == "done":
        text += f" {_gate(found)}"
    return text


def _about(one: Mapping[str, Any]) -> str:
    """Return the description of a feature in quotation marks, or its name if the feature is unknown."""
    return f"“{FEATURES[one['feature']].about}”" if one["feature"] in FEATURES else f"“{one['feature']}”"


def _gate(found: Mapping[str, Any]) -> str:
    """Return one or two sentences on the gate and its decision."""
    gate, selected = found["gate"], selected_words(found)
    if gate["n"] == 0:
        gain = found["possible_gain"]
        at_most = "" if gain is None else number_text(gain)
        possible = f" The gain over random masks is at most {at_most} with 95 % confidence." if at_most else ""
        reason = "The gate was not run: no trials were left, or the possible gain was too small."
        return f"{reason}{possible} The run selected the best rule, {selected}."
    fresh = f"in {count_text(gate['n'], 'new episode')}, scored on the same validation examples as before,"
    against = {_alternative(name, found): one for name, one in gate["against"].items()}
    if gate["passes"]:
        beaten = listed([f"{name} ({number_text(one['mean'], '+')})" for name, one in against.items()], "and")
        instead = f" The run selected {selected}." if found["selected"] == "recipe" else ""
        return f"The policy passed the gate: {fresh} it beat {beaten}.{_gains(gate, found)}{instead}"
    equal = listed([name for name, one in against.items() if one["p"] is None or one["p"] >= gate["level"]], "and")
    return (
        f"The policy did not pass the gate: {fresh} it did not clearly beat {equal}.{_gains(gate, found)} The run "
        f"selected {selected}, the best of the alternatives."
    )


def _gains(gate: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return a sentence on what the recipe and the masks gain, and one on the steps; empty without a tuned recipe."""
    if "masks" not in gate:
        return ""
    recipe, masks = gate["recipe"]["random"], gate["masks"]
    words = TrialRecipe.model_validate(found["recipe"])
    text = (
        f" Of the difference from random masks, the tuned recipe ({words.words}) makes "
        f"{number_text(recipe['mean'], '+')} ({p_equals(recipe['p'])}), and the learned masks make "
        f"{number_text(masks['mean'], '+')} under this recipe ({p_equals(masks['p'])})."
    )
    if words.steps_factor is None:
        return text
    return f"{text} With this recipe an adaptation takes {decimal(words.steps_factor, 2)} times as many steps."


def _facts(found: Mapping[str, Any]) -> Facts:
    band = found["placebo_length"]
    return Facts(
        (
            ("trials", str(found["trials"])),
            ("pairs in the regression", str(found["pairs"])),
            ("noise of a pair", number_text(found["noise"])),
            ("F test, p", p_text(found["f_p"])),
            ("length of the learned weights", number_text(found["length"])),
            ("95 % of placebos are shorter than", number_text(band["high"])),
        )
    )


def _effects(log: RunLog) -> Block:
    scale = shown_scale(log.metric)
    rows = [
        (
            FEATURES[one["feature"]].about if one["feature"] in FEATURES else one["feature"],
            scale * one["effect"],
            scale * one["low"],
            scale * one["high"],
        )
        for one in sorted(log.findings["features"], key=lambda one: -abs(one["effect"]))
    ]
    if log.metric == "loss":  # a player's score is then the negative loss
        x_name = f"fall of the loss, in {task_kind(log.config.data.task).loss_unit} (right of 0 is better)"
    else:
        unit = "points" if scale != 1 else "score"
        x_name = f"rise of the {log.metric}, in {unit} (right of 0 is better)"
    return Figure(
        forest_plot(rows, x_name),
        "What happens when the mean of a feature over the masked tokens rises by one standard deviation, with "
        "95 % intervals; coloured if the interval excludes zero.",
    )


def _gate_table(log: RunLog) -> list[Block]:
    """Return the table of the gate's differences; empty if the gate was not run."""
    gate = log.findings["gate"]
    rows = [
        (_alternative(name, log.findings), score_text(one["mean"], log.metric, "+"), p_text(one["p"]))
        for name, one in gate["against"].items()
    ]
    if "masks" in gate:
        one = gate["masks"]
        rows.append((_alternative("recipe", log.findings), score_text(one["mean"], log.metric, "+"), p_text(one["p"])))
    note = (
        f"{_gain(log.metric)}; mean over {count_text(gate['n'], 'new episode')}. The policy must "
        f"beat each alternative with p < {gate['level']:g} (one-sided)."
    )
    if "masks" in gate:
        note += (
            " The policy has the tuned recipe, and the alternatives have the configured one. The last row shows what "
            "its masks gain under this recipe; the policy passes without it."
        )
    caption = "Confirmation: the policy in the gate"
    marks = [(row, "selected") for row, name in enumerate(gate["against"]) if name == log.findings["selected"]]
    return [Table(("policy against", "gain", "p"), tuple(rows), (note,), caption, marks=tuple(marks))] if rows else []


def _factors(log: RunLog) -> list[Block]:
    """Return the table of the factors of the recipe."""
    rows = []
    for one in log.findings["factors"]:
        low, configured, high = map(_value, one["values"])
        interval = "–" if one["low"] is None else f"{_score(one['low'], log)} to {_score(one['high'], log)}"
        tuned = _value(one["tuned"]) + (" (end of the range)" if one["is_at_end"] else "")
        rows.append((one["factor"], configured, f"{low} to {high}", _score(one["effect"], log), interval, tuned))
    note = (
        "Effect: slope of the score at the configured value, per half of the range (on a logarithmic scale), by least "
        "squares over the first stage; the model also has a curvature per factor. Of two units, it is the difference "
        "of their scores. Steps are multiples of the configured number. If the best value is at an end of the range, a "
        "new run around it may find a better one."
    )
    names = ("factor", "configured", "range", "effect", "95 % interval", "tuned")
    return [Table(names, tuple(rows), (note,), "Factors of the recipe")]


def _value(value: float | str) -> str:
    """Return the value of a setting as text."""
    return value if isinstance(value, str) else f"{value:.3g}"


def _score(value: float, log: RunLog) -> str:
    return score_text(value, log.metric, "+")


def _comparison(log: RunLog) -> list[Block]:
    found = log.findings
    blocks: list[Block] = _gate_table(log) if found["stage"] == "done" else []
    if not found["tuned"]:
        return [*blocks, Paragraph("Strengths and rules have not been compared yet.")]
    rows = [(name, score_text(mean, log.metric, "+")) for name, mean in found["tuned"].items()]
    note = (
        f"{_gain(log.metric)}; mean over the episodes of the second stage, in which all maskings take part. learned-2: "
        "the learned direction "
        "with length 2. These scores choose the best strength and the best rule, so they are biased upwards; those of "
        "the gate are not."
    )
    if log.findings.get("factors"):
        note += " recipe-1: random masks under the best recipe, recipe-0.5: half-way to it."
    base = "random" if "random" in found["tuned"] else next(iter(found["tuned"]))
    return [
        *blocks,
        Table(
            ("masking", f"gain over {base}"),
            tuple(rows),
            (note,),
            "Tuning (optimistic): strengths and rules tried",
            marks=tuple(_tuned_marks(found)),
        ),
    ]


def _gain(metric: str) -> str:
    """Return how gains are signed."""
    return f"Gain: how much {'lower' if metric in RAW_METRICS else 'higher'} the {metric} is"


def _tuned_marks(found: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield (row, reason) for the rows of the tuning table that were chosen, and for the one that the run selected."""
    if found["stage"] not in {"gate", "done"}:
        return
    strength, rule = learned_name(found["strength"]), rule_name(found["rule"])
    reasons = {strength: ["best strength"], rule: ["best rule"]}
    if found["stage"] == "done":
        selected = {"policy": strength, "rule": rule, "random": rule_name(0.0)}.get(found["selected"], "")
        reasons[selected] = [*reasons.get(selected, []), "selected"]
    for row, name in enumerate(found["tuned"]):
        yield from ((row, reason) for reason in reasons.get(name, []))


def _credit(credit: Mapping[str, Any]) -> list[Block]:
    """Return the table of the word pieces of most and least gradient credit, and how reliable it is."""
    reliability = credit["reliability"]
    agree = "too few frequent pieces to tell" if reliability is None else decimal(reliability, 2)
    facts = Facts(
        (
            ("adaptations", str(credit["rounds"])),
            ("correlation of odd and even ones", agree),
            ("time", duration_text(credit["seconds"])),
        )
    )
    pairs = zip(credit["most"], credit["least"], strict=True)
    rows = tuple(
        tuple(f"{one['piece']} · {number_text(one['credit'], '+')}" for one in (most, least)) for most, least in pairs
    )
    note = (
        "Credit: how much a step of training on the masked piece lowers the validation loss, to first order; only "
        "pieces that were masked at least 20 times. It is one feature of the policy, whose weight is measured."
    )
    return [facts, Table(("most credit (nats)", "least credit (nats)"), rows, (note,), "Gradient credit", n_words=2)]
