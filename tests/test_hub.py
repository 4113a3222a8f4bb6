"""What the hub says is asked once, and each answer is one sentence."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from nmg.base.errors import UserError
from nmg.base.hub import first_line, is_reachable
from nmg.policies.hub import upload_policy


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    is_reachable.cache_clear()
    yield
    is_reachable.cache_clear()


def answering(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    """The hub answers so; returns the names that it is asked for."""
    asked = []

    def repo_info(_api: Any, name: str, **_options: object) -> object:
        asked.append(name)
        if error is not None:
            raise error
        return SimpleNamespace()

    monkeypatch.setattr("huggingface_hub.HfApi.repo_info", repo_info)
    return asked


def refusal(kind: type[Exception]) -> Exception:
    """An error of the hub's library, which wants the response."""
    error = kind.__new__(kind)
    Exception.__init__(error, "404 Client Error.\n\nRepository not found")
    return error


def test_the_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch):
    asked = answering(monkeypatch, None)
    assert is_reachable("a/b", "model")
    assert is_reachable("a/b", "model")
    assert asked == ["a/b"]


def test_without_network(monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, ConnectionError("no route"))
    assert not is_reachable("a/b", "model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert answering(monkeypatch, None) == []
    assert not is_reachable("c/d", "dataset")


@pytest.mark.parametrize(("status", "reachable"), [(404, True), (429, True), (503, False)])
def test_a_hub_that_answers_otherwise(status: int, reachable: bool, monkeypatch: pytest.MonkeyPatch):
    error = refusal(HfHubHTTPError)
    error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    answering(monkeypatch, error)
    assert is_reachable("a/b", "model") is reachable


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RepositoryNotFoundError, "the hub has no data set 'a/b'. Check the spelling"),
        (GatedRepoError, "the hub restricts access to the data set 'a/b'"),
        (HFValidationError, "'a/b' is not a valid name of a data set on the hub"),
    ],
)
def test_what_the_hub_lacks(error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, refusal(error))
    with pytest.raises(UserError) as raised:
        is_reachable("a/b", "dataset")
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [("one\ntwo", "one"), ("one of:\n (1) a\n (2) b", "one of: (1) a (2) b"), ("", "ValueError"), ("\n\n a \n", "a")],
)
def test_the_line_of_an_error(text: str, said: str):
    assert first_line(ValueError(text)) == said


@pytest.mark.parametrize("error", [ConnectionError(""), RuntimeError("401 Unauthorized\nmore"), OSError()])
def test_sharing_fails_in_one_line(error: Exception, tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError) as raised:
        upload_policy(tmp_path, "a/b", token=None, private=False)
    said = "cannot be reached" if isinstance(error, ConnectionError) else "refused the policy: "
    assert str(raised.value).startswith(f"a/b: the hub {said}")
    assert len(str(raised.value).splitlines()) == 1
