"""Turns the findings of an audit into a short text and a configuration."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nmg.auditing.findings import LEVEL, Adaptation, RewardFinding, Schedule
from nmg.base.numerals import rounded
from nmg.config import Config
from nmg.data.overlap import near_duplicates_text
from nmg.learners.experiment.settings import ExperimentSettings
from nmg.policies.linear import LinearSettings

LEAST_MARGIN = 1.0
"""Smallest margin by which the loss of a language model must be below the entropy of word frequencies, in nats."""
LEAST_CORRELATION = 0.5
"""Smallest correlation with the full score that a reward needs to count as sound."""
LEAST_PLAYS, MOST_PLAYS = 60, 1000
"""Lower and upper limit of the recommended number of inner loops of an experiment."""


def recommend(
    config: Config,
    facts: Mapping[str, Any],
    adapting: Adaptation,
    rewards: Sequence[RewardFinding],
    steps_an_epoch: int,
) -> tuple[Config, str]:
    """Recommend settings that follow from the findings.

    Args:
        config: The settings of the audit.
        facts: The findings as in audit.json.
        adapting: Whether adaptation improves the score, and the best schedule.
        rewards: All possible rewards.
        steps_an_epoch: Number of adaptation steps per epoch.

    Returns:
        The recommended settings, and the reasons in a few sentences.
    """
    maskings, reward = facts["maskings"], best_reward(rewards, facts["maskings"]["p"])
    sentences = [*_warnings(facts), _on_adaptation(adapting, maskings["metric"])]
    is_one_higher = may_beat_no_adaptation(maskings, adapting.none)
    if adapting.pays is False and not is_one_higher:
        sentences.append("No other masks are shown to be better. Do not adapt.")
        return _settings(config, adapting.best, reward, maskings, steps_an_epoch), " ".join(sentences)
    means = list(maskings["mean"].values())
    if len(means) > 1 and len(set(means)) == 1:
        sentences.append(
            "The fine-tuned models of all maskings have the same score, so fine-tuning may have learned only the "
            "largest class. Use more labelled examples (--minutes) or more epochs (finetune.epochs)."
        )
    spread = (
        f"standard deviation {100 * maskings['between']:.1f} points between them{_at_most(maskings)}, "
        f"p {_p(maskings['p'])}"
    )
    if reward is None:
        sentences.append(
            f"No reward that agrees with the score distinguishes the maskings within {MOST_PLAYS} trials (full score: "
            f"{spread}). Use {'a rule' if adapting.pays is False else 'random masks or a rule'}, because an experiment "
            "could not show that learned masks are better."
        )
    else:
        differ = "differ" if _is_significant(maskings["p"]) else "may differ"
        sentences += [f"Maskings {differ} in {maskings['metric']} ({spread}).", _on_reward(reward, maskings)]
    if is_one_higher:
        sentences.append(_on_highest(maskings["mean"], adapting.none))
    if (most := maskings["possible_gain"]) is not None:
        sentences.append(
            f"A learned linear policy can gain at most {100 * most:.1f} points over random masks (95 % confidence)."
        )
    return _settings(config, adapting.best, reward, maskings, steps_an_epoch), " ".join(sentences)


def _warnings(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield warnings that precede the findings: a weak language model, near duplicates, and a shortened audit."""
    lm, leakage, steps, examples = (facts[name] for name in ("lm", "leakage", "steps", "examples"))
    if lm["margin"] < LEAST_MARGIN:
        distance = f"{abs(lm['margin']):.2f} nats {'below' if lm['margin'] >= 0 else 'above'}"
        yield (
            f"The model predicts this text poorly: its masked-LM loss of {lm['loss']:.2f} is {distance} the loss of "
            f"word frequencies ({lm['unigram_entropy']:.2f}). Use a model with a trained LM head, or one trained on "
            "similar text."
        )
    if leakage["near_duplicates"]:
        yield (
            f"{near_duplicates_text(leakage)}. Set data.drop_duplicates, or give a validation file without them "
            "(data.validation)."
        )
    if is_shortened(facts):
        yield (
            f"The time allowed {steps['most']} of {steps['wanted']} adaptation steps and {examples['used']} of "
            f"{examples['labelled']} labelled examples. The findings hold for these; an audit with all of them takes "
            f"about {math.ceil(facts['minutes'])} minutes."
        )


def is_shortened(facts: Mapping[str, Any]) -> bool:
    """Return whether the time allowed fewer adaptation steps or fewer labelled examples than there are."""
    steps, examples = facts["steps"], facts["examples"]
    return bool(steps["most"] < steps["wanted"] or examples["used"] < examples["labelled"])


def best_reward(rewards: Sequence[RewardFinding], p: float | None) -> RewardFinding | None:
    """Return the sound reward that needs the fewest minutes or, if none is sound, the cheapest that appears to agree.

    Args:
        rewards: The possible rewards.
        p: p value of the F test that all maskings have the same full score.

    Returns:
        A reward that needs at most `MOST_PLAYS` trials, or None if no such reward agrees with the full score.
    """
    usable = [one for one in rewards if one.plays_needed is not None and one.plays_needed <= MOST_PLAYS]
    sound = [one for one in usable if is_sound(one, p)]
    doubtful = [one for one in usable if _seems_to_agree(one)]
    return min(sound or doubtful, key=lambda one: one.minutes or 0.0, default=None)


def is_sound(reward: RewardFinding, p: float | None) -> bool:
    """Return whether the data show that a reward agrees with the full score.

    This requires a significant difference between maskings (`p` below `LEVEL`) and a lower confidence limit of the
    correlation with the full score of at least `LEAST_CORRELATION`.
    """
    return _is_significant(p) and reward.corrected_low is not None and reward.corrected_low >= LEAST_CORRELATION


