"""Settings of the designed experiment. All ours."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nmg.settings import LARGEST_COUNT, Count, NonNegative, Positive, Section, Share


class ExperimentSettings(Section):
    kind: Literal["experiment"] = "experiment"
    plays: Annotated[int, Field(ge=20, le=LARGEST_COUNT)] = 200
    """inner loops of the whole run: half to explore, a quarter to choose strength and rule, a quarter for the gate"""
    spread: Positive = 2.0
    """standard deviation of each weight of the directions that are explored"""
    strengths: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1.0, 2.0, 4.0)
    """lengths of the learned direction that are tried"""
    rules: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (0.0, 2.0, 5.0, 10.0)
    """sharpnesses of idf (by word pieces) that the policy must beat; 0 is random"""
    smallest_gain: NonNegative = 0.0
    """gain in the score over random masks below which you do not care; exploration ends where no more is possible"""
    first_look: Count = 5
    """pairs beyond the number of features before the answer is looked at; then after every ten"""
    clear: Share = 0.001
    """exploration ends early where the F test of "no feature matters" is below"""
    level: Share = 0.05
    """of the gate's test, one-sided: the policy is handed out where it beats the best rule at this level"""

    has_leader: ClassVar = False
    needs_linear: ClassVar = True
    learns_words: ClassVar = True
