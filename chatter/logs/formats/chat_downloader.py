"""chat-downloader: `5:09 | User: message`, and JSON.

github.com/xenova/chat-downloader, formatting/custom_formats.json and sites/twitch.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatter.logs.batch import EMPTY, UNNAMED
from chatter.logs.format import NAME, DocumentFacts, JsonFormat, LineFormat, read_offset
from chatter.logs.notices import is_notice
from chatter.logs.times import DATE, epoch_time, offset_time

STAMP = rf"\[?(?:(?P<date>{DATE}) )?(?P<time>-?(?:[0-9]{{1,4}}:)?[0-9]{{1,2}}:[0-5][0-9])(?:\] | \| (?:\([^()]*\) )?)"

LINES = LineFormat(
    patterns=[("messages", rf"{STAMP}(?P<username>{NAME}):(?: (?P<message>.*))?")],
    plain=rf"^{STAMP}(?P<username>{NAME}): (?P<message>.*)$",
    example="5:09 | User: message",
    stamp=STAMP,
    clock="offset",
    display_names=True,
)

NO_MESSAGE = {"delete_message": "deletions", "clear_chat": "clears"}  # types of items


def parse_item(entry: Mapping[str, Any], facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of an item. Its author has been an object since 2021, and was a name before."""
    kind, author = entry.get("message_type") or "text_message", entry.get("author") or {}
    name = author if isinstance(author, str) else author.get("name") or author.get("display_name") or ""
    name = name.removeprefix("@")  # of YouTube's names
    if facts.by_offset or not entry.get("timestamp"):
        when = offset_time(read_offset(entry), facts.start)
    else:
        when = epoch_time(float(entry["timestamp"]))
    if kind == "ban_user":
        banned = entry.get("banned_user") or ""
        row = [*when, facts.channel, banned, ""] if banned else None
        return ("timeouts" if entry.get("ban_duration") else "bans"), row
    if kind in NO_MESSAGE:
        return NO_MESSAGE[kind], None
    text = (entry.get("message") or "").removesuffix("\x01")  # the end of /me
    system = entry.get("system_message")
    if (system and text in ("", system)) or is_notice(text, name):
        return "notices", None
    if not name:
        return UNNAMED, None
    return ("messages", [*when, facts.channel, name, text]) if text else (EMPTY, None)


def is_item(entry: Any) -> bool:
    """Return whether a JSON value is an item. Other programs write an author and a message, too, and times as text."""
    if not isinstance(entry, dict):
        return False
    if not entry.keys().isdisjoint({"message_type", "time_in_seconds"}):
        return True
    is_old = {"author", "message"} <= entry.keys() <= {"author", "message", "timestamp", "emotes", "time_text"}
    return is_old and isinstance(entry["author"], str) and not isinstance(entry.get("timestamp"), str)


JSON = JsonFormat(
    matches=is_item,
    parse=parse_item,
    example='{"message": "", "message_type": "", "timestamp": 0, "author": {"name": ""}}',
    has_login=lambda entry: False,
    ids=lambda entry: (entry.get("message_id"), entry.get("target_message_id")),
)
