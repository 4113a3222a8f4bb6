"""Reads unlabelled text from .txt files (one context per line), records, folders and data sets of the hub.

Records have a field `text`. In a folder each .txt file is one context.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from pathlib import Path

from nmg.base.errors import bad_input
from nmg.base.files import write_aside
from nmg.data.formats.hub import HUB, STREAM
from nmg.data.formats.reading import optional_text, read_lines, read_text
from nmg.data.formats.tables import ending_of, read_records
from nmg.data.notices import warn_once
from nmg.data.plausibility import text_doubts

ENDINGS = (".txt", ".jsonl", ".json", ".parquet", HUB, STREAM, "/")
"""File extensions of a corpus, as returned by `ending_of`."""


class Texts(Collection[str]):
    """The contexts of a corpus on disk, in file order. Each iteration reads them again, one at a time."""

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
    """Yield the text of each .txt file; None for a blank file."""
    for file in sorted(path.glob("*.txt")):
        yield read_text(file, may_be_blank=True) or None


def _record_texts(path: Path) -> Iterator[str | None]:
    """Yield the text of each record; None for null or blank text. Raises UserError if the field is missing."""
    for line, record in read_records(path):
        yield optional_text(record, "text", path, line=line)


def read_texts(path: Path) -> Texts:
    """Return the contexts of a corpus. In a folder each .txt file is one context, sorted by file name.

    Blank lines, records and files are skipped; a warning gives the number of skipped records or files. Another warning
    is given if the texts do not look like running text. Raises UserError for an unknown extension and for an unreadable
    or empty file. Other errors are raised, with their place, during iteration.
    """
    ending = ending_of(path)
    if ending not in ENDINGS:
        raise bad_input(
            path,
            "a corpus must be a .txt, .jsonl, .json or .parquet file, a folder of .txt files, hub:OWNER/NAME@SPLIT or "
            "stream:OWNER/NAME@SPLIT",
        )
    if ending == "/" and not any(path.glob("*.txt")):
        raise bad_input(path, "the folder contains no .txt files")
    texts = Texts(path)
    if next(iter(texts), None) is None:
        raise bad_input(path, "contains no texts")
    for doubt in text_doubts(texts):
        warn_once(path, doubt)
    return texts


def write_texts(texts: Iterable[str], path: Path) -> None:
    """Write a corpus to a .jsonl or .txt file.

    JSONL has a record with an id (from 0) per text. A .txt file has a line per text, with line breaks replaced by
    spaces. Raises UserError for any other extension.
    """
    if path.suffix not in {".jsonl", ".txt"}:
        raise bad_input(path, "the name of a corpus file must end in .txt or .jsonl")
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        for number, text in enumerate(texts):
            if path.suffix == ".jsonl":
                line = json.dumps({"id": number, "text": text}, ensure_ascii=False)
            else:
                line = text.replace("\r\n", " ").replace("\r", " ").replace("\n", " ")
            file.write(line + "\n")
