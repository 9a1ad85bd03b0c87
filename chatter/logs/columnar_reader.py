"""Messages in Parquet, Arrow and Feather files: one a row, or the lists of a whole stream in each row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path

import polars as pl
import pyarrow as pa

from chatter.logs.batch import EMPTY, SESSION
from chatter.logs.columnar import ROWS, ROWS_OF_LISTS, Column, open_columns
from chatter.logs.columns import LOGIN, find_fields, login_of, plain_name
from chatter.logs.file_names import NameFacts
from chatter.logs.table_reader import Rows, TableReader

FIRST_ROWS, FIRST_BATCHES = 1000, 20  # rows, and batches while some columns are empty, that show what the columns are
# Numbers of more digits than seconds into a video have are times since 1970, of this many units a second.
UNITS = {10**17: "ns", 10**14: "us", 10**11: "ms", 10**8: "s"}


@dataclass
class ColumnarReader(TableReader):
    """Reads a Parquet, Arrow or Feather file."""

    columns: Mapping[str, Column]  # field -> its column
    names: NameFacts
    users: Sequence[str]  # the first ones

    def __post_init__(self) -> None:
        self.has_users = "username" in self.columns
        self.has_logins = all(LOGIN.fullmatch(login_of(user)) for user in self.users)
        self.has_sessions = self.columns["message"].list_at is not None

    def read_rows(self, path: Path, progress: Callable[[int], None]) -> Iterator[Rows]:
        first, session = 0, 1  # the number of the next entry, and of the next row
        for batch, num_bytes in read_batches(path, self.columns):
            cells = pl.DataFrame({field: column.read(batch) for field, column in self.columns.items()})
            rows = unroll(cells, self.columns, first, session) if self.has_sessions else flat(cells, first)
            first, session = first + rows.num_entries, session + len(batch)
            yield rows
            progress(num_bytes)


def read_batches(path: Path, columns: Mapping[str, Column]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the batches of a file with some of its columns, each with the bytes of the file that it took."""
    names = dict.fromkeys(column.path[0] for column in columns.values())
    has_lists = any(column.list_at is not None for column in columns.values())
    with open_columns(path) as file:
        yield from file.batches([*names], ROWS_OF_LISTS if has_lists else ROWS)


def flat(cells: pl.DataFrame, first: int) -> Rows:
    """Return rows with one message each, numbered from `first` on."""
    table = as_text(cells).with_row_index("entry", first)
    kept = table.filter(pl.col("message").is_not_null())
    return Rows(
        kept.with_columns(pl.exclude("entry").fill_null("")), len(table), Counter({EMPTY: len(table) - len(kept)})
    )


def unroll(cells: pl.DataFrame, columns: Mapping[str, Column], first: int, session: int) -> Rows:
    """Return one row for each element of the lists in `cells`. A row whose lists differ in length is unreadable.

    `first` is the number of the first entry, and `session` of the first row.
    """
    lists = [name for name in cells.columns if columns[name].list_at is not None]
    lengths = cells.select(pl.col(lists).list.len().fill_null(0))
    table = cells.with_row_index(SESSION, session).with_columns(num=lengths["message"])
    starts = pl.col("num").cum_sum() - pl.col("num") + first
    table = table.with_columns(entry=pl.int_ranges(starts, starts + pl.col("num"), dtype=pl.UInt32))
    is_equal = lengths.select(pl.all_horizontal(pl.col(name) == pl.col("message") for name in lists)).to_series()
    damaged = table.filter(~is_equal)["entry"].explode().drop_nulls()
    table = table.filter(is_equal & (table["num"] > 0)).explode("entry", *lists)
    rows = flat(table.select(SESSION, *cells.columns), 0)
    kept = rows.cells.with_columns(entry=table["entry"].gather(rows.cells["entry"]))
    counts = rows.counts + Counter({"unreadable lines": len(damaged)})
    return Rows(kept, int(lengths["message"].sum()), counts, dict.fromkeys(damaged, ""))


def as_text(cells: pl.DataFrame) -> pl.DataFrame:
    """Return columns of any types as text; times in UTC, and times since 1970 as such."""
    return cells.select(text_of(series) for series in cells)


def text_of(series: pl.Series) -> pl.Series:
    kind = series.dtype
    if isinstance(kind, pl.Datetime):
        series = series.dt.convert_time_zone("UTC") if kind.time_zone else series
        return series.dt.to_string("%Y-%m-%d %H:%M:%S")
    if isinstance(kind, pl.Duration):
        return series.dt.total_seconds().cast(pl.String)
    if series.name in ("date", "time") and (kind.is_integer() or kind.is_float()):
        number = pl.col(series.name).cast(pl.Int64, strict=False)  # null for what is not finite
        whens = [pl.when(number > least).then(pl.from_epoch(number, unit)) for least, unit in UNITS.items()]
        when = series.to_frame().select(pl.coalesce(each.cast(pl.Datetime("us")) for each in whens)).to_series()
        return when.dt.to_string("%Y-%m-%d %H:%M:%S").fill_null(series.cast(pl.String)).alias(series.name)
    return series.cast(pl.String, strict=False)


def find_columnar_reader(path: Path, names: NameFacts, columns: Mapping[str, str]) -> ColumnarReader | None:
    """Return the reader of a file, or None if it has no column of messages.

    `columns` maps fields to the names of columns that the user gave.
    """
    given = {plain_name(name) for name in columns.values()}
    with open_columns(path) as file:
        all_columns = file.columns
    sample = read_sample(path, all_columns)
    found = choose_columns(sample, given, columns)
    if "message" in found and found["message"].list_at is None:  # lists do not belong to its rows
        found = choose_columns({each: sample[each] for each in sample if each.list_at is None}, given, columns)
    if "message" not in found:
        return None
    users = sample[found["username"]] if "username" in found else []
    return ColumnarReader(found, names, users)


def choose_columns(
    sample: Mapping[Column, Sequence[str]], given: Collection[str], columns: Mapping[str, str]
) -> dict[str, Column]:
    """Return the column of each field that a file has. `given` are the names in `columns`, in lower case."""
    header = [name if (name := plain_name(".".join(each.path))) in given else each.name for each in sample]
    rows = [*zip_longest(*sample.values(), fillvalue="")]
    return {field: [*sample][place] for field, place in find_fields(header, rows, columns).items()}


def read_sample(path: Path, columns: Sequence[Column]) -> dict[Column, list[str]]:
    """Return the first values of each column that are not empty, as text."""
    sample = {column: [] for column in columns}
    for batch, _ in islice(read_batches(path, dict(enumerate(columns))), FIRST_BATCHES):
        for column in columns:
            series = column.read(batch.slice(0, FIRST_ROWS))
            series = series.explode() if column.list_at is not None else series
            sample[column] += [value for value in text_of(series.drop_nulls()[:FIRST_ROWS]) if value]
        if all(sample.values()):
            break
    return sample
