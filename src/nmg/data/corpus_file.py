"""The file of a tokenised corpus: Arrow record batches with checksums, written as a stream and mapped into memory."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmg.data.cutting import SCHEMA, TOKEN_COLUMNS
from nmg.files import write_aside


def write_batches(path: Path, digest: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Write the batches (`cutting.SCHEMA`), each as soon as it is there; those without rows are left out.

    An empty batch with the number of all rows ends the file.
    """
    n_rows = 0
    schema = SCHEMA.with_metadata({"digest": digest})
    with write_aside(path) as aside, pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
        for batch in batches:
            if batch.num_rows:
                n_rows += batch.num_rows
                file.write_batch(batch, custom_metadata={"checksum": _checksum(batch)})
        file.write_batch(pa.RecordBatch.from_pylist([], schema=SCHEMA), custom_metadata={"blocks": str(n_rows)})


def read_batches(path: Path, digest: str) -> list[pa.RecordBatch] | None:
    """The batches of a file, mapped into memory; None if it is missing, damaged, of another layout or corpus."""
    try:
        if not _is_whole(path, digest):
            return None
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            return [file.get_batch(number) for number in range(file.num_record_batches - 1)]
    except (pa.ArrowException, OSError):
        return None


def _is_whole(path: Path, digest: str) -> bool:
    """Reads the file batch by batch, unmapped: pages of a map would count as memory in use."""
    n_rows = 0
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
        if not file.schema.equals(SCHEMA) or (file.schema.metadata or {}).get(b"digest") != digest.encode():
            return False
        for number in range(file.num_record_batches - 1):
            batch, metadata = file.get_batch_with_custom_metadata(number)
            batch.validate(full=True)
            if (metadata or {}).get(b"checksum") != _checksum(batch).encode():
                return False
            n_rows += batch.num_rows
        _, metadata = file.get_batch_with_custom_metadata(file.num_record_batches - 1)
    return (metadata or {}).get(b"blocks") == str(n_rows).encode()


def _checksum(batch: pa.RecordBatch) -> str:
    """CRC-32 of all values: a read at the disk's speed, no parsing."""
    checksum = 0
    for values in _buffers(batch):
        checksum = zlib.crc32(values.data, checksum)
    return f"{checksum:08x}"


def _buffers(batch: pa.RecordBatch) -> list[npt.NDArray[Any]]:
    """The columns' memory as flat arrays, without the slack that Arrow may leave behind them."""
    text = batch.column("text")
    text_offsets = np.frombuffer(text.buffers()[1], dtype=np.int64, count=len(text) + 1)
    characters = np.frombuffer(text.buffers()[2], dtype=np.uint8, count=int(text_offsets[-1]))
    arrays = [batch.column("context_id").to_numpy(), text_offsets, characters]
    for name in TOKEN_COLUMNS:
        column = batch.column(name)
        arrays += [column.offsets.to_numpy(), column.values.to_numpy()]
    return arrays
