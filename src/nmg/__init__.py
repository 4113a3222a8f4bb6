"""Learn which tokens to mask when a language model is adapted to a domain, and measure how much the masks improve it.

The names below form the public interface. Each one is imported on first use.
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from nmg.auto.run import adapt_automatically
    from nmg.base.errors import UserError
    from nmg.collation.check import check_collator
    from nmg.collation.collator import MaskingCollator
    from nmg.config import Config, load_config
    from nmg.jobs.adapt import adapt
    from nmg.jobs.audit import audit
    from nmg.jobs.compare import compare
    from nmg.jobs.compare_scores import compare_scores
    from nmg.jobs.estimate import estimate
    from nmg.jobs.inspect import inspect
    from nmg.jobs.learn import learn
    from nmg.jobs.learn import learn as meta_train
    from nmg.masking.schedule import RatePhases, RateSchedule
    from nmg.meta_training.loop import MetaTraining
    from nmg.policies.maskings import load_masking
    from nmg.policies.registry import load_policy
    from nmg.trials.session import ModelSession, Session

__all__ = [
    "Config",
    "MaskingCollator",
    "MetaTraining",
    "ModelSession",
    "RatePhases",
    "RateSchedule",
    "Session",
    "UserError",
    "adapt",
    "adapt_automatically",
    "audit",
    "check_collator",
    "compare",
    "compare_scores",
    "estimate",
    "inspect",
    "learn",
    "load_config",
    "load_masking",
    "load_policy",
    "meta_train",
]

_PLACES = {
    "Config": "nmg.config:Config",
    "MaskingCollator": "nmg.collation.collator:MaskingCollator",
    "MetaTraining": "nmg.meta_training.loop:MetaTraining",
    "ModelSession": "nmg.trials.session:ModelSession",
    "RatePhases": "nmg.masking.schedule:RatePhases",
    "RateSchedule": "nmg.masking.schedule:RateSchedule",
    "UserError": "nmg.base.errors:UserError",
    "Session": "nmg.trials.session:Session",
    "adapt": "nmg.jobs.adapt:adapt",
    "adapt_automatically": "nmg.auto.run:adapt_automatically",
    "audit": "nmg.jobs.audit:audit",
    "check_collator": "nmg.collation.check:check_collator",
    "compare": "nmg.jobs.compare:compare",
    "compare_scores": "nmg.jobs.compare_scores:compare_scores",
    "estimate": "nmg.jobs.estimate:estimate",
    "inspect": "nmg.jobs.inspect:inspect",
    "learn": "nmg.jobs.learn:learn",
    "load_config": "nmg.config:load_config",
    "load_masking": "nmg.policies.maskings:load_masking",
    "load_policy": "nmg.policies.registry:load_policy",
    "meta_train": "nmg.jobs.learn:learn",
}


def __getattr__(name: str) -> _typing.Any:
    if name == "__version__":
        return _importlib.import_module("importlib.metadata").version("nmg")
    if name not in _PLACES:
        raise AttributeError(f"module 'nmg' has no attribute '{name}'")
    module, _, attribute = _PLACES[name].partition(":")
    return getattr(_importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
