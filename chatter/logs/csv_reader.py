"""CSVs and TSVs of messages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chatter.logs.batch import EMPTY
from chatter.logs.columns import LOGIN, find_columns, find_fields, login_of
from chatter.logs.file_names import NameFacts
from chatter.logs.format import TableFormat
from chatter.logs.formats import TABLE_FORMATS
from chatter.logs.table_reader import Rows, TableReader
from chatter.logs.table_syntax import TableHead, read_table_head
from chatter.logs.tables import read_rows


@dataclass
class CsvReader(TableReader):
    """Reads a CSV or TSV."""

    head: TableHead
    columns: Mapping[str, int]  # field -> its place in a row
    names: NameFacts
    format: TableFormat | None = None

    def __post_init__(self) -> None:
        self.has_users = "username" in self.columns
        users = [login_of(row[self.columns["username"]]) for row in self.head.rows] if self.has_users else []
        if self.format:
            users = [re.sub(self.format.after_name, "", user) for user in users]
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
            table = pl.DataFrame({"entry": [*numbers]} | cells, schema)
            if self.format:
                table, events = leave_out_events(table, self.format)
                counts |= events
            yield Rows(table, num_rows, counts, unreadable)


def leave_out_events(table: pl.DataFrame, table_format: TableFormat) -> tuple[pl.DataFrame, Counter[str]]:
    """Return the rows that people typed, with the plain names of users, and the counts of the others."""
    text = table["message"]
    is_notice, is_empty = text.str.contains(table_format.notice), text == ""
    user = pl.col("username").str.replace(table_format.after_name, "")
    counts = Counter({"notices": is_notice.sum(), EMPTY: is_empty.sum()})
    return table.filter(~is_notice & ~is_empty).with_columns(user), counts


def find_csv_reader(path: Path, names: NameFacts, columns: Mapping[str, str]) -> CsvReader | None:
    """Return the reader of a table, or None if it has no column of messages.

    `columns` maps fields to the names of columns that the user gave.
    """
    head = read_table_head(path)
    table_format = next((each for each in TABLE_FORMATS.values() if each.matches(head.header)), None)
    if table_format and not {*columns.values()} & {*head.header}:
        places = find_columns(head.header, {field: [name] for field, name in table_format.columns.items()})
        return CsvReader(head, places, names, table_format)
    found = find_fields(head.header, head.rows, columns)
    return CsvReader(head, found, names) if "message" in found else None
