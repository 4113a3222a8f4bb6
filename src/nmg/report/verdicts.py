"""The last lines of a command: verdict, reasons, and the command to run next."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nmg.adaptation.result import AdaptationResult
from nmg.base.outputs import RECOMMENDED
from nmg.comparison.parts import Part
from nmg.comparison.results import ComparisonResults, Pair, SettingResult
from nmg.meta_training.log import RunLog
from nmg.policies.storage import find_policy
from nmg.report.comparison_summary import reading
from nmg.report.document import Verdict
from nmg.report.learner_parts import summary
from nmg.report.numbers import count_text, decimal, percent

if TYPE_CHECKING:
    from nmg.collation.check import CollatorReport
    from nmg.meta_training.estimate import Estimate
    from nmg.vocabulary.fragments import Fragmentation
    from nmg.vocabulary.words import Proposal

SELECTED = {
    "policy": "The run learned masks that passed its gate.",
    "recipe": "The run found a better recipe; learned masks add nothing to it.",
    "rule": "The run selected a rule, not learned masks.",
    "random": "The run selected random masks, not learned ones.",
    "none": "The run found no masks that are better than no adaptation.",
}
"""What a run selected (`effects.json`) → verdict."""


def learn_verdict(log: RunLog, folder: Path) -> Verdict:
    """Return what a run of `nmg learn` selected."""
    selected = str(log.findings.get("selected", ""))
    answer = SELECTED.get(selected, f"The learned policy is in {folder}/policy.")
    is_tuned = selected in {"policy", "recipe"} and log.findings.get("recipe") is not None
    config = _quoted(folder / (RECOMMENDED if is_tuned else "config.yaml"))
    if selected == "none":
        return Verdict(answer, summary(log), f"nmg report {_quoted(folder)}")
    if log.config.data.test is None:
        return Verdict(answer, summary(log), f"nmg adapt --config {config} --masking {_quoted(folder)} --out adapted")
    return Verdict(answer, summary(log), f"nmg compare {config} --policy {_quoted(folder)} --out comparison")


def adapt_verdict(result: AdaptationResult) -> Verdict:
    """Return whether the adapted model predicts held-out text better than before."""
    held_out, command = result.held_out, f"nmg share {_quoted(result.out)} OWNER/NAME"
    if held_out is None:
        return Verdict(f"The adapted model is in {result.out}.", "No text was held out to measure it on.", command)
    numbers = f"The loss on held-out text was {decimal(held_out.before, 3)} and is {decimal(held_out.after, 3)}."
    if held_out.after < held_out.before:
        return Verdict("The model predicts the text of the domain better than before.", numbers, command)
    lower = f"nmg adapt --config {_quoted(result.out / 'config.yaml')} --adapt.learning_rate RATE --out OTHER"
    return Verdict("The model does not predict the text of the domain better than before.", numbers, lower)


def compare_verdict(results: ComparisonResults) -> Verdict:
    """Return whether maskings differ, and which has the best mean."""
    settings = results.settings
    if not any(one.maskings for one in settings):
        return Verdict("No part of the comparison has results.", reading(results))
    shown = any(pair.is_shown for pair in results.pairs)
    best, answer = _best(settings[0]), _on_pairs(results.pairs, results.planned[0].noun)
    if len(settings) == 1:
        metric = settings[0].tested
        answer += f" The highest mean {metric} is that of '{best}'." if metric != "loss" else f" '{best}' is best."
    if best == "none" or not shown or results.is_external:  # nothing here speaks for an adaptation
        return Verdict(answer, reading(results))
    return Verdict(answer, reading(results), _adapt_command(settings[0].part, best))


def _adapt_command(part: Part, masking: str) -> str:
    """Return the command that adapts with a masking of a comparison: with the settings of its run if it has one."""
    folder = part.plan.maskings[masking]
    named = _quoted(masking if folder is None else folder)
    if folder is not None and (config := find_policy(folder).parent / "config.yaml").is_file():
        return f"nmg adapt --config {_quoted(config)} --masking {named} --out adapted"
    return f"nmg adapt --model {_quoted(part.config.model.name)} --masking {named} --corpus TEXTS --out adapted"


def _on_pairs(pairs: Sequence[Pair], noun: str) -> str:
    """Return in one sentence what is shown about the differences; `noun` is what is compared."""
    if any(pair.is_shown for pair in pairs):
        return f"{noun.capitalize()}s differ."
    if any(pair.differs and not pair.is_equal for pair in pairs):
        return f"{noun.capitalize()}s differ over seeds; over other texts they may not."
    if pairs and all(pair.is_equal for pair in pairs):
        return f"The {noun}s are practically equal."
    return f"No difference between {noun}s is shown."


def _best(setting: SettingResult) -> str:
    """Return the masking with the best mean of the tested metric."""
    sign = -1 if setting.tested == "loss" else 1
    return max(setting.maskings, key=lambda one: sign * one.estimates[setting.tested].mean).masking


def estimate_verdict(found: "Estimate", config: Path) -> Verdict:
    """Return how long a run takes."""
    why = f"It runs {count_text(found.trials, 'inner loop')} in {count_text(found.episodes, 'episode')}."
    minutes = f"{found.minutes:.{0 if found.minutes >= 10 else 1}f}"
    return Verdict(f"The run takes about {minutes} minutes.", why, f"nmg learn {_quoted(config)} --out run")


def vocabulary_verdict(counted: "Fragmentation", proposed: "list[Proposal]", model: str, corpus: Path) -> Verdict:
    """Return whether added words would shorten the text."""
    saved = sum(one.saved for one in proposed)
    share = saved / counted.n_tokens if counted.n_tokens else 0.0
    why = f"The model needs {counted.pieces_per_word:.2f} pieces per word."
    if not proposed:
        return Verdict("There are no words to add.", why)
    answer = f"{count_text(len(proposed), 'added word')} would save {percent(share)} of the tokens."
    words = f"--adapt.add_words auto:{len(proposed)}"
    return Verdict(answer, why, f"nmg adapt --corpus {_quoted(corpus)} --model {_quoted(model)} {words} --out adapted")


def collator_verdict(report: "CollatorReport") -> Verdict:
    """Return whether a collator has faults."""
    if not report.faults:
        return Verdict("The collator has no fault.", f"{count_text(len(report.checks), 'check')} found none.")
    names = ", ".join(check.name for check in report.faults)
    return Verdict(f"The collator has {count_text(len(report.faults), 'fault')}.", f"They are marked above: {names}.")


def _quoted(value: str | Path) -> str:
    return shlex.quote(str(value))
