"""The classes for formats of lines, of JSON and of tables, and how a line is matched."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatter.logs.batch import ROW_KINDS, SHARED
from chatter.logs.notices import OWN_NOTICE, PERHAPS_NOTICE
from chatter.logs.shared_chat import is_shared
from chatter.logs.times import DATE, clock_time, irc_time, offset_seconds, offset_time, padded_date

if TYPE_CHECKING:
    import polars as pl

Pattern = tuple[str, str]  # the kind of a line, and a pattern of `re` for the whole line


@dataclass(frozen=True, eq=False)
class LineFormat:
    """A format of lines: patterns for each kind of line and, for speed, one that polars can match."""

    # The first pattern that matches decides. A pattern for messages has the groups of FIELDS that the lines have, or
    # `tags` (of IRC, with or without a time) in place of date and time. One for deletions has the deleted text as
    # `message`; one without the text has the user as `author`. Each pattern must take linear time on any line.
    patterns: Sequence[Pattern]
    # Most lines are messages that match `plain` and not `unless`. `plain` has the same groups, or else `columns` gives
    # all FIELDS in order, given the first four words of the line and the rest of it.
    plain: str
    example: str = ""  # a message; "" in the format that is only read on request
    columns: Callable[[Sequence[pl.Expr]], list[pl.Expr]] | None = None
    unless: str | None = None
    # What every line begins with, with the groups `date` or `time`. A line without line breaks is split at its stamps.
    stamp: str | None = None
    # Tried on lines that match no pattern of any format of the file.
    others: Pattern | None = None
    # For lines about several timeouts and bans: (kind, group `username`) -> the kind and the user of each.
    split_moderation: Callable[[str, str], list[tuple[str, str]]] | None = None
    # Patterns for lines of other kinds about what moderators did, which a stream of lines obeys, too.
    actions: Sequence[Pattern] = ()
    # Whether each line has its day and looks like no other format, so that a file may mix such formats.
    stands_alone: bool = False
    clock: str = "UTC"  # or "local", or "offset" into the video
    # The line that begins a session, with the groups `date` and `zone` (+0100; may be unmatched).
    session_start: str | None = None
    read_date: Callable[[str], str] = padded_date  # of `session_start` -> yyyy-mm-dd
    # The line that ends a session, with the groups `date` and `time`.
    session_end: str | None = None
    # Whether a session goes on after midnight without a line about the new day.
    rolls_over: bool = False
    display_names: bool = False  # whether lines have display names, which may differ from logins
    on_request: bool = False  # whether only --format selects it, because its lines look like any text

    @property
    def has_moderation(self) -> bool:
        return any(kind in ("timeouts", "bans") for kind, _ in self.patterns)

    def match_start(self, line: str) -> re.Match | None:
        """Match a line that begins a session."""
        return re.fullmatch(self.session_start, line) if self.session_start else None

    def match_end(self, line: str) -> re.Match | None:
        """Match a line that ends a session."""
        return re.fullmatch(self.session_end, line) if self.session_end else None

    @cached_property
    def compiled(self) -> list[tuple[str, re.Pattern]]:
        return [(kind, re.compile(pattern, re.ASCII | re.DOTALL)) for kind, pattern in self.patterns]

    @cached_property
    def compiled_actions(self) -> list[tuple[str, re.Pattern]]:
        return [(kind, re.compile(pattern, re.ASCII | re.DOTALL)) for kind, pattern in self.actions]

    @cached_property
    def compiled_others(self) -> list[tuple[str, re.Pattern]]:
        return [(kind, re.compile(pattern, re.ASCII | re.DOTALL)) for kind, pattern in filter(None, [self.others])]


@dataclass(frozen=True)
class DocumentFacts:
    """Facts about a JSON document, from the keys around its entries and from its first entries."""

    channel: str = ""
    by_offset: bool = False  # whether only the offsets into the video tell when a message was sent
    start: datetime | None = None  # of the video, UTC


NO_FACTS = DocumentFacts()


@dataclass(frozen=True)
class JsonFormat:
    """A format of JSON objects."""

    matches: Callable[[Any], bool]  # whether a JSON value is an entry in this format
    # Returns the kind and the CSV row, which may end with the user's nickname. The row is None unless the entry is a
    # message or a moderation of a named user.
    parse: Callable[[Any, DocumentFacts], tuple[str, list[str] | None]]
    example: str  # the beginning of a document, in which values may be left out
    # For formats with several entries in an object: returns them.
    split: Callable[[Mapping[str, Any]], list[Any]] | None = None
    has_moderation: bool = True
    has_login: Callable[[Mapping[str, Any]], bool] = lambda entry: True  # whether an entry has its user's login
    # Returns the id of a message and, for a deletion, the id of the deleted message. Either may be None or "".
    ids: Callable[[Mapping[str, Any]], tuple[str | None, str | None]] = lambda entry: ("", "")


@dataclass(frozen=True)
class TableFormat:
    """A format of CSVs with a known header."""

    header: Sequence[str]
    columns: Mapping[str, str]  # field -> the name of its column
    notice: str  # matches messages that the program wrote, for polars
    after_name: str  # matches what follows the name of a user

    @property
    def example(self) -> str:
        return ",".join(self.header)

    def matches(self, header: Sequence[str]) -> bool:
        return [name.strip().lower() for name in header] == [name.lower() for name in self.header]


def has_keys(any_of: Collection[str], required: Collection[str] = ()) -> Callable[[Any], bool]:
    """Return a function that tells objects that have one of the keys `any_of`, and all `required` keys."""
    any_of, required = frozenset(any_of), frozenset(required)
    return lambda entry: isinstance(entry, dict) and not any_of.isdisjoint(entry) and required <= entry.keys()


# Parts of patterns.
CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
UTC_STAMP = rf"\[(?P<date>{DATE}) (?P<time>{CLOCK})(?:\.[0-9]{{1,9}})? UTC\] "
NAME = r"[^\s:]+"  # names contain no blank and no colon, so "user: @x has been banned" is a message
PUNCTUATION = r"!-/:;=?@\[-^`{-~"
# A name after the marks of a moderator, a subscriber, ...: punctuation that no name begins with.
MARKED_NAME = rf"[{PUNCTUATION}]*(?P<username>[^\s<>{PUNCTUATION}][^\s<>()]*)"


def user_message_lines(stamp: str) -> dict[str, Any]:
    """Return arguments of LineFormat for `user: message` after a stamp, where notices of Twitch look like messages."""
    return {
        "patterns": [
            ("messages", rf"{stamp}(?P<username>{NAME}):(?: (?!{OWN_NOTICE})(?P<message>.*))?"),
            ("notices", rf"{stamp}(?P<username>{NAME}): {OWN_NOTICE}.*"),
        ],
        "plain": rf"^{stamp}(?P<username>{NAME}): (?P<message>.*)$",
        "stamp": stamp or None,
        "unless": PERHAPS_NOTICE,
    }


def read_offset(entry: Mapping[str, Any]) -> float:
    """Return the seconds into the video at which an entry was sent, or 0 if the entry has no offset."""
    keys = ("content_offset_seconds", "contentOffsetSeconds", "time_in_seconds")
    return float(next((entry[key] for key in keys if entry.get(key) is not None), 0))


def match_line(line: str, formats: Sequence[LineFormat]) -> tuple[LineFormat | None, str, dict[str, str]]:
    """Return the first format with a pattern for a line, the kind of the line, and the groups of the pattern."""
    for each in formats:
        for kind, pattern in each.compiled:
            if found := pattern.fullmatch(line):
                return each, kind, found.groupdict("")
    for each in formats:
        for kind, pattern in each.compiled_others:
            if found := pattern.fullmatch(line):
                return each, kind, found.groupdict("")
    return None, "unreadable lines" if line.strip() else "blank lines", {}


def fill_row(line_format: LineFormat | None, kind: str, groups: dict[str, str]) -> tuple[str, list[str] | None]:
    """Return the kind and the CSV row of a line from the result of `match_line`."""
    if not groups.get("username") or kind not in ROW_KINDS:
        return kind, None
    date, time = padded_date(groups.get("date", "")), groups.get("time", "")
    if "tags" in groups:
        date, time = irc_time(groups["tags"]) or ["", ""]
        if kind == "messages" and is_shared(groups["tags"]):
            kind = SHARED
    time = clock_or_offset(time, line_format, date)
    return kind, [date, time, groups.get("channel", ""), groups["username"], groups.get("message", "")]


def clock_or_offset(time: str, line_format: LineFormat, date: str = "") -> str:
    """Return the time of day, or the offset into a video, as hh:mm:ss."""
    if line_format.stands_alone or not time:
        return time
    is_offset = line_format.clock == "offset" and not date
    return offset_time(offset_seconds(time), None)[1] if is_offset else clock_time(time)
