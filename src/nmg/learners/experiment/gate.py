"""The gate of an experiment: is the learned policy better than everything that a user could do without it?

The policy must beat no adaptation, random masks and the tuned rule, each at the level of the gate. This is an
intersection-union test (Berger 1982, doi 10.1080/00401706.1982.10487790): whichever alternative is the best one, the
policy passes without being better with at most that probability. So the three tests need no correction.

If the recipe was tuned, the policy and random masks take part under it, and the alternatives under the configured one.
Once the policy has passed, two more tests at the same level say whether its masks beat random masks under its recipe,
and whether that recipe passes without them. They follow the first test in a fixed order, so whatever is selected is no
better than every alternative with at most the probability of one level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

POLICY, RULE, RANDOM, NONE, RECIPE = "policy", "rule", "random", "none", "recipe"
"""Players of the gate: the learned policy, the tuned rule, random masks, no adaptation, and random masks under the
tuned recipe."""
ALTERNATIVES = (NONE, RANDOM, RULE)
"""What the policy must beat, the simplest first: the simplest of equally good ones is selected."""


@dataclass(frozen=True)
class Difference:
    """Result of the paired t test of the policy, or of its recipe, against an alternative."""

    mean: float
    """Mean score difference policy − alternative over the episodes."""
    p: float | None
    """One-sided p-value of "the policy is better"; None with one episode or if all differences are equal."""

    def is_below(self, level: float) -> bool:
        """Return whether the p-value is below `level`."""
        return self.p is not None and self.p < level


@dataclass(frozen=True)
class Verdict:
    """Result of the gate."""

    n: int
    """Number of episodes."""
    level: float
    """Significance level of each test."""
    against: Mapping[str, Difference]
    """Alternative → result of its test. Without a tuned rule other than random masks, `rule` is missing."""
    passes: bool
    """Whether the policy beats every alternative."""
    selected: str | None
    """`policy` if it passes, otherwise the alternative with the highest mean score; None without episodes.

    `recipe` if the policy passes, its masks do not beat random masks under its recipe, and these pass, too.
    """
    masks: Difference | None = None
    """Test of the policy against random masks under its recipe; None if the recipe is the configured one."""
    recipe: Mapping[str, Difference] | None = None
    """Alternative → test of random masks under the tuned recipe; None if the recipe is the configured one."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields except `selected` as JSON values, without those that are None."""
        return {name: value for name, value in asdict(self).items() if name != "selected" and value is not None}


def gate_verdict(scores: Sequence[Mapping[str, float]], level: float) -> Verdict:
    """Test whether the policy beats each alternative.

    Args:
        scores: Player → score, for each episode of the gate. All episodes have the same players.
        level: Significance level of each test.

    Returns:
        The verdict.
    """
    if not scores:
        return Verdict(0, level, {}, False, None)
    others = [name for name in ALTERNATIVES if name in scores[0]]
    against = {name: _difference(scores, POLICY, name) for name in others}
    passes = all(one.is_below(level) for one in against.values())
    # The policy's scores are the same in all differences, so the smallest one belongs to the best alternative.
    best = min(others, key=lambda name: against[name].mean)
    verdict = Verdict(len(scores), level, against, passes, POLICY if passes else best)
    if RECIPE not in scores[0]:
        return verdict
    masks, recipe = _difference(scores, POLICY, RECIPE), {name: _difference(scores, RECIPE, name) for name in others}
    is_recipe_enough = not masks.is_below(level) and all(one.is_below(level) for one in recipe.values())
    selected = RECIPE if passes and is_recipe_enough else verdict.selected
    return replace(verdict, selected=selected, masks=masks, recipe=recipe)


def _difference(scores: Sequence[Mapping[str, float]], first: str, other: str) -> Difference:
    """Test the differences `first` − `other` over the episodes."""
    differences = np.array([one[first] - one[other] for one in scores])
    n, mean = len(differences), float(differences.mean())
    deviation = float(differences.std(ddof=1)) if n > 1 else 0.0
    if deviation == 0:
        return Difference(mean, None)
    return Difference(mean, float(stats.t.sf(mean / deviation * np.sqrt(n), n - 1)))
