"""Finds trials of one comparison that ran in different environments: what differs, and for which seeds.

A different precision, device, number of threads or library version rounds differently, and training amplifies small
differences. Trials with the same seed should differ only in their masks.
"""

from collections.abc import Iterable, Mapping, Sequence

from nmg.base.trial import TrialResult

UNKNOWN = "not recorded"
"""Value of a property that was not recorded by the version of nmg that ran the trial."""


def differing(environment: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the environment properties that differ between trials, each with its values in order of occurrence.

    `environment` has one mapping per trial: property → value.
    """
    all_of_them = list(environment)
    names = dict.fromkeys(name for one in all_of_them for name in one)
    values = {name: list(dict.fromkeys(one.get(name, UNKNOWN) for one in all_of_them)) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def mixed_seeds(first: Mapping[int, TrialResult], second: Mapping[int, TrialResult]) -> tuple[int, ...]:
    """Return the seeds whose two trials ran in different environments and thus differ in more than their masks.

    `first` and `second` map the seeds of two maskings to trials.
    """
    both = [seed for seed in first if seed in second]
    return tuple(seed for seed in both if first[seed].environment != second[seed].environment)


def described(differences: Mapping[str, Sequence[str]]) -> str:
    """Format the result of `differing` as text, e.g. 'precision (fp32, bf16) and threads (1, 2)'."""
    parts = [f"{name} ({', '.join(values)})" for name, values in differences.items()]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
