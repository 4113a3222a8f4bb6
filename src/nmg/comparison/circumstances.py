"""Cells of one comparison that were made under different circumstances: what differs, and where it counts.

Another precision, device, number of threads or version of a library rounds differently, and a training makes a large
difference of a small one. Within a seed cells are to differ in their masks alone.
"""

from collections.abc import Iterable, Mapping, Sequence

from nmg.comparison.cells import Cell

UNKNOWN = "not recorded"
"""by the nmg that made the cell"""


def differing(circumstances: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    """Circumstance → its values, in order of first occurrence; of those that are not the same for all."""
    all_of_them = list(circumstances)
    names = dict.fromkeys(name for one in all_of_them for name in one)
    values = {name: list(dict.fromkeys(one.get(name, UNKNOWN) for one in all_of_them)) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def mixed_seeds(first: Mapping[int, Cell], second: Mapping[int, Cell]) -> tuple[int, ...]:
    """The seeds (seed → cell, of two maskings) whose cells differ in more than their masks."""
    both = [seed for seed in first if seed in second]
    return tuple(seed for seed in both if first[seed].circumstances != second[seed].circumstances)


def described(differences: Mapping[str, Sequence[str]]) -> str:
    """'precision (fp32, bf16) and threads (1, 2)'"""
    parts = [f"{name} ({', '.join(values)})" for name, values in differences.items()]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
