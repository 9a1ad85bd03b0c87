"""Rows of a file of messages, some at a time: the parts of a file that tokenize_logs.py gives to its workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from chatter.files import file_size
from chatter.tokens.duplicates import drop_duplicates
from chatter.tokens.tables import READ_BYTES, last_session, read_columns
from chatter.workers import report


@dataclass(frozen=True)
class Rows:
    """Some rows of a file, as columns."""

    columns: Mapping[str, pa.Array]
    last: Any = None  # the session of the row before, or None
    num_dropped: int = 0  # duplicates, which are not in the columns


def is_one_part(path: Path) -> bool:
    """Return whether a file is a small CSV. The texts of a small Parquet file may be large."""
    return path.suffix.lower() == ".csv" and file_size(path) <= READ_BYTES


def read_rows(path: Path, fields: tuple[str, ...], max_duplicates: int | None) -> Iterator[Rows]:
    """Yield the rows of a file, with the columns that `read_columns` has for `fields`.

    At most `max_duplicates` identical messages of the file are kept (None: all). Reports the bytes that were read.
    """
    seen, last = Counter(), None
    for columns in read_columns(path, fields, report):
        num_rows = len(columns["message"])
        if max_duplicates:
            columns = drop_duplicates(columns, seen, max_duplicates)
        yield Rows(columns, last, num_rows - len(columns["message"]))
        last = last_session(columns, last)
