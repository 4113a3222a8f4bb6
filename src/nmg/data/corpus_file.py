"""File format of a tokenised corpus: Arrow record batches with checksums, written as a stream and memory-mapped."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmg.base.files import write_aside
from nmg.data.cutting import SCHEMA, TOKEN_COLUMNS


def write_batches(path: Path, digest: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches as they arrive; batches without rows are skipped.

    The last batch is empty and stores the total number of rows in its metadata.

    Args:
        path: the file to write.
        digest: the digest of the corpus, stored in the schema's metadata.
        batches: record batches with the schema `cutting.SCHEMA`.

    Raises:
        UserError: if the file cannot be written.
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
    """Return the memory-mapped batches of a file.

    Returns None if the file is missing or damaged, has another layout or belongs to another corpus.
    """
    try:
        if not _is_whole(path, digest):
            return None
        with pa.ipc.open_file(pa.memory_map(str(path))) as file:
            return [file.get_batch(number) for number in range(file.num_record_batches - 1)]
    except (pa.ArrowException, OSError):
        return None


def _is_whole(path: Path, digest: str) -> bool:
    """Check the file batch by batch without a memory map, whose pages would count as used memory."""
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
    """Return the CRC-32 of all values, which is as fast as reading the disk."""
    checksum = 0
    for values in _buffers(batch):
        checksum = zlib.crc32(values.data, checksum)
    return f"{checksum:08x}"


def _buffers(batch: pa.RecordBatch) -> list[npt.NDArray[Any]]:
    """Return the columns as flat arrays, without the padding that Arrow may add at their ends."""
    text = batch.column("text")
    text_offsets = np.frombuffer(text.buffers()[1], dtype=np.int64, count=len(text) + 1)
    characters = np.frombuffer(text.buffers()[2], dtype=np.uint8, count=int(text_offsets[-1]))
    arrays = [batch.column("context_id").to_numpy(), text_offsets, characters]
    for name in TOKEN_COLUMNS:
        column = batch.column(name)
        arrays += [column.offsets.to_numpy(), column.values.to_numpy()]
    return arrays
