"""Chat as JSON: what the entries of exports are, be they elements of an array or lines of their own.

A new form is a new entry in EXPORTS. The forms are those of

    TwitchDownloader      github.com/lay295/TwitchDownloader, TwitchObjects/ChatRoot.cs; before it, Twitch's API v5
    justlog, rustlog      github.com/gempir/justlog, api/server.go; github.com/boring-nick/rustlog, src/logs/schema
    chat-downloader       github.com/xenova/chat-downloader, sites/twitch.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chatter.dialects import DIALECTS, NOTICE_WORDS
from chatter.lines import parse_line
from chatter.times import epoch_time, iso_time, offset_time

UNNAMED = "entries without a user"
EMPTY = "entries without text"
CONTAINERS = ("comments", "messages")  # keys of the array of entries
NOTICE = re.compile(rf"(?P<name>\S+) {NOTICE_WORDS}|[0-9]+ raiders from (?P<raider>\S+) have joined!")
MODERATED = re.compile(r"(?P<name>\S+) has been (?P<kind>timed out|banned)")
HIGHLIGHT = 0.1  # stamps that span less than this part of the offsets are those of an upload, not of the messages


@dataclass(frozen=True)
class ExportFacts:
    """What an export says outside its entries, or all of its first entries together."""

    channel: str = ""
    by_offset: bool = False  # whether only the offsets into the video tell when a message was sent
    start: datetime | None = None  # of the video, UTC


NO_FACTS = ExportFacts()


@dataclass(frozen=True)
class Export:
    """A form of entries: JSON objects."""

    keys: frozenset[str]  # an entry has one of these
    # (entry, facts) -> kind and CSV row, which is None for what is neither a message nor a timeout or ban of somebody
    parse: Callable[[Mapping[str, Any], ExportFacts], tuple[str, list[str] | None]]
    has_moderation: bool = True
    has_login: Callable[[Mapping[str, Any]], bool] = lambda entry: True  # whether an entry names its user by login


def parse_comment(entry: Mapping[str, Any], facts: ExportFacts) -> tuple[str, list[str] | None]:
    """Read a comment of TwitchDownloader, of Twitch's API v5, or of twitch-dl (whose keys are in camel case)."""
    commenter, message = entry.get("commenter") or {}, entry.get("message") or {}
    name = commenter.get("name") or commenter.get("login")
    if not name:
        return UNNAMED, None
    text = message.get("body")
    if text is None:
        text = "".join(fragment.get("text") or "" for fragment in message.get("fragments") or ())
    if not text:
        return EMPTY, None
    display_name = commenter.get("display_name") or commenter.get("displayName") or name
    if is_notice(text, name, display_name):
        return "notices", None
    stamp = entry.get("created_at") or entry.get("createdAt") or ""
    when = offset_time(read_offset(entry), facts.start) if facts.by_offset or not stamp else iso_time(stamp)
    return "messages", [*when, facts.channel or str(entry.get("channel_id") or ""), name, text]


def is_notice(text: str, *names: str) -> bool:
    """Return whether a text under a user's name is what Twitch said of the user: a subscription, a gift, a raid."""
    found = NOTICE.match(text)
    return bool(found) and (found["name"] or found["raider"]).lower() in {name.lower() for name in names}


def parse_logged(entry: Mapping[str, Any], facts: ExportFacts) -> tuple[str, list[str] | None]:
    """Read a message of justlog or rustlog. Raw IRC, where it is there, says more than the rest."""
    if raw := entry.get("raw"):
        return parse_line(raw, [DIALECTS["raw IRC"]])
    tags, text = entry.get("tags") or {}, entry.get("text") or ""
    when = iso_time(entry.get("timestamp") or "")
    channel = entry.get("channel") or facts.channel or str(tags.get("room-id") or "")
    name = entry.get("username") or tags.get("login") or entry.get("displayName") or ""
    number = entry.get("type")
    if number == 2 or (number is None and "target-user-id" in tags):
        if found := MODERATED.match(text):
            name = entry.get("username") or found["name"]
        if not name:
            return "clears", None
        return ("timeouts" if "ban-duration" in tags else "bans"), [*when, channel, name, ""]
    if number == 4 or (number is None and "system-msg" in tags):
        system = str(tags.get("system-msg") or "").replace(r"\s", " ")
        typed = text if entry.get("systemText") else text[len(system) + 1 :] if text.startswith(f"{system} ") else ""
        return ("messages", [*when, channel, name, typed]) if typed and system + name else ("notices", None)
    if number not in (None, 1) or text == "Chat has been cleared":
        return "notices" if number not in (None, 1) else "clears", None
    return ("messages", [*when, channel, name, text]) if name else (UNNAMED, None)


