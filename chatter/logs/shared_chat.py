"""Shared chats, in which several channels show each other's messages (dev.twitch.tv/docs/chat/irc, since 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOURCE = "source-room-id"  # the channel that a message was sent in; `room-id` is the channel that shows it


def is_shared(tags: str | Mapping[str, Any]) -> bool:
    """Return whether IRC tags say that a message was sent in another channel than the one that shows it.

    >>> is_shared("room-id=1;source-room-id=2"), is_shared({"room-id": "1", "source-room-id": "1"})
    (True, False)
    """
    if SOURCE not in tags:
        return False
    if isinstance(tags, str):
        tags = dict(tag.partition("=")[::2] for tag in tags.removeprefix("@").split(";"))
    source = str(tags.get(SOURCE) or "")
    return source not in ("", str(tags.get("room-id") or ""))
