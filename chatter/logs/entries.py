"""An entry of a log, a line or a JSON object: its kind and its CSV row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from chatter.logs.format import NO_FACTS, DocumentFacts, JsonFormat, LineFormat, fill_row, match_line, read_offset
from chatter.logs.formats import AUTOMATIC_FORMATS, JSON_FORMATS
from chatter.logs.formats.twitch_downloader import find_broadcaster
from chatter.logs.times import epoch_time, iso_time

AROUND = ("streamer", "video", "channel")  # keys of a JSON document beside its entries
HIGHLIGHT = 0.1  # if the stamps span less than this share of the offsets, they tell when the video was uploaded


def parse_line(
    line: str, formats: Sequence[LineFormat] = tuple(AUTOMATIC_FORMATS.values())
) -> tuple[str, list[str] | None]:
    """Return the kind of a line and its CSV row, or None if it is not a message or a moderation of a named user.

    Values that the line does not have are "".

    >>> parse_line("[2024-03-7 21:05:09] #channel user: hi: you")
    ('messages', ['2024-03-07', '21:05:09', 'channel', 'user', 'hi: you'])
    >>> parse_line("[2024-03-7 21:05:11] #channel user has been banned")
    ('bans', ['2024-03-07', '21:05:11', 'channel', 'user', ''])
    """
    return fill_row(*match_line(line, formats))


def find_json_format(entry: Any) -> JsonFormat | None:
    """Return the format of a JSON value, or None if it is in no known format."""
    return next((each for each in JSON_FORMATS.values() if each.matches(entry)), None)


def parse_json(entry: Any, facts: DocumentFacts = NO_FACTS) -> tuple[str, list[str] | None]:
    """Return the kind of a JSON value and its CSV row, as `parse_line` does for a line."""
    json_format = find_json_format(entry)
    if not json_format:
        return "unreadable lines", None
    try:
        kind, row = json_format.parse(entry, facts)
        if row and not (text := "".join(row)).isascii():
            text.encode()
    except UnicodeEncodeError:  # a lone surrogate: allowed in JSON, but not in UTF-8
        row = [value.encode(errors="replace").decode() for value in row]
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, OSError):  # values of other types
        return "unreadable lines", None
    return kind, row


def split_entry(json_format: JsonFormat, value: Any) -> list[Any]:
    """Return the entries in a JSON value; itself if it is in another format, or [None] if it is damaged."""
    if not json_format.split or not json_format.matches(value):
        return [value]
    try:
        return json_format.split(value)
    except (AttributeError, KeyError, TypeError):  # values of other types
        return [None]


def load_json(line: str | bytes) -> Any:
    """Return the value of a line of JSON, or None if the line is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def gather_facts(document: Mapping[str, Any], first_entries: Sequence[Any], channel: str) -> DocumentFacts:
    """Return the facts of a JSON document from its other keys and its first entries.

    `channel` is used if neither the keys nor the entries name one.
    """
    entries = [entry for entry in first_entries if isinstance(entry, dict)]
    around = (document.get(key) for key in AROUND)
    streamer, video, place = (value if isinstance(value, dict) else {} for value in around)
    broadcasters = map(find_broadcaster, entries)
    names = [
        streamer.get("login"),
        streamer.get("name"),
        video.get("user_name"),
        *broadcasters,
        place.get("name"),
        channel,
    ]
    channel = next((str(name).lower() for name in names if name), "")
    try:
        start = datetime.fromisoformat(" ".join(iso_time(str(video.get("created_at") or ""))))
    except ValueError:
        start = None
    return DocumentFacts(channel, have_upload_times(entries), start)


def have_upload_times(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the stamps of entries span far less time than their offsets into the video."""
    stamps, offsets = [], []
    for entry in entries:
        stamp = entry.get("created_at") or entry.get("createdAt") or entry.get("timestamp")
        try:
            when = epoch_time(stamp) if isinstance(stamp, int | float) else iso_time(stamp or "")
            found = datetime.fromisoformat(" ".join(when)), read_offset(entry)
        except (TypeError, ValueError, OverflowError, OSError):
            continue
        stamps.append(found[0])
        offsets.append(found[1])
    if not stamps:
        return False
    return (max(stamps) - min(stamps)).total_seconds() < HIGHLIGHT * (max(offsets) - min(offsets))
