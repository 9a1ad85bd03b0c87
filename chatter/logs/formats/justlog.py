"""justlog and rustlog, the programs behind logs.ivr.fi: text, and JSON.

github.com/gempir/justlog, api/server.go; github.com/boring-nick/rustlog, src/logs/schema
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chatter.logs.batch import SHARED, UNNAMED
from chatter.logs.format import CLOCK, NAME, DocumentFacts, JsonFormat, LineFormat, fill_row, has_keys, match_line
from chatter.logs.formats import irc
from chatter.logs.notices import ANY_NOTICE, OWN_NAME, OWN_NOTICE, PERHAPS_NOTICE, is_notice
from chatter.logs.shared_chat import is_shared
from chatter.logs.times import DATE, iso_time

if TYPE_CHECKING:
    import polars as pl

STAMP = rf"\[(?P<date>{DATE}) (?P<time>{CLOCK})\] #(?P<channel>\S+) "
# rustlog writes timeouts and bans like messages of the user, and begins their text with the user's name.
OWN_EVENT = rf"{OWN_NAME} has been (?:timed out for \d|banned\Z)|{OWN_NOTICE}"
MODERATED_TEXT = re.compile(r"(?P<name>\S+) has been (?P<kind>timed out|banned)")
MESSAGE, MODERATION, NOTICE = 1, 2, 4  # justlog's message types, from github.com/gempir/go-twitch-irc


def text_columns(words: Sequence[pl.Expr]) -> list[pl.Expr]:
    """Return the columns of `[date time] #channel user: message`."""
    date, time, channel, user, message = words
    return [
        date.str.slice(1),
        time.str.strip_suffix("]"),
        channel.str.strip_prefix("#"),
        user.str.strip_suffix(":"),
        message,
    ]


LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}(?P<username>{NAME}):(?: (?!{OWN_EVENT})(?P<message>.*))?"),
        ("timeouts", rf"{STAMP}(?P<username>{NAME})(?:: {NAME})? has been timed out for \d.*"),
        ("bans", rf"{STAMP}(?P<username>{NAME})(?:: {NAME})? has been banned"),
        ("bans", rf"{STAMP}"),  # newer versions of justlog write only this
        ("clears", rf"{STAMP}(?: has been banned|Chat has been cleared)"),
        ("notices", rf"{STAMP}(?:(?P<username>{NAME}): {OWN_NOTICE}|{ANY_NOTICE}).*"),
        (UNNAMED, rf"{STAMP}.+"),  # such as what users of newer versions of justlog typed with a subscription
    ],
    plain=rf"^{STAMP}{NAME}: ",
    example="[2024-03-07 21:05:09] #channel user: message",
    stamp=STAMP,
    columns=text_columns,
    unless=f"has been (?:timed|banned)|{PERHAPS_NOTICE}",
    stands_alone=True,
)


def typed_with(system: str, entry: Mapping[str, Any], name: str) -> str:
    """Return what the user `name` typed with an event that Twitch describes as `system`, or "" if nothing.

    An announcement has no such description. Older versions write it before the user's own text.
    """
    text, system = entry.get("text") or "", system.replace(r"\s", " ")
    if entry.get("systemText") or not system:
        return text
    if f"{text} ".startswith(f"{system} "):
        return text[len(system) + 1 :]
    return "" if is_notice(text, name, entry.get("displayName") or "") else text


def parse_logged(entry: Mapping[str, Any], facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of an entry. If it has raw IRC, that is used, as it is more complete."""
    when = iso_time(entry.get("timestamp") or "")
    if raw := entry.get("raw"):
        kind, row = fill_row(*match_line(raw, [irc.LINES]))
        return kind, row and [*(row[:2] if row[0] else when), *row[2:]]
    tags, text = entry.get("tags") or {}, entry.get("text") or ""
    channel = entry.get("channel") or facts.channel or str(tags.get("room-id") or "")
    name = entry.get("username") or tags.get("login") or entry.get("displayName") or ""
    message_type = entry.get("type")
    if message_type is None:  # rustlog leaves it out
        message_type = MODERATION if "target-user-id" in tags else NOTICE if "system-msg" in tags else MESSAGE
    if message_type == MODERATION:
        if found := MODERATED_TEXT.match(text):
            name = entry.get("username") or found["name"]
        if not name:
            return "clears", None
        return ("timeouts" if "ban-duration" in tags else "bans"), [*when, channel, name, ""]
    if message_type == NOTICE:
        text = typed_with(str(tags.get("system-msg") or ""), entry, name)
        if not text:
            return "notices", None
    elif "target-msg-id" in tags:
        return "deletions", None
    elif message_type != MESSAGE:
        return "unreadable lines", None
    elif text == "Chat has been cleared" and not name:
        return "clears", None
    if not name:
        return UNNAMED, None
    return SHARED if is_shared(tags) else "messages", [*when, channel, name, text]


JSON = JsonFormat(
    matches=has_keys({"raw", "displayName", "tags"}, {"text"}),
    parse=parse_logged,
    example='{"messages": [{"text": "", "displayName": "", "timestamp": "", "tags": {}}]}',
    has_login=lambda entry: bool(entry.get("raw") or entry.get("username")),
    ids=lambda entry: (entry.get("id"), (entry.get("tags") or {}).get("target-msg-id")),
)
