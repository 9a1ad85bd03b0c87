"""CSVs and TSVs of messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chatter.logs.columns import LOGIN, find_fields, login_of
from chatter.logs.file_names import NameFacts
from chatter.logs.table_reader import Rows, TableReader
from chatter.logs.table_syntax import TableHead, read_table_head
from chatter.logs.tables import read_rows


@dataclass
class CsvReader(TableReader):
    """Reads a CSV or TSV."""

    head: TableHead
    columns: Mapping[str, int]  # field -> its place in a row
    names: NameFacts

    def __post_init__(self) -> None:
        self.has_users = "username" in self.columns
        users = [login_of(row[self.columns["username"]]) for row in self.head.rows] if self.has_users else []
        self.has_logins = all(map(LOGIN.fullmatch, filter(None, users)))

    def read_rows(self, path: Path, progress: Callable[[int], None]) -> Iterator[Rows]:
        width = len(self.head.header)
        for numbers, rows in read_rows(path, self.head, progress):
            num_rows, counts, unreadable = len(rows), Counter(), {}
            if {*map(len, rows)} != {width}:
                numbered = [*zip(numbers, rows, strict=True)]
                unreadable = {number: "" for number, row in numbered if row and len(row) != width}
                counts |= {"unreadable lines": len(unreadable), "blank lines": sum(not row for row in rows)}
                numbers = [number for number, row in numbered if len(row) == width]
                rows = [row for row in rows if len(row) == width]
            columns = [*zip(*rows, strict=True)] or [()] * width
            cells = {field: columns[place] for field, place in self.columns.items()}
            schema = {"entry": pl.UInt32} | dict.fromkeys(cells, pl.String)
            yield Rows(pl.DataFrame({"entry": [*numbers]} | cells, schema), num_rows, counts, unreadable)


def find_csv_reader(path: Path, names: NameFacts, columns: Mapping[str, str]) -> CsvReader | None:
    """Return the reader of a table, or None if it has no column of messages.

    `columns` maps fields to the names of columns that the user gave.
    """
    head = read_table_head(path)
    found = find_fields(head.header, head.rows, columns)
    return CsvReader(head, found, names) if "message" in found else None
