"""Unlabelled text: a .txt file (one context a line), records with a field `text`, a folder of .txt files, the hub."""

import json
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path

from nmg.data.formats.hub import HUB
from nmg.data.formats.reading import read_lines, read_text, string_field
from nmg.data.formats.tables import ending_of, read_records
from nmg.data.notices import warn_once
from nmg.data.plausibility import text_doubts
from nmg.errors import bad_input
from nmg.files import write_aside

ENDINGS = (".txt", ".jsonl", ".json", ".parquet", HUB, "/")


class Texts(Collection[str]):
    """The contexts of a corpus on the disk, in file order; read anew, one by one, whenever they are gone through."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[str]:
        path, ending = self._path, ending_of(self._path)
        if ending == ".txt":
            yield from (text for _, text in read_lines(path))
            return
        n_blank = 0
        for text in _folder_texts(path) if ending == "/" else _record_texts(path):
            if text is None:
                n_blank += 1
            else:
                yield text
        if n_blank:
            what = "files" if ending == "/" else "records"
            warn_once(path, f"{what} without text are left out: {n_blank}")

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, text: object) -> bool:
        return any(text == other for other in self)


def _folder_texts(path: Path) -> Iterator[str | None]:
    """The text of each .txt file, None for a blank one."""
    for file in sorted(path.glob("*.txt")):
        yield read_text(file, may_be_blank=True) or None


def _record_texts(path: Path) -> Iterator[str | None]:
    """The text of each record, None for one that is null or blank. Raises UserError for a record without the field."""
    for line, record in read_records(path):
        text = record.get("text", "")
        is_blank = "text" in record and (text is None or (isinstance(text, str) and not text.strip()))
        yield None if is_blank else string_field(record, "text", path, line=line)


def read_texts(path: Path) -> Texts:
    """The contexts of a corpus; of a folder, the whole text of each .txt file in it, by file name.

    Blank lines are skipped; blank records and files too, which a warning counts. Another warning says if the texts do
    not look like running text. Raises UserError for an unknown ending, and, already here, for an unreadable or an empty
    file; for other mistakes in it, with their place, when the texts are read.
    """
    ending = ending_of(path)
    if ending not in ENDINGS:
        raise bad_input(
            path,
            "a corpus must be a .txt, .jsonl, .json or .parquet file, a folder of .txt files, or hub:OWNER/NAME@SPLIT",
        )
    if ending == "/" and not any(path.glob("*.txt")):
        raise bad_input(path, "the folder holds no .txt files")
    texts = Texts(path)
    if next(iter(texts), None) is None:
        raise bad_input(path, "holds no texts")
    for doubt in text_doubts(texts):
        warn_once(path, doubt)
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
