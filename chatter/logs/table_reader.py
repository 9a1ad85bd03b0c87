"""Tables of messages, one entry a row. Readers of CSVs, of columns and of JSON objects give the cells of their rows."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from chatter.logs.batch import FIELDS, SESSION, UNNAMED, Batch, Reader
from chatter.logs.columns import LOGIN, login_of
from chatter.logs.file_names import NameFacts
from chatter.logs.table_times import TableTimes, find_order, order_of
from chatter.logs.times import PLAIN_STAMP

ACTION = "(?s)^\x01ACTION (.*?)\x01?$"  # /me, as loggers fed by IRC keep it


@dataclass
class Rows:
    """Consecutive rows of a table."""

    cells: pl.DataFrame  # columns `entry` (UInt32) and, as text, the fields that the table has; perhaps SESSION
    num_entries: int
    counts: Counter[str] = field(default_factory=Counter)  # of the entries that have no row in `cells`
    unreadable: dict[int, str] = field(default_factory=dict)  # entry -> line
    num_invalid: int = 0


class TableReader(Reader):
    """Reads a table. A subclass sets `names`, the facts in the name of the file, and `has_users` and `has_logins`."""

    names: NameFacts
    has_moderation = False
    order: str | None = None  # of the numbers in dates, once the whole column has been read

    @abstractmethod
    def read_rows(self, path: Path, progress: Callable[[int], None]) -> Iterator[Rows]:
        """Yield all rows of a file; call `progress` with the bytes that they took."""

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        times = TableTimes(self.names)
        for rows in self.read_rows(path, progress):
            cells, counts = rows.cells, Counter(rows.counts)
            blank = [pl.lit("").alias(name) for name in FIELDS if name not in cells.columns]
            table = self.with_times(cells.with_columns(blank), path, times)
            logins = {user: login_of(user) for user in table["username"].unique()} if self.has_users else {}
            channel = pl.col("channel")
            table = table.with_columns(
                pl.col("message").str.replace(ACTION, "$1"),
                channel=pl.when(channel.str.strip_chars() == "").then(pl.lit(self.names.channel)).otherwise(channel),
                username=table["username"].replace({name: login for name, login in logins.items() if name != login}),
            )
            if self.has_users:
                named = table.filter(pl.col("username") != "")
                self.has_logins &= bool(named["username"].str.contains(f"^{LOGIN.pattern}$").all())
                counts[UNNAMED] += len(table) - len(named)
                table = named
            counts["messages"] += len(table)
            table = table.select("entry", *FIELDS, *([SESSION] if SESSION in table.columns else []))
            yield Batch(table, rows.num_entries, counts, [], rows.unreadable, rows.num_invalid, times.notes)

    def with_times(self, table: pl.DataFrame, path: Path, times: TableTimes) -> pl.DataFrame:
        """Return a table with complete dates and times, as `times` reads them."""
        stamp = pl.concat_str("date", "time")
        parsed = stamp.str.slice(0, 19).str.replace("T", " ").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
        is_plain = pl.any_horizontal(pl.col("date", "time") == "") & stamp.str.contains(PLAIN_STAMP)
        table = table.with_columns(when=pl.when(is_plain).then(parsed))
        rest = table.filter(pl.col("when").is_null()).select("date", "time").unique()
        stamps = [*rest.iter_rows()]
        if self.order is None and any(order_of(cell) for stamp in stamps for cell in stamp):
            self.order = find_order(self.read_dates(path))
        times.order = self.order or ""
        known = [times.read(*stamp) for stamp in stamps]
        dates, clocks = zip(*known, strict=True) if known else ((), ())
        rest = rest.with_columns(pl.Series("other_date", dates, pl.String), pl.Series("other_time", clocks, pl.String))
        table = table.join(rest, on=["date", "time"], how="left", maintain_order="left")
        return table.with_columns(
            date=pl.coalesce(pl.col("when").dt.to_string("%Y-%m-%d"), "other_date"),
            time=pl.coalesce(pl.col("when").dt.to_string("%H:%M:%S"), "other_time"),
        )

    def read_dates(self, path: Path) -> Iterable[str]:
        """Yield the different cells with dates or times of each part of the whole table."""
        for rows in self.read_rows(path, lambda num_bytes: None):
            for name in {"date", "time"} & {*rows.cells.columns}:
                yield from rows.cells[name].unique()
