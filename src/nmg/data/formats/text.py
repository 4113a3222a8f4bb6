"""Unlabelled text: a .txt file (one context a line), tables with a field `text`, a folder of .txt files, the hub."""

import json
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path

from nmg.data.formats.hub import HUB
from nmg.data.formats.reading import read_lines, read_text, string_field
from nmg.data.formats.tables import ending_of, read_records
from nmg.errors import bad_input
from nmg.files import write_aside

ENDINGS = (".txt", ".jsonl", ".parquet", HUB, "/")


class Texts(Collection[str]):
    """The contexts of a corpus on the disk, in file order; read anew, one by one, whenever they are gone through."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[str]:
        path, ending = self._path, ending_of(self._path)
        if ending == "/":
            yield from (read_text(file) for file in sorted(path.glob("*.txt")))
        elif ending == ".txt":
            yield from (text for _, text in read_lines(path))
        else:
            yield from (string_field(record, "text", path, line=line) for line, record in read_records(path))

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, text: object) -> bool:
        return any(text == other for other in self)


def read_texts(path: Path) -> Texts:
    """The contexts of a corpus; of a folder, the whole text of each .txt file in it, by file name.

    Blank lines are skipped. Raises UserError for an unknown ending, and, already here, for an unreadable or an empty
    file; for other mistakes in it, where they stand, when the texts are read.
    """
    ending = ending_of(path)
    if ending not in ENDINGS:
        raise bad_input(
            path, "a corpus must be a .txt, .jsonl or .parquet file, a folder of .txt files, or hub:OWNER/NAME@SPLIT"
        )
    if ending == "/" and not any(path.glob("*.txt")):
        raise bad_input(path, "the folder holds no .txt files")
    texts = Texts(path)
    if next(iter(texts), None) is None:
        raise bad_input(path, "holds no texts")
    return texts


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
