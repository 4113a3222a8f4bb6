"""Policies and maskings as Python calls name them."""

from pathlib import Path

import pytest

from nmg.base.errors import UserError
from nmg.jobs.policies import names_of, policies_of


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, {}),
        ("runs/mine", {"mine": Path("runs/mine")}),
        (Path("runs/mine/policy"), {"mine": Path("runs/mine/policy")}),
        (["runs/a", Path("runs/b")], {"a": Path("runs/a"), "b": Path("runs/b")}),
        ({"best": "runs/a"}, {"best": Path("runs/a")}),
        ({"neural": "runs/a"}, {"learned": Path("runs/a")}),
    ],
)
def test_policies(given, found: dict[str, Path]):
    assert policies_of(given) == found


@pytest.mark.parametrize(
    ("given", "found"),
    [("none", ["none"]), ("none, random,", ["none", "random"]), (("idf", "neural"), ["idf", "learned"]), ("", [])],
)
def test_names(given, found: list[str]):
    assert names_of(given) == found


@pytest.mark.parametrize("given", [3, [3], {1, 2}])
def test_other_types_are_refused(given):
    with pytest.raises(UserError, match="must be a folder"):
        policies_of(given)
    with pytest.raises(UserError, match="must be names"):
        names_of(given)
