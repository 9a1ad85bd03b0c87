"""Parquet, Arrow and Feather files: which columns they have, and some columns in batches of rows.

A folder that the library datasets wrote consists of Arrow files, and of small JSON files that are no logs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from chatter.logs.reading import UnreadableLog, open_log

ROWS, ROWS_OF_LISTS = 1 << 16, 16  # at a time: bounds memory. A list may be the whole chat of a stream.
PAGE_BYTES = 1 << 20  # read at a time from a column of a Parquet file
MAX_PACKED = 1 << 28  # bytes of a Parquet file that is compressed as a whole, and so is unpacked in memory
OLD_FEATHER, ARROW, PARQUET = b"FEA1", b"ARROW1\0\0", b"PAR1"
# Types of values that can be written as text.
KINDS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary, pa.types.is_null),
    *(pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_temporal),
)


@dataclass(frozen=True)
class Column:
    """A column, or a part of a nested one."""

    name: str  # such as author.name; in lower case and in the singular if it is a list: user for Users
    path: tuple[str, ...]  # the column, and the fields of structs
    list_at: int | None = None  # how many names of `path` lead to the list, if each row has a list of values

    def read(self, batch: pa.RecordBatch) -> pl.Series:
        """Return the values, or the lists of values, of a batch."""
        array = batch.column(batch.schema.names.index(self.path[0]))
        series = pl.from_arrow(pa.chunked_array([array]))
        for name in self.path[1 : self.list_at]:
            series = series.struct.field(name)
        if self.list_at is not None:
            for name in self.path[self.list_at :]:
                series = series.list.eval(pl.element().struct.field(name))
        return series


class ColumnFile:
    """An open file: its columns, and its batches."""

    def __init__(
        self, schema: pa.Schema, batches: Callable[[Sequence[str], int], Iterator[tuple[pa.RecordBatch, int]]]
    ):
        self.columns = list_columns(schema)
        self.batches = batches  # (columns, rows at a time) -> batches, each with the bytes that it took


@contextlib.contextmanager
def open_columns(path: Path) -> Iterator[ColumnFile]:
    """Open a Parquet, Arrow or Feather file.

    Raises UnreadableLog if the file is not one of these or is damaged, also while it is read.
    """
    with open_log(path) as (file, log):
        try:
            head = log.read(len(ARROW))
            if head.startswith(OLD_FEATHER) or not head:
                kind = "is a Feather file of version 1" if head else "is empty"
                raise UnreadableLog(f"{path} {kind}. Write it again, for example as Parquet, or move it away.")
            if head.startswith(PARQUET) or head == ARROW:
                content = log if log is file and path.is_file() else unpack(path, head, log)
                yield (open_parquet if head != ARROW else open_arrow_file)(content)
            else:
                yield open_stream(pa.ipc.open_stream(io.BufferedReader(Joined(head, log))), file)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise UnreadableLog(
                f"{path} is not a complete Parquet, Arrow or Feather file ({reason}). Download or write it again, or "
                "move it away."
            ) from error


class Joined(io.RawIOBase):
    """A stream whose first bytes have been read already."""

    def __init__(self, head: bytes, rest: io.BufferedIOBase):
        self.head, self.rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = self.head or self.rest.read(len(buffer))
        part, self.head = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def unpack(path: Path, head: bytes, rest: io.BufferedIOBase) -> io.BytesIO:
    """Return the content of a file that is compressed as a whole, in memory, as its parts are not read in order."""
    data = head + rest.read(MAX_PACKED)
    if len(data) >= MAX_PACKED:
        raise UnreadableLog(f"{path} has more than {MAX_PACKED:,} bytes when it is unpacked. Unpack it by hand.")
    return io.BytesIO(data)


def open_parquet(file: io.BufferedIOBase) -> ColumnFile:
    size = file.seek(0, io.SEEK_END)
    parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=PAGE_BYTES)

    def read(columns: Sequence[str], rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        num_rows, done = parquet.metadata.num_rows, 0
        for batch in parquet.iter_batches(rows, columns=[*columns]):
            before, done = size * done // num_rows, done + len(batch)
            yield batch, size * done // num_rows - before

    return ColumnFile(parquet.schema_arrow, read)


def open_arrow_file(file: io.BufferedIOBase) -> ColumnFile:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    arrow = pa.ipc.open_file(file)

    def read(columns: Sequence[str], rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        for number in range(arrow.num_record_batches):
            num_bytes = size * (number + 1) // arrow.num_record_batches - size * number // arrow.num_record_batches
            yield from slice_batch(arrow.get_batch(number), rows, num_bytes)

    return ColumnFile(arrow.schema, read)


def open_stream(stream: pa.RecordBatchReader, file: io.BufferedIOBase) -> ColumnFile:
    def read(columns: Sequence[str], rows: int) -> Iterator[tuple[pa.RecordBatch, int]]:
        position = 0
        for batch in stream:
            num_bytes, position = file.tell() - position, file.tell()
            yield from slice_batch(batch, rows, num_bytes)

    return ColumnFile(stream.schema, read)


def slice_batch(batch: pa.RecordBatch, rows: int, num_bytes: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield so many rows of a batch at a time; the first part counts for all bytes."""
    for first in range(0, len(batch), rows):
        yield batch.slice(first, rows), num_bytes if first == 0 else 0


def list_columns(schema: pa.Schema) -> list[Column]:
    """Return the columns that may have text, numbers or times, in order."""
    return [column for field in schema for column in parts_of(field.type, (field.name,))]


def parts_of(kind: pa.DataType, path: tuple[str, ...], list_at: int | None = None) -> Iterator[Column]:
    """Yield a column of this type, or the parts of it that are not nested any further."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from parts_of(field.type, (*path, field.name), list_at)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if list_at is None:
            yield from parts_of(kind.value_type, path, len(path))
    elif any(is_kind(kind) for is_kind in KINDS):
        names = [name.strip().lower() for name in path]
        if list_at is not None:
            names[:list_at] = [name.removesuffix("s") for name in names[:list_at]]
        yield Column(".".join(names), path, list_at)
