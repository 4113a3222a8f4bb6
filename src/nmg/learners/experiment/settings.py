"""Settings of the experiment learner. No setting comes from the paper."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from nmg.base.section import LARGEST_COUNT, Count, NonNegative, Positive, Section, Share
from nmg.learners.experiment.factors import FactorName


def _distinct(factors: tuple[FactorName, ...]) -> tuple[FactorName, ...]:
    """Raise ValueError if a factor is named twice."""
    for name in factors:
        if factors.count(name) > 1:
            raise ValueError(f"'{name}' is named twice")
    return factors


class ExperimentSettings(Section):
    """Settings of the experiment learner."""

    kind: Literal["experiment"] = "experiment"
    budget: Annotated[int, Field(ge=20, le=LARGEST_COUNT)] = 200
    """Number of inner loops per run. Two fifths explore, a fifth tunes strength and rule, and two fifths are for the
    gate."""
    std: Positive = 2.0
    """Standard deviation of each weight of the explored directions."""
    strengths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 4.0)
    """Lengths of the learned direction to compare in the tune stage."""
    rules: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (0.0, 2.0, 5.0, 10.0)
    """Exponents of the idf rules (over word pieces) of which the policy must beat the best; 0 means random masks."""
    min_effect: NonNegative = 0.0
    """Smallest relevant gain in score over random masks. Exploration ends if a larger gain is ruled out."""
    min_pairs: Count = 5
    """Number of pairs, in addition to the number of features, before the first interim analysis. Further analyses
    follow every ten pairs."""
    early_stop_alpha: Share = 0.001
    """Significance level of the F test of "no feature matters". Exploration ends early if the p-value is below it."""
    gate_alpha: Share = 0.05
    """One-sided significance level of the gate. The policy is selected if it beats no adaptation, random masks and the
    best rule, each at this level."""

    factors: Annotated[tuple[FactorName, ...], AfterValidator(_distinct)] = ()
    """Parts of the recipe to vary together with the masks: `learning-rate` (from half to twice the configured value),
    `steps` and `rate` (both from 1/1.5 to 1.5 times), and `unit` (tokens or words). With factors, exploration does not
    end early."""

    @model_validator(mode="after")
    def _has_random_masks(self) -> Self:
        if self.factors and 0.0 not in self.rules:
            raise ValueError("rules: recipes are compared under random masks, so `factors` needs the rule 0")
        return self

    has_leader: ClassVar = False
    needs_linear: ClassVar = True
    learns_words: ClassVar = True
