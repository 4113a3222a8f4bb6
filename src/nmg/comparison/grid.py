"""A grid of comparisons: every data set with every model, with the same maskings and one baseline.

Each comparison has its own folder. The grid adds one family of tests per primary metric: every masking against the
baseline, in every planned comparison and condition that is scored by that metric. The probability of any false positive
in a family is at most 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nmg.base.errors import UserError
from nmg.base.files import last_part
from nmg.base.progress import Silent
from nmg.comparison.results import ComparisonResults, MaskingResult, Pair, SettingResult, holm_corrected, pair_json
from nmg.comparison.statistics import ALPHA, CONFIDENCE
from nmg.comparison.trials import Condition, slug
from nmg.config import Config
from nmg.policies.maskings import CONTROLS
from nmg.policies.registry import load_policy
from nmg.trials.inputs import SharedInputs
from nmg.trials.session import ModelSession


@dataclass(frozen=True)
class Part:
    """One comparison of a grid: one data set with one model."""

    name: str
    """Name of the comparison's folder."""
    data: str
    """Name of the data set, as shown in tables."""
    model: str
    """Name of the model, as shown in tables."""
    config: Config
    maskings: Sequence[str]
    policies: Mapping[str, Path]
    """Name → folder of each learned policy that fits the model."""
    left_out: Sequence[str] = ()
    """Maskings that other parts have: policies that do not fit the model, and controls without a fitting policy."""


@dataclass(frozen=True)
class Difference:
    """The difference between a masking and the baseline in one condition of one part."""

    part: Part
    condition: Condition
    pair: Pair
    """masking − baseline, corrected over the family."""


@dataclass(frozen=True)
class Family:
    """The parts of a grid that have the same primary metric, and all tests on this metric."""

    metric: str
    results: Mapping[str, ComparisonResults]
    """Name of a part → its results."""
    parts: Sequence[Part]
    differences: Sequence[Difference]
    n_planned: int
    """Number of planned differences, over which the correction is made."""

    @property
    def settings(self) -> list[Condition]:
        """The distinct settings of all parts."""
        return list(dict.fromkeys(one.condition for results in self.results.values() for one in results.settings))

    def maskings(self, part: Part, condition: Condition) -> dict[str, MaskingResult]:
        """Name of a masking → its result; empty if no cell of the condition is finished."""
        found = [one for one in self.results[part.name].settings if one.condition == condition]
        return {masking.masking: masking for one in found for masking in one.maskings}

    def difference(self, part: Part, condition: Condition, masking: str) -> Pair | None:
        """The paired test of a masking against the baseline.

        Args:
            part: A part of the family.
            condition: A condition of the part.
            masking: The name of the masking.

        Returns:
            The corrected test, or None for the baseline itself or if the two share no seed.
        """
        for one in self.differences:
            if (one.part.name, one.condition, one.pair.first) == (part.name, condition, masking):
                return one.pair
        return None


@dataclass(frozen=True)
class GridResults:
    """The results of all comparisons of a grid."""

    base: str
    parts: Sequence[Part]
    results: Mapping[str, ComparisonResults]
    """Name of a part → its results, without parts that failed as a whole."""
    families: Sequence[Family]
    failed_parts: Mapping[str, str]
    """Name of a part that failed as a whole → what went wrong."""

    @property
    def failures(self) -> dict[str, str]:
        """'PART' or 'PART/CELL' → what went wrong."""
        of_cells = {
            f"{name}/{cell}": problem
            for name, results in self.results.items()
            for cell, problem in results.failures.items()
        }
        return {**self.failed_parts, **of_cells}

    def to_json(self) -> dict[str, Any]:
        """The content of grid.json; undefined values are null, never NaN."""
        return {
            "base": self.base,
            "confidence": CONFIDENCE,
            "alpha": ALPHA,
            "comparisons": [
                {"name": part.name, "data": part.data, "model": part.model, "left_out": list(part.left_out)}
                for part in self.parts
            ],
            "families": [_family_json(family) for family in self.families],
            "failures": self.failures,
        }


def parts_of(
    configs: Mapping[str, Config],
    models: Mapping[str, str],
    maskings: Sequence[str],
    policies: Mapping[str, Path],
    inputs: SharedInputs | None = None,
) -> list[Part]:
    """Combine every configuration with every model.

    Each policy is assigned to the parts whose model it fits; the models are loaded to check this.

    Args:
        configs: Name of a data set → its configuration.
        models: Name of a model → folder or hub name. If empty, each configuration keeps its own model.
        maskings: Names of rules and controls.
        policies: Name → folder of a learned policy.
        inputs: Keeps the loaded models for the comparisons; None if nothing else needs them.

    Returns:
        The parts of the grid.

    Raises:
        UserError: Two parts would have the same name, or a policy fits no model.
    """
    parts = []
    for data, config in configs.items():
        if not models:
            model = last_part(config.model.name)
            parts.append(Part(slug(data), data, model, config, maskings, policies))
        for model, place in models.items():
            of_model = config.model_copy(update={"model": config.model.model_copy(update={"name": place})})
            parts.append(Part(f"{slug(data)}.{slug(model)}", data, model, of_model, maskings, policies))
    by_folder: dict[str, Part] = {}
    for part in parts:
        other = by_folder.setdefault(part.name.lower(), part)  # file systems may ignore case
        if other is not part:
            raise UserError(
                f"'{other.data}' with '{other.model}' and '{part.data}' with '{part.model}' would share a folder; "
                "rename one: NAME=CONFIG.yaml, --models NAME=MODEL"
            )
    return _with_fitting(parts, policies, inputs or SharedInputs()) if policies else parts