def parse_item(entry: Mapping[str, Any], facts: ExportFacts) -> tuple[str, list[str] | None]:
    """Read an item of chat-downloader, whose authors are objects since 2021 and were names before."""
    kind, author = entry.get("message_type") or "text_message", entry.get("author") or {}
    name = author if isinstance(author, str) else author.get("name") or author.get("display_name") or ""
    if facts.by_offset or not entry.get("timestamp"):
        when = offset_time(read_offset(entry), facts.start)
    else:
        when = epoch_time(float(entry["timestamp"]))
    if kind == "ban_user":
        banned = entry.get("banned_user") or ""
        row = [*when, facts.channel, banned, ""] if banned else None
        return ("timeouts" if entry.get("ban_duration") else "bans"), row
    if kind == "delete_message":
        return "deletions", None
    text = (entry.get("message") or "").removesuffix("\x01")  # what is left of /me
    if kind != "text_message" and (not text or text == entry.get("system_message")):
        return "clears" if kind == "clear_chat" else "notices", None
    if is_notice(text, name):
        return "notices", None
    if not name:
        return UNNAMED, None
    return ("messages", [*when, facts.channel, name, text]) if text else (EMPTY, None)


def read_offset(entry: Mapping[str, Any]) -> float:
    """Return the seconds into the video at which an entry was sent; 0 if it does not say."""
    keys = ("content_offset_seconds", "contentOffsetSeconds", "time_in_seconds")
    return float(next((entry[key] for key in keys if entry.get(key) is not None), 0))


EXPORTS = {
    "TwitchDownloader JSON": Export(
        frozenset({"commenter", "content_offset_seconds", "contentOffsetSeconds"}), parse_comment, has_moderation=False
    ),
    "justlog and rustlog JSON": Export(
        frozenset({"raw", "displayName", "tags"}),
        parse_logged,
        has_login=lambda entry: bool(entry.get("raw") or entry.get("username")),
    ),
    "chat-downloader JSON": Export(
        frozenset({"author", "message_type", "time_in_seconds"}), parse_item, has_login=lambda entry: False
    ),
}


def find_export(entry: Any) -> Export | None:
    """Return the form of an entry, or None if it is none of an export."""
    if isinstance(entry, dict):
        for export in EXPORTS.values():
            if not export.keys.isdisjoint(entry):
                return export
    return None


def parse_entry(entry: Any, facts: ExportFacts = NO_FACTS) -> tuple[str, list[str] | None]:
    """Return the kind of an entry of an export and its CSV row, as `parse_line` does for a line."""
    export = find_export(entry)
    if not export:
        return "unreadable lines", None
    try:
        kind, row = export.parse(entry, facts)
        if row and not (text := "".join(row)).isascii():
            text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry and UTF-8 cannot
        row = [value.encode(errors="replace").decode() for value in row]
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError, OSError):  # other types than the form has
        return "unreadable lines", None
    return kind, row


def load_json(line: str) -> Any:
    """Return what a line of JSON says, or None if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def parse_any_line(line: str) -> tuple[str, list[str] | None]:
    """Return what `parse_line` does, also for a line of JSON."""
    kind, row = parse_line(line)
    return parse_entry(load_json(line)) if kind == "unreadable lines" and line.startswith("{") else (kind, row)


def gather_facts(document: Mapping[str, Any], first_entries: Sequence[Any], channel: str) -> ExportFacts:
    """Return the facts of an export: its other keys are `document`; `channel` is used if nothing says another."""
    entries = [entry for entry in first_entries if isinstance(entry, dict)]
    streamer, video = (
        document.get(key) if isinstance(document.get(key), dict) else {} for key in ("streamer", "video")
    )
    streams = [
        streamer.get("login"),
        streamer.get("name"),
        video.get("user_name"),
        *map(find_broadcaster, entries),
        channel,
    ]
    channel = next((str(name).lower() for name in streams if name), "")
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
    spans = [(max(each) - min(each)) if each else None for each in (stamps, offsets)]
    by_offset = bool(stamps) and spans[0].total_seconds() < HIGHLIGHT * spans[1]
    try:
        start = datetime.fromisoformat(" ".join(iso_time(str(video.get("created_at") or ""))))
    except ValueError:
        start = None
    return ExportFacts(channel, by_offset, start)


def find_broadcaster(entry: Mapping[str, Any]) -> str | None:
    """Return who wrote a comment if it was the streamer, whom a badge tells."""
    try:
        badges = entry["message"]["user_badges"]
        return entry["commenter"]["name"] if any(badge["_id"] == "broadcaster" for badge in badges) else None
    except (KeyError, TypeError):
        return None
