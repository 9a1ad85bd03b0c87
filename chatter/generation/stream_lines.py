"""Lines of a stream, in any format of logs: what somebody typed, or what moderators removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chatter.cli import log
from chatter.generation.csv_rows import CsvRows
from chatter.generation.stream_clock import Moment, read_moment
from chatter.logs.batch import EMPTY, SHARED, channel_name
from chatter.logs.entries import find_json_format, load_json, parse_json, split_entry
from chatter.logs.format import JsonFormat, LineFormat, clock_or_offset, fill_row, match_line
from chatter.logs.formats import AUTOMATIC_FORMATS, irc
from chatter.logs.times import padded_date

# A log line begins with a time, perhaps after a date, then a name and : or >; a row of a table with a date, a time with
# seconds, and a delimiter. Lines that people type do not.
A_DAY = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"
LOOKS_LOGGED = re.compile(
    rf"\W*(?:{A_DAY}[ T,]+)?\d{{1,2}}:\d{{2}}(?::\d{{2}}\S*|[^\w\s]*)\s\W*\w+\W*[:>]\s.*"
    rf"|\W*{A_DAY}[\"T ,;\t]{{1,3}}\d{{1,2}}:\d{{2}}:\d{{2}}[^\s,;]*[,;\t].*"
)
REMOVALS = ("timeouts", "bans", "clears", "deletions")
FORMATS = [*AUTOMATIC_FORMATS.values()]
# Lines of these formats may look like messages of others: `[20:00:00] BAN: a (600s)` could be a message of a user BAN.
DOUBTFUL = [each for each in FORMATS if each.has_moderation and not each.stands_alone]


@dataclass(frozen=True)
class Removal:
    """A timeout, a ban, a clear of the chat, or a deletion. What is unknown about it is ""."""

    kind: str  # one of REMOVALS
    channel: str = ""
    user: str = ""  # in lower case
    text: str = ""  # of the deleted message, perhaps cut
    id: str = ""  # of the deleted message
    moment: Moment | None = None


@dataclass(eq=False)
class Line:
    """A line of a stream. What is unknown about it is ""."""

    text: str = ""  # what somebody typed
    channel: str = ""
    user: str = ""  # in lower case
    id: str = ""
    moment: Moment | None = None
    removals: tuple[Removal, ...] = ()
    answers: Line | None = None  # of a message that was generated: the line that it answers


def read_stream(lines: Iterable[str]) -> Iterator[Line]:
    """Yield each line of a stream. A row of parse_logs.py may have several lines, and is yielded at its last one.

    The text of events, of lines of a row that goes on, and of lines of a log in an unknown format is "". Warn about the
    first line in an unknown format.
    """
    rows, warned = CsvRows(), False
    for text in lines:
        text = text.removeprefix("\ufeff")  # where a file begins
        row = rows.read(text)
        if row is not None:
            yield message_of(row, read_moment(*row[:2])) if row else Line()
            continue
        line = read_line(text)
        if line:
            yield line
        elif LOOKS_LOGGED.fullmatch(text) or is_object(text):
            if not warned:
                log(f"ignoring lines of a log in an unknown format, such as {text[:80]!r}")
            warned = True
            yield Line()
        else:
            yield Line(text)


def is_object(text: str) -> bool:
    """Return whether a line is a JSON object with a key."""
    return text.startswith("{") and bool(load_json(text))


def read_line(text: str) -> Line | None:
    """Read a line of text or of JSON in a known format of logs; return None if it is in none of them."""
    line_format, kind, groups = match_line(text, FORMATS)
    if not line_format or kind == "blank lines":
        return read_json(load_json(text)) if text.startswith("{") else None
    if not line_format.stands_alone and kind not in REMOVALS:
        line_format, kind, groups = find_removal(text) or (line_format, kind, groups)
    return line_of(text, line_format, kind, groups)


def find_removal(text: str) -> tuple[LineFormat, str, dict[str, str]] | None:
    """Match a line that may be a timeout, a ban, a clear or a deletion in one of the formats, and counts as one."""
    for each in DOUBTFUL:
        line_format, kind, groups = match_line(text, [each])
        if kind in REMOVALS:
            return line_format, kind, groups
        if line_format and kind != "messages":
            for action, pattern in each.compiled_actions:
                if found := pattern.fullmatch(text):
                    return each, action, found.groupdict("")
    return None


def line_of(text: str, line_format: LineFormat, kind: str, groups: dict[str, str]) -> Line:
    """Return the line with the result of `match_line`."""
    tags = groups.get("tags", "")
    moment = read_moment(
        padded_date(groups.get("date", "")), clock_or_offset(groups.get("time", ""), line_format), tags
    )
    kind, row = fill_row(line_format, kind, groups)
    if kind in ("messages", SHARED) and row:
        return message_of(row, moment, find_id(irc.MESSAGE_ID, text) if tags else "")
    if kind == EMPTY:  # some versions of Chatterino write nothing but the time if a message is deleted
        kind = "deletions"
    if kind not in REMOVALS:
        return Line(moment=moment)
    users = groups.get("username") or groups.get("author") or ""
    split = line_format.split_moderation if kind in ("timeouts", "bans") else None
    events = split(kind, users) if split else [(kind, users)]
    channel, deleted = channel_name(groups.get("channel", "")), groups.get("message", "")
    deleted_id = find_id(irc.DELETED_ID, text) if tags else ""
    found = [Removal(kind, channel, user.lower(), deleted, deleted_id, moment) for kind, user in events]
    return Line(moment=moment, removals=tuple(found) or (Removal(kind, channel, moment=moment),))


def find_id(pattern: str, text: str) -> str:
    found = re.match(pattern, text)
    return found[1] if found else ""


def message_of(row: list[str], moment: Moment | None, own_id: str = "") -> Line:
    """Return the line of a message, of which `row` is the CSV row."""
    _, _, channel, user, text, *_ = row  # perhaps with a session
    return Line(text, channel_name(channel), user.lower(), own_id, moment)


def read_json(entry: Any) -> Line | None:
    """Read a JSON value; return None if it is in no known format. Of several entries in it, the last message counts."""
    json_format = find_json_format(entry)
    if not json_format:
        return None
    lines = [read_entry(json_format, each) for each in split_entry(json_format, entry)] or [Line()]
    return next((line for line in reversed(lines) if line.text), lines[-1])


def read_entry(json_format: JsonFormat, entry: Any) -> Line:
    if entry is None:
        return Line()
    raw = entry.get("raw")
    if isinstance(raw, str) and (line := read_irc(raw)):
        return line
    kind, row = parse_json(entry)
    own_id, deleted_id = read_ids(json_format.ids, entry)
    moment = read_moment(*row[:2]) if row else None
    if kind in ("messages", SHARED) and row:
        return message_of(row, moment, own_id)
    if kind not in REMOVALS:
        return Line(moment=moment)
    channel = row[2] if row else entry.get("channel")
    channel = channel_name(channel) if isinstance(channel, str) else ""
    return Line(
        moment=moment, removals=(Removal(kind, channel, row[3].lower() if row else "", "", deleted_id, moment),)
    )


def read_irc(raw: str) -> Line | None:
    line_format, kind, groups = match_line(raw, [irc.LINES])
    return line_of(raw, line_format, kind, groups) if line_format else None


def read_ids(ids: Any, entry: Mapping[str, Any]) -> list[str]:
    """Return the id of a JSON entry and of the message that it deletes, or "" for what it has not or is not text."""
    try:
        return [each if isinstance(each, str) else "" for each in ids(entry)]
    except (TypeError, AttributeError):  # values of other types
        return ["", ""]
