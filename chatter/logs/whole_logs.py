"""Filters that need facts about whole logs: which messages were moderated, and which users are rare.

A log is read once: the rows of all messages are written, and beside them who wrote which row. When the facts are known,
rows are taken out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, starmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from chatter.logs.batch import Batch, Reader
from chatter.logs.filters import FILTERS, TIMEOUT_LINES, LogFacts, filter_messages
from chatter.logs.moderation import NO_ENTRIES, Events, find_deleted
from chatter.workers import Workers, report

BLOCK_BYTES = 4 << 20  # of rows at a time: bounds memory
NEWLINE, QUOTE = b'\n"'


class Authors:
    """Who wrote the rows of a part of a log, and what the part adds to the facts."""

    def __init__(
        self, rows: Path, has_header: bool, path: Path | None, filters: Mapping[str, Any], reader: Reader
    ) -> None:
        """`rows` is the file of rows. `path` begins the names of files for tables; None keeps the tables in memory."""
        self.rows, self.has_header, self.path = rows, has_header, path
        self.tables: list[pl.DataFrame | Path] = []
        self.events = Events(TIMEOUT_LINES) if filters.get("drop_moderated") and reader.has_moderation else None
        self.users = Counter() if filters.get("min_user_messages") else None  # in lower case, with their messages
        self.num_entries = self.num_rows = 0

    def add(self, batch: Batch, messages: pl.DataFrame) -> None:
        """Add a batch, of whose messages `messages` were written."""
        self.num_entries += batch.num_entries
        if self.events is not None:
            self.events.add(batch)
        if self.users is not None:
            for name, count in batch.messages["username"].value_counts().iter_rows():
                self.users[name.lower()] += count
        table = messages.lazy().with_row_index("row", self.num_rows)
        if self.path:  # grouped, they take less space
            table = table.group_by("channel", "date", "username").agg("entry", "row")
        user = pl.col("username").str.to_lowercase()
        table = table.select("row", "entry", "channel", "date", user=user).collect()
        self.tables.append(self.save(table) if self.path else table)
        self.num_rows += len(messages)

    def save(self, table: pl.DataFrame) -> Path:
        path = self.path.with_name(f"{self.path.name}-{len(self.tables)}.arrow")
        table.write_ipc(path)
        return path

    def messages(self, facts: LogFacts, first: int) -> Iterator[pl.DataFrame]:
        """Yield the messages that may be left out, with entries numbered from `first` on, and their rows."""
        users = facts.moderation.users.union(facts.rare_users)
        is_anyone = len(facts.moderation.deleted) > 0  # a deleted message may be anyone's
        for each in self.tables if users or is_anyone else ():
            table = each if isinstance(each, pl.DataFrame) else pl.read_ipc(each)
            table = table if is_anyone else table.filter(pl.col("user").is_in(users))
            if isinstance(each, Path):
                table = table.explode("entry", "row").sort("entry")
                each.unlink()
            yield table.with_columns(pl.col("entry") + first)


def drop_all_rows(
    authors: Mapping[Path, Sequence[Authors]],
    filters: Mapping[str, Any],
    open_reader: Callable[[Path], Reader],
    workers: Workers,
) -> Iterator[tuple[Path, Path, Counter]]:
    """Call `drop_rows` for each part of each log; yield the log, the part's file of rows, and the counts."""
    find_all = partial(workers.map, "finding deleted messages", find_deleted, num_bytes=0)
    facts = [*find_facts(authors, filters.get("min_user_messages", 1), open_reader, find_all)]
    calls = [(*each, filters) for _, *each in facts]
    dropped = workers.map("filtering", drop_rows, calls, sum(part.rows.stat().st_size for part, *_ in calls))
    for (log, part, *_), counts in zip(facts, dropped, strict=True):
        yield log, part.rows, counts


