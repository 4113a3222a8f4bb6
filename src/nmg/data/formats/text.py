"""Unlabelled text: a .txt file (one context a line), a .jsonl file ({"text": ...} a line) or a folder of .txt files."""

import json
from collections.abc import Iterable
from pathlib import Path

from nmg.data.formats.reading import read_json_lines, read_lines, read_text, string_field
from nmg.errors import bad_input
from nmg.files import is_folder, write_aside


def read_texts(path: Path) -> list[str]:
    """The contexts of a corpus, in file order; of a folder, the whole text of each .txt file in it, by file name.

    Blank lines are skipped. Raises UserError for an unknown ending, an unreadable or an empty file.
    """
    if is_folder(path):
        files = sorted(path.glob("*.txt"))
        if not files:
            raise bad_input(path, "the folder holds no .txt files")
        return [read_text(file) for file in files]
    ending = path.name.removesuffix(".gz").rpartition(".")[2]
    if ending == "jsonl":
        return [string_field(record, "text", path, line=line) for line, record in read_json_lines(path)]
    if ending == "txt":
        return [text for _, text in read_lines(path)]
    raise bad_input(path, "a corpus must be a .txt file, a .jsonl file or a folder of .txt files")


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write a corpus: as JSONL with ids from 0 (.jsonl), or one a line with inner line breaks made spaces (.txt).

    Raises UserError for any other ending.
    """
    if path.suffix not in {".jsonl", ".txt"}:
        raise bad_input(path, "a corpus must end in .txt or .jsonl")
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        for number, text in enumerate(texts):
            if path.suffix == ".jsonl":
                line = json.dumps({"id": number, "text": text}, ensure_ascii=False)
            else:
                line = text.replace("\r\n", " ").replace("\r", " ").replace("\n", " ")
            file.write(line + "\n")
