"""The lines of a log, each read for what it is: quickly by the column, and line by line with the same result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chatter.dialects import DIALECTS, FIELDS, Dialect
from chatter.irc import irc_time
from chatter.names import NO_NAME, NameFacts
from chatter.sessions import Head, Sessions, normal_time

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

UNTIMED = "messages without a time"
FEW = 10  # a tenth of the lines
FIRST_LINES = 100  # of a file, from which its dialect is told
# Chatty's: a (600s), b [reason] {age}
BANNED, REASON = re.compile(r"([^\s,()]+)(?: \((\d+)s\))?"), re.compile(r" (?:\[.*?\]|\{.*?\})(?=[, ]|$)")

# The number of the entry, its kind, and its FIELDS.
Row = tuple[int, str, str, str, str, str, str]


@dataclass
class Batch:
    """Some consecutive entries of a file, mostly lines, which are numbered from 0 on."""

    messages: pl.DataFrame  # columns `number` and FIELDS, in order
    num_entries: int
    counts: Counter[str] = field(default_factory=Counter)  # of entries of each kind
    events: list[Row] = field(default_factory=list)  # timeouts and bans, as far as the entry says whose
    unreadable: dict[int, str] = field(default_factory=dict)  # number -> line
    num_invalid: int = 0  # entries that are not in UTF-8
    notes: set[str] = field(default_factory=set)  # what the user should know of the times


STAND_ALONE = tuple(dialect for dialect in DIALECTS.values() if dialect.stands_alone)
STAMPED = tuple(dialect for dialect in DIALECTS.values() if not dialect.on_request)


def match_line(line: str, dialects: Sequence[Dialect]) -> tuple[Dialect | None, str, dict[str, str]]:
    """Return the first dialect with a pattern for a line, the kind of the line, and the groups of the pattern."""
    for dialect in dialects:
        for kind, pattern in dialect.compiled:
            if found := pattern.fullmatch(line):
                return dialect, kind, found.groupdict("")
    for dialect in dialects:
        for kind, pattern in dialect.compiled_others:
            if found := pattern.fullmatch(line):
                return dialect, kind, found.groupdict("")
    return None, "unreadable lines" if line.strip() else "blank lines", {}


def parse_line(line: str, dialects: Sequence[Dialect] = STAMPED) -> tuple[str, list[str] | None]:
    """Return the kind of a line and, for a message, a timeout or a ban that says who, its CSV row.

    What the line does not say is "". IRC without tags does not say when: its messages are of the kind UNTIMED.

    >>> parse_line("[2024-03-7 21:05:09] #channel user: hi: you")
    ('messages', ['2024-03-07', '21:05:09', 'channel', 'user', 'hi: you'])
    >>> parse_line("[2024-03-7 21:05:11] #channel user has been banned")
    ('bans', ['2024-03-07', '21:05:11', 'channel', 'user', ''])
    """
    dialect, kind, groups = match_line(line, dialects)
    return fill_row(dialect, kind, groups)


def fill_row(dialect: Dialect | None, kind: str, groups: dict[str, str]) -> tuple[str, list[str] | None]:
    """Return the kind and the CSV row of a line that `match_line` found."""
    who = groups.get("username") or groups.get("people")
    if not who:
        return kind, None
    date, time = groups.get("date", ""), groups.get("time", "")
    if "tags" in groups:
        if not (stamp := irc_time(groups["tags"])):
            if kind != "messages":
                return kind, None
            kind = UNTIMED
        date, time = stamp or ["", ""]
    elif date:
        date = f"{date[:8]}{date[8:]:0>2}"
    return kind, [date, normal_time(time, dialect, date), groups.get("channel", ""), who, groups.get("message", "")]


def choose_dialects(first_lines: Iterable[str]) -> Sequence[Dialect]:
    """Return the dialects to try for a file, from its first lines: the one that they are in, then all that stand alone.

    Raises ValueError if they are in none.
    """
    lines = [line for line in first_lines if line.strip()][:FIRST_LINES]
    if not lines:
        return STAND_ALONE
    known = {}  # dialect -> number of lines that it knows
    for name, dialect in DIALECTS.items():
        if dialect.head and any(re.fullmatch(dialect.head, line) for line in lines):
            return order_dialects(dialect)
        if not dialect.on_request:
            known[name] = sum(any(pattern.fullmatch(line) for _, pattern in dialect.compiled) for line in lines)
            if dialect.stands_alone and known[name] == len(lines):
                break
    best = max(known, key=known.get)  # the first of several
    if not known[best]:
        raise ValueError
    return order_dialects(DIALECTS[best])


def order_dialects(first: Dialect) -> list[Dialect]:
    """Return a dialect, then all others that stand alone."""
    return [first, *(dialect for dialect in STAND_ALONE if dialect is not first)]


class LineParser:
    """Parses the lines of one file, part after part, with what its name and its earlier lines say."""

    def __init__(self, dialects: Sequence[Dialect] = STAND_ALONE, names: NameFacts = NO_NAME):
        self.dialects, self.names, self.sessions = dialects, names, Sessions(names)

    def parse(self, lines: pl.Series, first: int = 0) -> Batch:
        """Parse lines numbered from `first` on, with the same result as `parse_line` on each."""
        import polars as pl

        line = pl.col("line")
        words = [pl.col("words").struct.field(f"field_{number}") for number in range(5)]
        batch = Batch(pl.DataFrame(schema={"number": pl.UInt32} | dict.fromkeys(FIELDS, pl.String)), len(lines))
        rest = lines.to_frame().with_row_index("number", first)
        plain, rows, heads, doubtful = {}, {}, [], []
        for place, dialect in enumerate(self.dialects):
            if place and len(rest) * FEW < len(lines):  # these few are parsed sooner one by one
                break
            plainly = pl.col("plain") & ~pl.col("doubtful")
            is_doubtful = line.str.contains(dialect.unless) if dialect.unless else pl.lit(False)
            rest = rest.with_columns(plain=line.str.contains(dialect.plain), doubtful=is_doubtful)
            found, rest = rest.filter(plainly), rest.filter(~plainly)
            doubtful.append(rest.filter("plain"))
            rest = rest.filter(~pl.col("plain"))
            if dialect.columns:
                found = found.select("number", words=line.str.splitn(" ", 5))
                found = found.select("number", **dict(zip(FIELDS, dialect.columns(words), strict=True)))
            else:
                found = found.select("number", groups=line.str.extract_groups(dialect.plain)).unnest("groups")
                missing = [pl.lit("").alias(name) for name in FIELDS if name not in found.columns]
                found = found.with_columns(missing).select("number", pl.col(FIELDS).fill_null(""))
            plain[place] = found
            batch.counts["messages"] += len(found)
        rest = pl.concat([rest.select("number", "line"), *(lines.select("number", "line") for lines in doubtful)])
        for number, text in rest.sort("number").select("number", "line").iter_rows():
            dialect, kind, groups = match_line(text, self.dialects)
            kind, row = fill_row(dialect, kind, groups)
            batch.counts[kind] += 1
            if kind == "unreadable lines":
                batch.unreadable[number] = text
            elif row and kind != UNTIMED:
                rows.setdefault(self.dialects.index(dialect), []).append((number, kind, *row))
            elif dialect and dialect.head and (head := re.fullmatch(dialect.head, text)):
                heads.append((number, head["date"], head["zone"] or ""))
        for place, dialect in enumerate(self.dialects):
            if place in rows or (place in plain and len(plain[place])) or (heads and dialect.head):
                found = plain.get(place, batch.messages.clear())
                messages, events = self.complete(dialect, found, rows.get(place, []), heads)
                batch.messages = batch.messages.vstack(messages)
                batch.events += events
        batch.notes = self.sessions.notes
        if not batch.messages["number"].is_sorted():
            batch.messages = batch.messages.sort("number")
        batch.events.sort()
        return batch

    def complete(
        self, dialect: Dialect, plain: pl.DataFrame, rows: list[Row], heads: list[Head]
    ) -> tuple[pl.DataFrame, list[Row]]:
        """Return all messages of a dialect, and its events, with what their lines do not say."""
        import polars as pl

        dates = plain["date"].unique() if dialect.stands_alone else []
        if padded := {date: f"{date[:8]}0{date[8:]}" for date in dates if len(date) == 9}:
            plain = plain.with_columns(pl.col("date").replace(padded))
        if dialect.columns:
            messages = [(number, *row) for number, kind, *row in rows if kind == "messages"]
            if messages:
                plain = plain.vstack(pl.DataFrame(messages, plain.schema, orient="row"))
            return plain, [row for row in rows if row[1] != "messages"]
        schema = {"number": pl.UInt32} | dict.fromkeys(["kind", *FIELDS], pl.String)
        table = plain.select("number", pl.lit("messages").alias("kind"), *FIELDS)
        table = table.vstack(pl.DataFrame(rows, schema, orient="row")).sort("number")
        channel = pl.when(pl.col("channel") == "").then(pl.lit(self.names.channel)).otherwise("channel")
        table = table.with_columns(channel=channel)
        if not dialect.stands_alone:
            table = self.sessions.complete(dialect, table, heads)
        events = [
            (number, "timeouts" if seconds else "bans" if dialect.rolls_over else kind, *when, name, "")
            for number, kind, *when, people, _ in table.filter(pl.col("kind") != "messages").iter_rows()
            for name, seconds in (BANNED.findall(REASON.sub("", people)) if dialect.rolls_over else [(people, "")])
        ]
        return table.filter(pl.col("kind") == "messages").select("number", *FIELDS), events
