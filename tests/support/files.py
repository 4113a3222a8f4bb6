"""Data files of tests, for the conftest of a folder to import."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).parents[2] / "../shared/data"


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


Write = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the data sets of {SHARED} are not here")
    return SHARED


def model_folder(name: str) -> Path:
    """The folder of a model next to the shared data; the test that asks is skipped if it is not there."""
    folder = SHARED.parent / "models" / name
    if not folder.is_dir():
        pytest.skip(f"the model {folder} is not here")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a text to a file of that name, return its path."""

    def write_file(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
        return path

    return write_file


@pytest.fixture
def squad_json() -> str:
    """Two passages with two questions and one."""
    return json.dumps(
        {
            "data": [
                {
                    "title": "t",
                    "paragraphs": [
                        {
                            "context": "Rome is old.",
                            "qas": [
                                _squad_question("q1", "Which city?", ("Rome", 0)),
                                _squad_question("q2", "How is it?", ("old", 8), ("is old", 5)),
                            ],
                        },
                        {"context": "Oslo is cold.", "qas": [_squad_question("q3", "Which?", ("Oslo", 0))]},
                    ],
                }
            ]
        }
    )


def _squad_question(identity: str, question: str, *answers: tuple[str, int]) -> dict[str, object]:
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": identity, "question": question, "answers": found}