def _with_fitting(parts: Sequence[Part], policies: Mapping[str, Path], inputs: SharedInputs) -> list[Part]:
    """The parts, each with only the policies that fit its model, and with controls only if a policy fits."""
    loaded = {name: load_policy(folder) for name, folder in policies.items()}
    sizes: dict[str, tuple[int, int]] = {}
    misfits: dict[str, str] = {}
    fitting = []
    for part in parts:
        model = part.config.model.name
        if model not in sizes:
            lm = ModelSession.open(part.config, Silent(), inputs).lm
            sizes[model] = lm.hidden_size, lm.vocabulary_size
        fits = {}
        for name, policy in loaded.items():
            try:
                policy.check_fits(*sizes[model])
                fits[name] = policies[name]
            except UserError as error:
                misfits[name] = str(error)
        left_out = [name for name in policies if name not in fits]
        left_out += [name for name in part.maskings if name in CONTROLS and not fits]
        maskings = [name for name in part.maskings if name not in left_out]
        fitting.append(replace(part, maskings=maskings, policies=fits, left_out=left_out))
    for name, folder in policies.items():
        if not any(name in part.policies for part in fitting):
            raise UserError(f"--policies {name}={folder}: does not fit any model of the grid: {misfits[name]}")
    return fitting


def chosen_base(base: str | None, parts: Sequence[Part]) -> str:
    """The baseline: `base` or, if None, `random` or else the first masking. Raises UserError if a part lacks it."""
    first = parts[0]
    names = [*first.maskings, *first.policies]
    base = base or ("random" if "random" in names else names[0])
    for part in parts:
        if base not in part.maskings and base not in part.policies:
            why = "does not fit the model" if base in part.left_out else "is not among the maskings"
            raise UserError(f"--baseline {base}: {why} of '{part.name}'; every comparison of a grid needs the baseline")
    return base


def analyse_grid(
    base: str, parts: Sequence[Part], results: Mapping[str, ComparisonResults], failed_parts: Mapping[str, str]
) -> GridResults:
    """Test every masking against the baseline, with Holm's correction over all tests of the same primary metric.

    Args:
        base: The name of the baseline.
        parts: All planned comparisons.
        results: Name of a part → its results.
        failed_parts: Name of a part that failed as a whole → what went wrong.

    Returns:
        The results of the grid, with one family per primary metric.
    """
    done = [part for part in parts if part.name in results]
    metrics = list(dict.fromkeys(results[part.name].tested for part in done))
    families = []
    for metric in metrics:
        of_metric = [part for part in done if results[part.name].tested == metric]
        differences = [one for part in of_metric for one in _against(base, part, results[part.name])]
        n_planned = sum(_n_planned(part, results[part.name].settings) for part in of_metric)
        # The metric of a failed comparison is unknown: count it in every family that has a part with its task.
        tasks = {part.config.data.task for part in of_metric}
        failed = [part for part in parts if part.name in failed_parts and part.config.data.task in tasks]
        n_planned += sum(_n_planned(part, results[of_metric[0].name].settings) for part in failed)
        corrected = holm_corrected([one.pair for one in differences], n_planned)
        differences = [replace(one, pair=pair) for one, pair in zip(differences, corrected, strict=True)]
        of_parts = {part.name: results[part.name] for part in of_metric}
        families.append(Family(metric, of_parts, of_metric, differences, n_planned))
    return GridResults(base, parts, results, families, failed_parts)


def _n_planned(part: Part, settings: Sequence[SettingResult]) -> int:
    """Number of planned differences from the baseline in one comparison."""
    return len(settings) * (len({*part.maskings, *part.policies}) - 1)


def _against(base: str, part: Part, results: ComparisonResults) -> list[Difference]:
    """The differences from the baseline in one part, not yet corrected over the family."""
    return [
        Difference(part, condition.condition, pair if pair.second == base else pair.reversed_)
        for condition in results.settings
        for pair in condition.pairs
        if base in (pair.first, pair.second)
    ]


def _family_json(family: Family) -> dict[str, Any]:
    scores = [
        {"comparison": part.name, **asdict(condition), "masking": name, **asdict(one.estimates[family.metric])}
        for condition in family.settings
        for part in family.parts
        for name, one in family.maskings(part, condition).items()
    ]
    differences = [
        {"comparison": one.part.name, **asdict(one.condition), **pair_json(one.pair)} for one in family.differences
    ]
    return {"metric": family.metric, "n_planned": family.n_planned, "scores": scores, "differences": differences}