def _is_significant(p: float | None) -> bool:
    """Return whether a p value is defined and below `LEVEL`."""
    return p is not None and p < LEVEL


def _seems_to_agree(reward: RewardFinding) -> bool:
    """Return whether the estimated correlations with the full score are at least `LEAST_CORRELATION`.

    A missing corrected correlation is ignored; a missing rank correlation counts as 0.
    """
    agrees = reward.corrected is None or reward.corrected >= LEAST_CORRELATION
    return agrees and (reward.rank_correlation or 0.0) >= LEAST_CORRELATION


def _on_adaptation(adapting: Adaptation, metric: str) -> str:
    best = adapting.best
    gain = f"{_gain(best)} {metric} over no adaptation"
    schedule = f"{best.steps} steps at learning rate {best.learning_rate:g}"
    if adapting.pays is True:
        return f"Adaptation helps: {gain}, with {schedule}."
    if adapting.pays is False:
        return f"Random masks lower {metric} even under the best schedule ({gain}, with {schedule})."
    return f"These seeds do not show whether adaptation helps ({gain}, with {schedule})."


def may_beat_no_adaptation(maskings: Mapping[str, Any], none: float) -> bool:
    """Return whether the masks differ significantly, and the highest of their mean scores is above `none`.

    Args:
        maskings: The findings on maskings, as in audit.json.
        none: Mean score without adaptation.
    """
    return _is_significant(maskings["p"]) and max(maskings["mean"].values()) > none


def _on_highest(means: Mapping[str, float], none: float) -> str:
    """Return a sentence on the masking with the highest mean score, compared with no adaptation (score `none`)."""
    name = max(means, key=lambda masking: means[masking])
    shown = "a random direction" if name.startswith("direction-") else name
    return (
        f"The highest mean is that of {shown}: {rounded(100 * (means[name] - none), 1, '+')} points over no "
        f"adaptation. This is optimistic, because it is the highest of {len(means)}."
    )


def _on_reward(reward: RewardFinding, maskings: Mapping[str, Any]) -> str:
    plays = recommended_plays(reward)
    sentence = (
        f"Learn with the reward {reward.name} ({reward.metric}): about {plays} trials, "
        f"{plays * reward.seconds / 60:.1f} minutes with one process."
    )
    if not is_sound(reward, maskings["p"]):
        sentence += (
            f" The data do not show that this reward agrees with {maskings['metric']}: over these few trials their "
            f"rank correlation is {reward.rank_correlation:+.2f}."
        ).replace("-", "−")
    return sentence


def recommended_plays(reward: RewardFinding) -> int:
    """Return the recommended number of inner loops: `plays_needed`, limited to `LEAST_PLAYS` … `MOST_PLAYS`."""
    return min(max(reward.plays_needed or 0, LEAST_PLAYS), MOST_PLAYS)


def _settings(
    config: Config,
    best: Schedule,
    reward: RewardFinding | None,
    maskings: Mapping[str, Any],
    steps_an_epoch: int,
) -> Config:
    """Return the recommended settings.

    Args:
        config: The settings of the audit.
        best: The best schedule of the adaptation.
        reward: The recommended reward; None leaves the learner unchanged.
        maskings: The findings on maskings, as in audit.json.
        steps_an_epoch: Number of adaptation steps per epoch.

    Returns:
        A changed copy of `config`.
    """
    rules = {name: mean for name, mean in maskings["mean"].items() if name.startswith("idf-")}
    exponent = float(max(rules, key=lambda name: rules[name]).removeprefix("idf-")) if rules else 2.0
    epochs = max(1, round(best.steps / steps_an_epoch))
    update: dict[str, Any] = {
        "adapt": config.adapt.model_copy(update={"learning_rate": best.learning_rate}),
        "test": config.test.model_copy(update={"adapt_epochs": epochs}),
        "masking": config.masking.model_copy(update={"idf_exponent": exponent, "idf_unit": "piece"}),
    }
    if reward is not None:
        plays = recommended_plays(reward)
        factors = config.learner.factors if isinstance(config.learner, ExperimentSettings) else ()
        evaluation = {"probe": "linear-probe", "embeddings": "embedding"}.get(reward.name, "finetune")
        times = int(reward.name.split()[0]) if reward.name[0].isdigit() else 1
        update |= {
            "policy": config.policy if isinstance(config.policy, LinearSettings) else LinearSettings(),
            "learner": ExperimentSettings(budget=plays, factors=factors),
            "meta": config.meta.model_copy(update={"continual": False, "episodes": plays}),
            "reward": config.reward.model_copy(
                update={"metric": reward.metric, "evaluation": evaluation, "num_replicates": times}
            ),
        }
    return config.model_copy(update=update)


def _at_most(maskings: Mapping[str, Any]) -> str:
    """Return the upper limit of the standard deviation between maskings as text; empty if it is undefined."""
    high = maskings["between_high"]
    return "" if high is None else f", at most {100 * high:.1f} with 95 % confidence"


def _gain(best: Schedule) -> str:
    """Return the gain and its interval as text, in percentage points."""
    interval = ""
    if best.low is not None and best.high is not None:
        interval = f" [{rounded(100 * best.low, 1, '+')}, {rounded(100 * best.high, 1, '+')}]"
    return f"{rounded(100 * best.gain, 1, '+')} points{interval}"


def _p(p: float | None) -> str:
    return "undefined" if p is None else "< 0.001" if p < 0.001 else f"= {p:.3f}"
