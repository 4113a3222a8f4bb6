"""Whatever a file holds, reading it ends soon: in a result, or in one clear error.

`pytest -m slow tests/safety/test_fuzz.py` tries 1200 files on each target, 22,800 in all; the ordinary tests try fewer.
`python tests/safety/fuzz.py` lets coverage guide the search (atheris).
"""

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from .mutations import files
from .targets import TARGETS

SOON = timedelta(seconds=5)
every_target = pytest.mark.parametrize("name", TARGETS)


def try_files(name: str, n_files: int, *, always_the_same: bool = False) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=n_files,
        deadline=SOON,
        derandomize=always_the_same,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(files(target.seeds))
    def reads(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target.run(Path(folder), content)

    reads()


@every_target
def test_any_file(name: str):
    try_files(name, 25, always_the_same=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_target
def test_any_of_many_files(name: str):
    try_files(name, 1200)


@every_target
def test_the_files_to_begin_from_are_good(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A target that swallows an error for them would try little."""
    monkeypatch.setattr("contextlib.suppress", lambda *_: __import__("contextlib").nullcontext())
    if name in {"txt.gz", "configuration"}:
        pytest.skip("one of their ways of reading it is wrong for any content")
    for number, seed in enumerate(TARGETS[name].seeds):
        folder = tmp_path / str(number)
        folder.mkdir()
        TARGETS[name].run(folder, seed)


def test_a_traceback_would_be_found():
    from .targets import Target

    def broken(folder: Path, content: bytes) -> None:
        if b"\0" in content:
            raise KeyError("found")

    TARGETS["broken"] = Target(broken, [b"seed"])
    try:
        with pytest.raises(KeyError):
            try_files("broken", 300)
    finally:
        del TARGETS["broken"]
