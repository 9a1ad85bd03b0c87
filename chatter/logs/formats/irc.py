"""Raw IRC as Twitch sends it, with tags before each line (dev.twitch.tv/docs/chat/irc)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatter.logs.format import LineFormat
from chatter.logs.times import SENT

if TYPE_CHECKING:
    import polars as pl

TAGS = r"@(?P<tags>\S*) +"
SENDER = r":(?P<username>[^\s!]++)\S*"
SERVER = r":(?:\S+\.)?twitch\.tv"
CLEARED = rf"{SERVER} CLEARCHAT #(?P<channel>\S+)"
TAG = r"(?=@(?:[^;\s]*;)*"  # looks for one of the tags, which follows
TAGS_WITH_LOGIN = rf"{TAG}login=(?P<username>[^;\s]+)){TAGS}"
# A line without tags counts as IRC only if nobody would type it: people do type ":D LUL nice" and "PING".
SOURCE = rf"(?:{SERVER}|:[^\s!]+![^\s@]+@\S+)"
OTHER_COMMAND = (
    rf"(?:@[^\s=]*=\S* +)?{SOURCE} (?:[A-Z]+|\d{{3}})(?: .*)?|@[^\s=]*=\S* +[A-Z]+(?: .*)?|"
    r"P[IO]NG :\S+|PRIVMSG #\S+ :.*"
)


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


LINES = LineFormat(
    patterns=[
        ("messages", rf"{TAGS}{SENDER} PRIVMSG #(?P<channel>\S+) :?\x01ACTION (?P<message>.*?)\x01?"),
        ("messages", rf"{TAGS}{SENDER} PRIVMSG #(?P<channel>\S+) :?(?P<message>.*)"),
        ("messages", rf"{TAGS_WITH_LOGIN}:\S+ USERNOTICE #(?P<channel>\S+) :?(?P<message>.+)"),  # typed with a sub
        ("notices", rf"{TAGS}:\S+ USERNOTICE .*"),
        ("timeouts", rf"{TAG}ban-duration=\d){TAGS}{CLEARED} :?(?P<username>\S+)"),
        ("bans", rf"(?:@(?P<tags>\S*) +)?{CLEARED} :?(?P<username>\S+)"),
        ("clears", rf"(?:@\S* +)?{CLEARED} ?"),
        ("deletions", rf"{TAGS_WITH_LOGIN}{SERVER} CLEARMSG #(?P<channel>\S+) :?(?P<message>.*)"),
        ("deletions", rf"(?:@\S* +)?{SERVER} CLEARMSG .*"),
        ("messages", r"(?P<tags>):(?P<username>[^\s!]+)!\S[^\s@]*@\S+ PRIVMSG #(?P<channel>\S+) :?(?P<message>.*)"),
        ("other IRC commands", OTHER_COMMAND),
    ],
    plain=r"^@(?:[^;\s]+;)*tmi-sent-ts=[0-9]{13}(?:;[^;\s]+)* :[^\s!]+\S* PRIVMSG #\S+ :[^\x01]",
    columns=irc_columns,
    moderation="CLEARCHAT|CLEARMSG",
    stands_alone=True,
)
