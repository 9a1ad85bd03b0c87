"""Raw IRC as Twitch sends it, tags before each line (dev.twitch.tv/docs/chat/irc): its patterns and its clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

TAGS = r"@(?P<tags>\S*) +"
SENDER = r":(?P<username>[^\s!]+)\S*"
SERVER = r":(?:\S+\.)?twitch\.tv"
CLEARED = rf"{SERVER} CLEARCHAT #(?P<channel>\S+)"
TAGS_WITH_LOGIN = r"@(?P<tags>\S*(?<![^;@])login=(?P<username>[^;\s]+)\S*) +"
# A line without tags is taken for IRC only if it begins as no chatter would: ":D LUL nice" and "PING" are typed, too.
SOURCE = rf"(?:{SERVER}|:[^\s!]+![^\s@]+@\S+)"
OTHER_COMMAND = (
    rf"(?:@\S*=\S* +)?{SOURCE} (?:[A-Z]+|\d{{3}})(?: .*)?|@\S*=\S* +[A-Z]+(?: .*)?|P[IO]NG :\S+|PRIVMSG #\S+ :.*"
)
# When Twitch sent a line and when a logger received it, in milliseconds since 1970.
SENT, RECEIVED = r"(?:^@?|;)tmi-sent-ts=([0-9]{1,13})(?:;|$)", r"(?:^|;)rm-received-ts=([0-9]{1,13})(?:;|$)"
# (kind, pattern) pairs, as in a Dialect.
PATTERNS = [
    (
        "messages",
        rf"{TAGS}{SENDER} PRIVMSG #(?P<channel>\S+) :?\x01ACTION (?P<message>.*?)\x01?",
    ),
    ("messages", rf"{TAGS}{SENDER} PRIVMSG #(?P<channel>\S+) :?(?P<message>.*)"),
    ("messages", rf"{TAGS_WITH_LOGIN}:\S+ USERNOTICE #(?P<channel>\S+) :?(?P<message>.+)"),  # typed with a sub
    ("notices", rf"{TAGS}:\S+ USERNOTICE .*"),
    ("timeouts", rf"@(?P<tags>\S*(?<![^;@])ban-duration=\d\S*) +{CLEARED} :?(?P<username>\S+)"),
    ("bans", rf"(?:@(?P<tags>\S*) +)?{CLEARED} :?(?P<username>\S+)"),
    ("clears", rf"(?:@\S* +)?{CLEARED} ?"),
    ("deletions", rf"(?:@\S* +)?{SERVER} CLEARMSG .*"),
    ("messages", r"(?P<tags>):(?P<username>[^\s!]+)!\S+@\S+ PRIVMSG #(?P<channel>\S+) :?(?P<message>.*)"),
    ("other IRC commands", OTHER_COMMAND),
]
PLAIN = r"^@(?:[^;\s]+;)*tmi-sent-ts=[0-9]{13}(?:;[^;\s]+)* :[^\s!]+\S* PRIVMSG #\S+ :[^\x01]"


def irc_columns(words: Sequence[pl.Expr]) -> list[pl.Expr]:
    """Return the columns of `@tags :user!user@host PRIVMSG #channel :message`."""
    import polars as pl

    tags, sender, _, channel, message = words
    sent = pl.from_epoch(tags.str.extract(SENT).cast(pl.Int64), "ms")
    return [
        sent.dt.to_string("%Y-%m-%d"),
        sent.dt.to_string("%H:%M:%S"),
        channel.str.strip_prefix("#"),
        sender.str.strip_prefix(":").str.splitn("!", 2).struct.field("field_0"),
        message.str.strip_prefix(":"),
    ]


def irc_time(tags: str) -> list[str] | None:
    """Return date and time (UTC) from IRC tags: when Twitch sent the line, else when the logger received it.

    >>> irc_time("id=1;tmi-sent-ts=1709845509000")
    ['2024-03-07', '21:05:09']
    """
    stamp = re.search(SENT, tags) or re.search(RECEIVED, tags)
    return stamp and f"{datetime.fromtimestamp(int(stamp[1]) / 1000, UTC):%Y-%m-%d %H:%M:%S}".split()