def find_facts(
    authors: Mapping[Path, Sequence[Authors]],
    fewest: int,
    open_reader: Callable[[Path], Reader],
    find_all: Callable[[list[tuple]], Iterable[pl.Series]],
) -> Iterator[tuple[Path, Authors, int, LogFacts]]:
    """Yield each log and each of its parts, given in order, with the part's first entry and what filters need.

    Users with fewer than `fewest` messages in all logs are rare. `find_all` calls `find_deleted` with each of a list of
    arguments.
    """
    num_messages, events = Counter(), {log: Events(TIMEOUT_LINES) for log in authors}
    for log, parts in authors.items():
        for part, first in zip(parts, first_entries(parts), strict=True):
            num_messages.update(part.users or {})
            if part.events is not None:
                events[log].extend(part.events, first)
    calls = [(log, open_reader, found.deletions) for log, found in events.items() if found.deletions]
    deleted = {log: entries for (log, *_), entries in zip(calls, find_all(calls), strict=True)}
    for log, parts in authors.items():
        moderation = events[log].moderation(deleted.get(log, NO_ENTRIES))
        for part, first in zip(parts, first_entries(parts), strict=True):
            rare_users = [user for user in part.users or () if num_messages[user] < fewest]
            yield log, part, first, LogFacts(rare_users, moderation)


def first_entries(parts: Sequence[Authors]) -> list[int]:
    """Return the number of the first entry of each part."""
    return [*accumulate((part.num_entries for part in parts), initial=0)][: len(parts)]


def drop_rows(
    authors: Authors,
    first: int,
    facts: LogFacts,
    filters: Mapping[str, Any],
    progress: Callable[[int], None] = report,
) -> Counter:
    """Take the rows that the filters leave out of a part's file; return their numbers by the filters' `count`.

    `first` is the number of the part's first entry.
    """
    counts = Counter({entry.count: 0 for name, entry in FILTERS.items() if entry.of_whole_logs and filters.get(name)})
    dropped = []
    for table in authors.messages(facts, first):
        kept, left_out = filter_messages(table, filters, facts)
        counts.update(left_out)
        dropped.append(table.join(kept, on="row", how="anti")["row"])
    dropped = np.sort(pl.concat(dropped).to_numpy()) if dropped else []
    if len(dropped):
        with authors.rows.open("r+b") as rows:
            take_out(rows, dropped + authors.has_header)
    progress(authors.rows.stat().st_size)
    counts["messages written"] = -len(dropped)
    return counts


def drop_own_rows(
    log: Path, authors: Authors, open_reader: Callable[[Path], Reader], filters: Mapping[str, Any]
) -> Counter:
    """Do what `find_facts` and `drop_rows` do, for a log that is one part, if no users are rare."""
    quiet = {"progress": lambda num_bytes: None}  # parsing the log has shown its progress
    [(_, *facts)] = find_facts({log: [authors]}, 1, open_reader, partial(starmap, partial(find_deleted, **quiet)))
    return drop_rows(*facts, filters, **quiet)


def take_out(rows: BinaryIO, dropped: np.ndarray) -> None:
    """Take the rows with the numbers `dropped`, (num_dropped,), sorted, out of a CSV."""
    number, rest, end = 0, b"", 0  # of the row after those that were dealt with; its beginning; where it is written to
    while block := rows.read(BLOCK_BYTES):
        position, block = rows.tell(), rest + block
        ends = row_ends(block)
        places = dropped[slice(*np.searchsorted(dropped, [number, number + len(ends)]))] - number
        begins = np.concatenate([[0], ends])
        kept = [0, *np.column_stack([begins[places], ends[places]]).ravel().tolist(), begins[-1]]
        rows.seek(end)
        end += rows.write(b"".join(block[begin:end] for begin, end in zip(kept[::2], kept[1::2], strict=True)))
        rows.seek(position)
        number, rest = number + len(ends), block[begins[-1] :]
    rows.truncate(end)


def row_ends(block: bytes) -> np.ndarray:
    """Return where the rows of a CSV end, (num_rows,). Line breaks between quotes are part of a value."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == NEWLINE)
    if b'"' in block:
        ends = ends[np.searchsorted(np.flatnonzero(data == QUOTE), ends) % 2 == 0]
    return ends + 1
