"""TwitchDownloader: text with UTC or relative times, and JSON, which Twitch's API v5 and twitch-dl write as well.

github.com/lay295/TwitchDownloader, Chat/ChatText.cs and TwitchObjects/ChatRoot.cs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatter.logs.batch import EMPTY, UNNAMED
from chatter.logs.format import (
    UTC_STAMP,
    DocumentFacts,
    JsonFormat,
    LineFormat,
    has_keys,
    read_offset,
    user_message_lines,
)
from chatter.logs.notices import is_notice
from chatter.logs.times import iso_time, offset_time

RELATIVE_STAMP = r"\[(?P<time>(?:[0-9]|[1-9][0-9]{1,3}):[0-5][0-9]:[0-5][0-9])\] "

UTC_LINES = LineFormat(
    **user_message_lines(UTC_STAMP),
    example="[2024-03-07 21:05:09 UTC] User: message",
    stands_alone=True,
    display_names=True,
)
RELATIVE_LINES = LineFormat(
    **user_message_lines(RELATIVE_STAMP), example="[0:05:09] User: message", clock="offset", display_names=True
)


def parse_comment(entry: Mapping[str, Any], facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of a comment. twitch-dl's keys are in camel case."""
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


def find_broadcaster(entry: Mapping[str, Any]) -> str | None:
    """Return the author of a comment if their badge says that they are the streamer, or else None."""
    try:
        badges = entry["message"]["user_badges"]
        return entry["commenter"]["name"] if any(badge["_id"] == "broadcaster" for badge in badges) else None
    except (KeyError, TypeError):
        return None


JSON = JsonFormat(
    matches=has_keys({"commenter", "content_offset_seconds", "contentOffsetSeconds"}),
    parse=parse_comment,
    example='{"comments": [{"created_at": "", "commenter": {"name": ""}, "message": {"body": ""}}]}',
    has_moderation=False,
    ids=lambda entry: (entry.get("_id") or entry.get("id"), ""),
)
