import pytest

from nmg.base.errors import UserError, bad_input


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({}, "a.jsonl: is missing"),
        ({"line": 3}, "a.jsonl, line 3: is missing"),
        ({"field": "label"}, "a.jsonl, field 'label': is missing"),
        ({"line": 3, "field": "label"}, "a.jsonl, line 3, field 'label': is missing"),
    ],
)
def test_bad_input_names_what_is_known(place: dict[str, object], said: str):
    error = bad_input("a.jsonl", "is missing", **place)
    assert isinstance(error, UserError)
    assert str(error) == said
