"""A model and a configuration of adaptations that take a second."""

from pathlib import Path
from typing import Any, Protocol

import pytest

from nmg.config import Config
from support.documents import documents, save_model
from support.runs import SMALL


class MakeConfig(Protocol):
    def __call__(self, **changes: dict[str, Any]) -> Config: ...


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("documents") / "model")


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("documents") / "corpus.txt"
    path.write_text("\n".join(documents(120)))
    return path


@pytest.fixture(scope="session")
def general_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other documents, in which the rarest words of the corpus are the most frequent ones."""
    path = tmp_path_factory.mktemp("documents") / "general.txt"
    path.write_text("\n".join(documents(80, seed=7, is_reversed=True)))
    return path


@pytest.fixture
def make_config(model: Path, corpus_file: Path, general_file: Path) -> MakeConfig:
    """Settings of a short adaptation on 120 documents, a fifth of them held out, with some changed.

    With `adapt.replay`, there is general text.
    """

    def make(**changes: dict[str, Any]) -> Config:
        sections: dict[str, Any] = {name: dict(SMALL[name]) for name in ("masking", "adapt", "runtime")}
        sections |= {"model": {"name": str(model)}, "data": {"corpus": str(corpus_file)}}
        sections["adapt"] |= {"held_out": 0.2, "recipe": "paper"}
        for name, fields in changes.items():
            sections[name] = sections.get(name, {}) | fields
        if "replay" in sections["adapt"]:
            sections["adapt"].setdefault("general_corpus", str(general_file))
        return Config.model_validate(sections)

    return make
