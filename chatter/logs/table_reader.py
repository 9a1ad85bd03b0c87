"""Tables with a header, one entry a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chatter.logs.batch import UNNAMED, Batch, Reader
from chatter.logs.columns import LOGIN, find_fields, login_of, plain_name
from chatter.logs.file_names import NameFacts
from chatter.logs.json_reader import SCHEMA
from chatter.logs.table_syntax import TableHead, read_table_head
from chatter.logs.table_times import TableTimes, find_order, order_of
from chatter.logs.tables import read_rows

ACTION = "(?s)^\x01ACTION (.*?)\x01?$"  # /me, as loggers fed by IRC keep it


@dataclass
class TableReader(Reader):
    """Reads a CSV or TSV."""

    head: TableHead
    columns: Mapping[str, int]  # field -> its place in a row
    names: NameFacts
    has_moderation: bool = False
    order: str | None = None  # of the numbers in dates, once the whole column has been read

    def __post_init__(self) -> None:
        self.has_users = "username" in self.columns
        users = [login_of(row[self.columns["username"]]) for row in self.head.rows] if self.has_users else []
        self.has_logins = all(map(LOGIN.fullmatch, filter(None, users)))

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        times, width = TableTimes(self.names), len(self.head.header)
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
            blank = [""] * len(rows)
            stamps = [*zip(cells.get("date", blank), cells.get("time", blank), strict=True)]
            if self.order is None and any(order_of(cell) for stamp in {*stamps} for cell in stamp):
                self.order = self.find_order(path)
            times.order = self.order or ""
            known = {stamp: times.read(*stamp) for stamp in {*stamps}}
            users = cells.get("username", blank)
            logins = {user: login_of(user) for user in {*users}}
            self.has_logins &= all(map(LOGIN.fullmatch, filter(None, logins.values())))
            channels = [channel if channel.strip() else self.names.channel for channel in cells.get("channel", blank)]
            dates, clocks = zip(*[known[stamp] for stamp in stamps], strict=True) if stamps else ((), ())
            columns = [[*numbers], dates, clocks, channels, [logins[user] for user in users], cells["message"]]
            table = pl.DataFrame(dict(zip(SCHEMA, columns, strict=True)), SCHEMA)
            if self.has_users:
                table = table.filter(pl.col("username") != "")
                counts[UNNAMED] = len(rows) - len(table)
            counts["messages"] = len(table)
            table = table.with_columns(pl.col("message").str.replace(ACTION, "$1"))
            yield Batch(table, num_rows, counts, unreadable=unreadable, notes=times.notes)

    def find_order(self, path: Path) -> str:
        """Return the order of the numbers in the dates of the whole table; "" if they do not show it."""
        places = [self.columns[field] for field in ("date", "time") if field in self.columns]
        batches = read_rows(path, self.head, lambda num_bytes: None)
        return find_order(
            cell
            for _, rows in batches
            for cell in {row[place] for row in rows if len(row) == len(self.head.header) for place in places}
        )


def find_table_reader(path: Path, names: NameFacts, columns: Mapping[str, str]) -> TableReader | None:
    """Return the reader of a table, or None if it has no column of messages.

    `columns` maps fields to the names of columns that the user gave.
    """
    head = read_table_head(path)
    found = find_fields(head.header, head.rows, columns)
    return TableReader(head, found, names) if "message" in found else None


def is_table(path: Path) -> bool:
    """Return whether a file is a table by its name."""
    return re.search(r"\.[ct]sv(?:\.gz)?$", path.name, re.IGNORECASE) is not None


def read_columns_of(path: Path) -> list[str]:
    """Return the names of the columns of a table, in lower case."""
    return [plain_name(name) for name in read_table_head(path).header]
