"""Kick: `{"data": {"messages": [{"content": ..., "type": "message", "sender": {"username": ..., "slug": ...}}]}}`.

This is what kick.com/api/v2/channels/ID/messages answers; the events of the chat have the same objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chatter.logs.batch import EMPTY, UNNAMED
from chatter.logs.format import DocumentFacts, JsonFormat
from chatter.logs.times import iso_time

CHAT_TYPES = ("message", "reply")
EMOTE = re.compile(r"\[emote:\d+:([^\]\s:]+)\]")  # the user chose or typed its name


def parse_message(entry: Mapping[str, Any], facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of a message, with the user's name in addresses."""
    sender, text = entry["sender"] or {}, entry.get("content") or ""
    name, slug = sender.get("username") or "", sender.get("slug") or ""
    if entry.get("type", "message") not in CHAT_TYPES:
        return "notices", None
    if not (name or slug):
        return UNNAMED, None
    if not text:
        return EMPTY, None
    when = iso_time(entry.get("created_at") or "")
    return "messages", [*when, facts.channel, name or slug, EMOTE.sub(r"\1", text), slug]


def is_message(entry: Any) -> bool:
    if not isinstance(entry, dict) or "content" not in entry or not isinstance(sender := entry.get("sender"), dict):
        return False
    return "slug" in sender or not entry.keys().isdisjoint({"chatroom_id", "chat_id"})


JSON = JsonFormat(
    matches=is_message,
    parse=parse_message,
    example='{"data": {"messages": [{"content": "", "type": "", "sender": {"username": "", "slug": ""}}]}}',
    has_moderation=False,
)
