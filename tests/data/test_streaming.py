"""Data sets of the hub that arrive record by record: `datasets` is called once, and a file in the cache serves then."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from nmg.base.errors import UserError
from nmg.base.files import default_cache_dir
from nmg.base.settings import DataSettings
from nmg.data.corpus import Corpus
from nmg.data.formats.hub import open_stream
from nmg.data.formats.streaming import FOLDER, streamed_file
from nmg.data.formats.tables import source_digest
from nmg.data.formats.text import read_texts
from nmg.tasks.load import read_any_texts
from nmg.tasks.loaded import LoadedData

TEXTS = [f"text number {number}\nof «many»" for number in range(50)]


class Hub:
    """What `datasets` would say."""

    def __init__(self, records: Callable[[], Iterator[dict[str, Any]]]) -> None:
        self.records = records
        self.calls: list[tuple[Any, ...]] = []
        self.n_read = 0

    def load_dataset(self, *words: object, split: str, streaming: bool, **_: object) -> IterableDataset:
        self.calls.append((*words, split, streaming))
        return IterableDataset.from_generator(self._counted)

    def _counted(self) -> Iterator[dict[str, Any]]:
        for record in self.records():
            self.n_read += 1
            yield record


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("NMG_CACHE", str(tmp_path / "cache"))
    return default_cache_dir(None) / FOLDER


MakeHub = Callable[[Callable[[], Iterator[dict[str, Any]]]], Hub]


@pytest.fixture
def make_hub(monkeypatch: pytest.MonkeyPatch) -> MakeHub:
    def make(records: Callable[[], Iterator[dict[str, Any]]]) -> Hub:
        hub = Hub(records)
        monkeypatch.setattr("datasets.load_dataset", hub.load_dataset)
        return hub

    return make


def some(n: int = 50) -> Iterator[dict[str, Any]]:
    return ({"id": number, "text": text} for number, text in enumerate(TEXTS[:n]))


def files_in(cache: Path) -> list[Path]:
    return list(cache.iterdir()) if cache.is_dir() else []


def test_a_stream_is_read_once_and_serves_from_a_file(make_hub: MakeHub, cache: Path, caplog: pytest.LogCaptureFixture):
    hub, address = make_hub(some), Path("stream:someone/many:all@test")
    with caplog.at_level(logging.WARNING):
        texts = read_texts(address)
    assert (list(texts), list(texts), len(texts)) == (TEXTS, TEXTS, 50)
    assert list(read_texts(address)) == read_any_texts(address, DataSettings()) == TEXTS
    assert hub.calls == [("someone/many", "all", "test", True)]
    assert hub.n_read == 50
    (file,) = files_in(cache)
    assert file == streamed_file(address)
    assert f"stream:someone/many:all@test: its texts are streamed to {file}" in caplog.text
    assert source_digest(address) == source_digest(file)
    assert list(read_texts(Path("stream:someone/many@test"))) == TEXTS
    assert len(files_in(cache)) == 2, "another configuration is another data set"


def test_no_more_records_are_read_than_wanted(make_hub: MakeHub):
    hub = make_hub(some)
    assert list(read_texts(Path("stream:someone/many@train[:7]"))) == TEXTS[:7]
    assert hub.calls == [("someone/many", None, "train", True)]
    assert hub.n_read <= 8


def test_the_tokens_come_from_the_file_and_later_from_the_cache(
    make_hub: MakeHub, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
):
    hub, settings = make_hub(some), DataSettings(corpus="stream:someone/many")
    streamed = Corpus.build(LoadedData(settings).corpus_texts, tokenizer, 6, tmp_path / "tokens")
    assert streamed.digest == Corpus.build(TEXTS, tokenizer, 6, tmp_path / "tokens").digest
    again = Corpus.build(LoadedData(settings).corpus_texts, tokenizer, 6, tmp_path / "tokens")
    assert again.digest == streamed.digest
    assert len(hub.calls) == 1


def test_another_process_that_writes_the_file_is_waited_for(make_hub: MakeHub):
    hub, address = make_hub(some), Path("stream:someone/many")
    file = streamed_file(address)
    written = file.read_bytes()
    file.unlink()
    lock = FileLock(file.with_suffix(".lock"))
    with lock, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(streamed_file, address)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        file.write_bytes(written)
        lock.release()
        assert waiting.result(timeout=10) == file
    assert len(hub.calls) == 1


def broken(error: BaseException) -> Callable[[], Iterator[dict[str, Any]]]:
    def records() -> Iterator[dict[str, Any]]:
        yield from some(20)
        raise error

    return records


@pytest.mark.parametrize("error", [ConnectionError("reset by peer\nmore"), ValueError("reset by peer")])
def test_a_stream_that_breaks_off_leaves_nothing(error: Exception, make_hub: MakeHub, cache: Path):
    make_hub(broken(error))
    address = Path("stream:someone/many@train")
    with pytest.raises(UserError) as found:
        read_texts(address)
    assert str(found.value) == (
        "stream:someone/many@train: the stream broke off after 20 records: reset by peer. Nothing was kept. "
        "Run the command again."
    )
    assert not files_in(cache)
    make_hub(some)
    assert list(read_texts(address)) == TEXTS


def test_an_interrupted_stream_leaves_nothing(make_hub: MakeHub, cache: Path):
    make_hub(broken(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_texts(Path("stream:someone/many"))
    assert not files_in(cache)


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([{"text": "one"}, {"body": "two"}], ", line 2, field 'text': is missing (found: 'body')"),
        ([{"text": "one"}, {"text": "long " * 10}], ", line 2, field 'text': is longer than 0 MB"),
        ([], ": contains no records"),
        ([{"text": " "}, {"text": None}], ": contains no texts"),
    ],
)
def test_what_a_stream_lacks(
    records: list[dict[str, Any]], problem: str, make_hub: MakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nmg.data.formats.streaming.MAX_LINE", 40)
    make_hub(lambda: iter(records))
    with pytest.raises(UserError) as found:
        read_texts(Path("stream:someone/many"))
    assert str(found.value).startswith(f"stream:someone/many{problem}")
    assert len(files_in(cache)) == ("no texts" in problem)


def test_blank_texts_are_left_out(make_hub: MakeHub):
    make_hub(lambda: iter([{"text": "one"}, {"text": None}, {"text": " "}, {"text": "two"}]))
    assert list(read_texts(Path("stream:someone/many"))) == ["one", "two"]


@pytest.mark.parametrize("split", ["train[10:]", "train[:10%]", "train[:5]+test"])
def test_other_parts_are_refused_before_the_hub_is_asked(split: str, make_hub: MakeHub):
    hub = make_hub(some)
    with pytest.raises(UserError, match=r"can only be cut after N records: write stream:OWNER/NAME@SPLIT\[:N\]"):
        open_stream(Path(f"stream:someone/many@{split}"))
    assert not hub.calls


def test_a_cache_that_cannot_be_written(make_hub: MakeHub, cache: Path):
    hub = make_hub(some)
    cache.parent.write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        read_texts(Path("stream:someone/many"))
    assert not hub.calls


def test_labelled_data_are_not_streamed(make_hub: MakeHub):
    make_hub(some)
    with pytest.raises(UserError, match=r"^stream:someone/many: a classification file must end in "):
        _ = LoadedData(DataSettings(train="stream:someone/many")).train


def test_streams_of_datasets_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without a network: Parquet files of this machine, as `datasets` streams them."""
    from datasets import load_dataset

    file = tmp_path / "a.parquet"
    Dataset.from_dict({"text": TEXTS, "label": [0] * 50}).to_parquet(file)

    def load(*_: object, split: str, streaming: bool, **__: object) -> Any:
        return load_dataset("parquet", data_files={"train": str(file)}, split=split, streaming=streaming)

    monkeypatch.setattr("datasets.load_dataset", load)
    assert list(read_texts(Path("stream:someone/many@train[:30]"))) == TEXTS[:30]
