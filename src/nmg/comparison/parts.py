"""The parts of a comparison: one data set with one model each. A comparison of several parts is a grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmg.base.errors import UserError
from nmg.base.files import last_part
from nmg.base.progress import Silent
from nmg.base.trial import slug
from nmg.comparison.plan import Plan
from nmg.config import Config
from nmg.policies.maskings import CONTROLS
from nmg.policies.registry import load_policy
from nmg.trials.inputs import SharedInputs
from nmg.trials.session import ModelSession


@dataclass(frozen=True)
class Part:
    """One data set with one model, and the trials to run on it."""

    name: str
    """Name of the part's folder; empty for the only part, whose folder is that of the comparison."""
    data: str
    """Name of the data set, as shown in tables."""
    model: str
    """Name of the model, as shown in tables."""
    config: Config
    plan: Plan
    left_out: Sequence[str] = ()
    """Maskings that this part lacks: policies that do not fit its model, and controls without a fitting policy."""
    is_external: bool = False
    """Whether runs made elsewhere gave the scores. `data` is then their file, and of `config` only `test.margin`
    counts."""

    @property
    def noun(self) -> str:
        """What is compared, in the singular."""
        return "method" if self.is_external else "masking"

    @property
    def title(self) -> str:
        """Return 'data set · model'."""
        return f"{self.data} · {self.model}"

    @classmethod
    def alone(cls, config: Config, plan: Plan) -> "Part":
        """Return the only part of a comparison, which has no name."""
        return cls("", last_part(config.data.train or ""), last_part(config.model.name), config, plan)


@dataclass(frozen=True)
class Cells:
    """The maskings, seeds and conditions of every part of a grid, except for policies that do not fit its model."""

    maskings: Sequence[str]
    """Names of rules and controls."""
    policies: Mapping[str, Path]
    """Name → folder of a learned policy."""
    seeds: int
    """Number of seeds, counted up from `run.seed`."""
    curves: Mapping[str, Any]
    """`labelled`, `adapt_steps` and `lora_ranks` for `Plan.of`."""

    def plan(self, config: Config, left_out: Sequence[str] = ()) -> Plan:
        """Return the plan of one part, without the maskings in `left_out`. Raises UserError as `Plan.of`."""
        first = config.run.seed
        maskings = [name for name in self.maskings if name not in left_out]
        policies = {name: folder for name, folder in self.policies.items() if name not in left_out}
        return Plan.of(maskings, policies, range(first, first + self.seeds), **self.curves)


def parts_of(
    configs: Mapping[str, Config], models: Mapping[str, str], cells: Cells, inputs: SharedInputs
) -> list[Part]:
    """Combine every configuration with every model.

    Each policy is assigned to the parts whose model it fits; the models are loaded to check this.

    Args:
        configs: Name of a data set → its configuration.
        models: Name of a model → folder or hub name. If empty, each configuration keeps its own model.
        cells: The maskings, seeds and conditions of every part.
        inputs: Cache of loaded data and models.

    Returns:
        The parts of the grid.

    Raises:
        UserError: Two parts would have the same name, or a policy fits no model.
    """
    named: dict[str, tuple[str, str, Config]] = {}
    for data, config in configs.items():
        for model, place in (models or {"": config.model.name}).items():
            of_model = config.model_copy(update={"model": config.model.model_copy(update={"name": place})})
            name = f"{slug(data)}.{slug(model)}" if models else slug(data)
            found = data, model or last_part(place), of_model
            same = next((known for known in named if known.lower() == name.lower()), None)  # as file systems may
            if same is not None:
                raise UserError(
                    f"{_quoted(named[same])} and {_quoted(found)} would share a folder; rename one with "
                    "NAME=CONFIG.yaml or --models NAME=MODEL"
                )
            named[name] = found
    misfits = _misfits([config for _, _, config in named.values()], cells.policies, inputs)
    parts = []
    for name, (data, model, config) in named.items():
        left_out = list(misfits[config.model.name])
        if left_out and len(left_out) == len(cells.policies):
            left_out += [masking for masking in cells.maskings if masking in CONTROLS]
        parts.append(Part(name, data, model, config, cells.plan(config, left_out), left_out))
    return parts


def _quoted(one: tuple[str, str, Config]) -> str:
    return f"'{one[0]}' with '{one[1]}'"


def _misfits(
    configs: Sequence[Config], policies: Mapping[str, Path], inputs: SharedInputs
) -> dict[str, dict[str, str]]:
    """Return name of a model → name of a policy that does not fit it → reason.

    Raises UserError if a policy fits no model.
    """
    found: dict[str, dict[str, str]] = {config.model.name: {} for config in configs}
    loaded = {name: load_policy(folder) for name, folder in policies.items()}
    for config in {config.model.name: config for config in configs}.values() if loaded else ():
        lm = ModelSession.open(config, Silent(), inputs).lm
        for name, policy in loaded.items():
            try:
                policy.check_fits(lm.hidden_size, lm.vocabulary_size)
            except UserError as error:
                found[config.model.name][name] = str(error)
    for name, folder in policies.items():
        if all(name in of_model for of_model in found.values()):
            why = next(reversed(found.values()))[name]
            raise UserError(f"--policies {name}={folder}: does not fit any model of the grid: {why}")
    return found


def chosen_baseline(baseline: str | None, parts: Sequence[Part]) -> str:
    """Return the name of the baseline: `baseline` or, if None, 'random' or, without it, the first masking.

    Raises UserError if the plan of a part lacks the baseline.
    """
    names = parts[0].plan.names
    baseline = baseline or ("random" if "random" in names else names[0])
    for part in parts:
        if baseline not in part.plan.names:
            why = "does not fit the model" if baseline in part.left_out else f"is not among the {part.noun}s"
            where = f" of '{part.name}'" if part.name else ""
            raise UserError(f"--baseline {baseline}: {why}{where}; it must be in every part of a comparison")
    return baseline
