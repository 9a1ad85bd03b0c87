"""Tables with a header, one entry a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chatter.logs.batch import FIELDS, Batch, Reader
from chatter.logs.file_names import NameFacts
from chatter.logs.sessions import NO_DAY
from chatter.logs.tables import read_columns
from chatter.logs.times import read_time

LOGIN = re.compile(r".*\((\w+)\)")  # name (login)


@dataclass
class TableReader(Reader):
    """Reads a CSV or TSV."""

    columns: Mapping[str, Sequence[str]]  # as COLUMNS in tables.py
    names: NameFacts
    has_logins: bool
    has_moderation: bool = False

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        first = 0
        for rows in read_columns(path, self.columns, progress):
            size = len(rows["message"])
            dates, times = rows.get("date", [""] * size), rows.get("time", [""] * size)
            stamps = [f"{date} {time}".strip() for date, time in zip(dates, times, strict=True)]
            known = {stamp: read_time(stamp) for stamp in {*stamps}}
            known = {stamp: [date or (time and self.names.date), time] for stamp, (date, time) in known.items()}
            dates, times = zip(*[known[stamp] for stamp in stamps], strict=True) if size else ((), ())
            users = rows.get("username", [""] * size)
            logins = {user: found[1] if (found := LOGIN.fullmatch(user)) else user.strip() for user in {*users}}
            channels = rows.get("channel", [self.names.channel] * size)
            columns = [dates, times, channels, [logins[user] for user in users], rows["message"]]
            table = pl.DataFrame(dict(zip(FIELDS, columns, strict=True)), dict.fromkeys(FIELDS, pl.String))
            notes = {NO_DAY} if "" in dates else set()
            yield Batch(table.with_row_index("entry", first), size, Counter(messages=size), notes=notes)
            first += size
