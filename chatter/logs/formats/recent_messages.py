"""recent-messages: `{"messages": ["@historical=1;rm-received-ts=...", ...]}`, raw IRC in JSON.

github.com/robotty/recent-messages2, src/message_export.rs
"""

from __future__ import annotations

from typing import Any

from chatter.logs.format import DocumentFacts, JsonFormat, fill_row, match_line
from chatter.logs.formats import irc


def parse_irc(entry: str, facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of a line of raw IRC."""
    return fill_row(*match_line(entry, [irc.LINES]))


def is_irc(entry: Any) -> bool:
    return isinstance(entry, str) and match_line(entry, [irc.LINES])[0] is not None


JSON = JsonFormat(
    matches=is_irc,
    parse=parse_irc,
    example='{"messages": ["@historical=1 :user!user@user.tmi.twitch.tv PRIVMSG #channel :message"]}',
)
