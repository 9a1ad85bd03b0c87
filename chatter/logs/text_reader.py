"""Text logs: most lines are parsed column by column in polars, the others one by one, with the same result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from chatter.logs.batch import FIELDS, MODERATION, SHARED, Batch, Part, Reader, Row
from chatter.logs.entries import load_json
from chatter.logs.file_names import NO_NAME, NameFacts
from chatter.logs.format import NO_FACTS, DocumentFacts, LineFormat, fill_row, match_line
from chatter.logs.formats import STAND_ALONE
from chatter.logs.formats.irc import DELETED_ID, MESSAGE_ID
from chatter.logs.json_documents import moderation_and_logins
from chatter.logs.json_reader import SCHEMA, parse_entries
from chatter.logs.long_lines import split_long_lines
from chatter.logs.reading import divide, read_chunks
from chatter.logs.sessions import NO_DAY, SessionEnd, Sessions, SessionStart, read_sessions
from chatter.logs.times import padded_date

EMPTY_TABLE = pl.DataFrame(schema=SCHEMA)
FEW = 10  # less than a tenth of the lines is parsed one by one


@dataclass
class TextReader(Reader):
    """Reads lines of text or of JSON, one entry each."""

    formats: Sequence[LineFormat] = tuple(STAND_ALONE)
    names: NameFacts = NO_NAME
    facts: DocumentFacts = NO_FACTS  # of lines of JSON
    is_known: bool = True  # whether the first lines are in one of the formats
    entries: Sequence[Any] = ()  # the parsed JSON of the first lines, if any

    def __post_init__(self) -> None:
        first = self.formats[0]
        # Until the end, any format of the file may have timeouts and bans; then only those that were found count.
        self.has_moderation = any(each.has_moderation for each in self.formats)
        self.has_logins = not first.display_names
        if self.entries:
            self.has_moderation, self.has_logins = moderation_and_logins(self.entries)
        self.deletes_by_id = first.stands_alone and not self.entries  # of such formats, only IRC has deletions

    def divide(self, path: Path) -> list[Part]:
        return divide(path) if self.formats[0].stands_alone else [Part(path)]

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        return self.read_part(Part(path), progress)

    def read_part(self, part: Part, progress: Callable[[int], None]) -> Iterator[Batch]:
        parser, first, has_events = LineParser(self.formats, self.names, self.deletes_by_id), 0, False
        for chunk in read_sessions(read_chunks(part, progress, parser.sessions.notes.add), self.formats[0]):
            lines, num_invalid = self.split(chunk)
            batch = parser.parse(lines, first)
            batch.num_invalid = num_invalid
            yield add_json_lines(batch, self.facts)
            first += batch.num_entries
            has_events |= bool(batch.events)
        self.has_moderation &= has_events or bool(self.entries) or self.formats[0].has_moderation

    def read_ids(self, path: Path) -> Iterator[pl.DataFrame]:
        first = 0
        for chunk in read_chunks(path, lambda num_bytes: None):
            lines = self.split(chunk)[0].to_frame().with_row_index("entry", first)
            yield lines.select("entry", id=pl.col("line").str.extract(MESSAGE_ID)).drop_nulls()
            first += len(lines)

    def split(self, chunk: bytes) -> tuple[pl.Series, int]:
        """Split a chunk into entries; return their lines and how many lines are not UTF-8."""
        lines, num_invalid = split_lines(chunk)
        return split_long_lines(lines, self.formats[0]), num_invalid


def split_lines(chunk: bytes) -> tuple[pl.Series, int]:
    """Split a chunk at \\n and \\r\\n; return the lines and how many of them are not UTF-8.

    Bytes that are not UTF-8 become U+FFFD.
    """
    text, invalid = chunk.removesuffix(b"\n"), 0
    try:
        text = pl.Series("line", [text]).cast(pl.String)
    except pl.exceptions.ComputeError:  # not UTF-8
        invalid = sum(line.decode(errors="ignore").encode() != line for line in text.split(b"\n"))
        text = pl.Series("line", [text.decode(errors="replace")])
    lines = text.str.split("\n").explode()
    return (lines.str.strip_suffix("\r") if b"\r" in chunk else lines), invalid


@dataclass
class Matches:
    """The lines of one format in a part of a file."""

    plain: pl.DataFrame = field(default_factory=lambda: EMPTY_TABLE)  # messages, read by the column
    rows: list[Row] = field(default_factory=list)  # messages, events and lines that tell the time, read one by one
    starts: list[SessionStart] = field(default_factory=list)
    ends: list[SessionEnd] = field(default_factory=list)


class LineParser:
    """Parses the lines of one file, part after part; the name of the file and earlier lines complete their times."""

    def __init__(
        self, formats: Sequence[LineFormat] = STAND_ALONE, names: NameFacts = NO_NAME, deletes_by_id: bool = False
    ) -> None:
        self.formats, self.names, self.deletes_by_id, self.sessions = formats, names, deletes_by_id, Sessions(names)

    def parse(self, lines: pl.Series, first: int = 0) -> Batch:
        """Parse lines numbered from `first` on, with the same result as `parse_line` on each."""
        batch = Batch(EMPTY_TABLE, len(lines))
        matches = {each: Matches() for each in self.formats}
        rest = self.match_plain(lines.to_frame().with_row_index("entry", first), matches)
        batch.counts["messages"] = len(lines) - len(rest)
        for number, text in rest.iter_rows():
            line_format, kind, groups = match_line(text, self.formats)
            kind, row = fill_row(line_format, kind, groups)
            batch.counts[kind] += 1
            if kind == "unreadable lines":
                batch.unreadable[number] = text
            elif row and kind != SHARED:
                if kind == "deletions" and self.deletes_by_id and (deleted := re.match(DELETED_ID, text)):
                    row[-1] = deleted[1]
                matches[line_format].rows.append((number, kind, *self.with_day(line_format, row)))
            elif line_format and line_format.rolls_over and groups.get("time"):
                matches[line_format].rows.append((number, kind, groups.get("date", ""), groups["time"], "", "", ""))
            elif end := line_format and line_format.match_end(text):
                matches[line_format].ends.append((number, padded_date(end["date"]), end["time"]))
            elif start := line_format and line_format.match_start(text):
                matches[line_format].starts.append((number, line_format.read_date(start["date"]), start["zone"] or ""))
        for line_format, found in matches.items():
            if len(found.plain) or found.rows or found.starts or found.ends:
                messages, events = self.complete(line_format, found)
                batch.messages = batch.messages.vstack(messages)
                batch.events += events
        batch.notes = self.sessions.notes
        if not batch.messages["entry"].is_sorted():
            batch.messages = batch.messages.sort("entry")
        batch.events.sort()
        return batch

    def with_day(self, line_format: LineFormat, row: list[str]) -> list[str]:
        """Return the row of a line with the day of the file if the line should have one, but has none.

        Such lines are IRC without tags. `Sessions` completes the times of other formats.
        """
        if row[0] or not line_format.stands_alone:
            return row
        if not self.names.date:
            self.sessions.notes.add(NO_DAY)
        return [self.names.date, *row[1:]]

    def match_plain(self, rest: pl.DataFrame, matches: dict[LineFormat, Matches]) -> pl.DataFrame:
        """Store the plain messages in `matches`, and return the other lines, columns `entry` and `line`, in order."""
        num_lines, doubtful = len(rest), rest.clear()  # doubtful lines look plain, but may be others
        line = pl.col("line")
        for place, line_format in enumerate(self.formats):
            if place and len(rest) * FEW < num_lines:  # so few are parsed faster one by one
                break
            is_doubtful = line.str.contains(line_format.unless) if line_format.unless else pl.lit(False)
            tested = rest.select(plain=line.str.contains(line_format.plain), doubtful=is_doubtful)
            looks_plain, is_doubtful = tested["plain"], tested["doubtful"]
            matches[line_format].plain = extract_fields(rest.filter(looks_plain & ~is_doubtful), line_format)
            if (looks_plain & is_doubtful).any():
                doubtful.extend(rest.filter(looks_plain & is_doubtful))
            rest = rest.filter(~looks_plain)
        return rest.vstack(doubtful).sort("entry") if len(doubtful) else rest

    def complete(self, line_format: LineFormat, found: Matches) -> tuple[pl.DataFrame, list[Row]]:
        """Return all messages and events of a format, with the channel, date and time that their lines lack."""
        plain = found.plain
        dates = plain["date"].unique() if line_format.stands_alone else []
        if padded := {date: padded_date(date) for date in dates if padded_date(date) != date}:
            plain = plain.with_columns(pl.col("date").replace(padded))
        if line_format.columns:  # such lines have all values
            messages = [(number, *row) for number, kind, *row in found.rows if kind == "messages"]
            if messages:
                plain = plain.vstack(pl.DataFrame(messages, plain.schema, orient="row"))
            return plain, [row for row in found.rows if row[1] != "messages"]
        table = plain.select("entry", pl.lit("messages").alias("kind"), *FIELDS)
        table = table.vstack(pl.DataFrame(found.rows, table.schema, orient="row")).sort("entry")
        channel = pl.when(pl.col("channel") == "").then(pl.lit(self.names.channel)).otherwise("channel")
        table = table.with_columns(channel=channel)
        if not line_format.stands_alone:
            table = self.sessions.complete(line_format, table, found.starts, found.ends)
        split = line_format.split_moderation or (lambda kind, user: [(kind, user)])
        events = []
        for number, kind, date, time, channel, users, text in table.filter(pl.col("kind") != "messages").iter_rows():
            if kind not in MODERATION:  # the line only tells the time
                continue
            each = [(kind, users)] if kind == "deletions" else split(kind, users)
            events += [(number, kind, date, time, channel, user, text) for kind, user in each if user or text]
        return table.filter(pl.col("kind") == "messages").select("entry", *FIELDS), events


def extract_fields(plain: pl.DataFrame, line_format: LineFormat) -> pl.DataFrame:
    """Return plain messages, columns `entry` and `line`, as columns `entry` and FIELDS."""
    line = pl.col("line")
    if line_format.columns:
        words = [pl.col("words").struct.field(f"field_{number}") for number in range(5)]
        table = plain.lazy().select("entry", words=line.str.splitn(" ", 5))
        return table.select("entry", **dict(zip(FIELDS, line_format.columns(words), strict=True))).collect()
    table = plain.select("entry", groups=line.str.extract_groups(line_format.plain)).unnest("groups")
    missing = [pl.lit("").alias(name) for name in FIELDS if name not in table.columns]
    return table.with_columns(missing).select("entry", pl.col(FIELDS).fill_null(""))


def add_json_lines(batch: Batch, facts: DocumentFacts) -> Batch:
    """Parse the unreadable lines of a batch that are JSON, and add them to the batch; return it."""
    lines = {number: line for number, line in batch.unreadable.items() if line.startswith("{")}
    entries = {number: entry for number, line in lines.items() if (entry := load_json(line)) is not None}
    if not entries:
        return batch
    found = parse_entries(entries.items(), facts)
    unreadable = {number: line for number, line in batch.unreadable.items() if number not in entries}
    batch.messages = pl.concat([batch.messages, found.messages], how="diagonal").sort("entry")
    batch.counts["unreadable lines"] -= found.num_entries
    batch.counts += found.counts
    batch.events = sorted(batch.events + found.events)
    batch.unreadable = dict(sorted((unreadable | found.unreadable).items()))
    batch.notes |= found.notes
    return batch
