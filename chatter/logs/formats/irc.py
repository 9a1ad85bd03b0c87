"""Raw IRC as Twitch sends it, mostly with tags before each line (dev.twitch.tv/docs/chat/irc)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chatter.logs.batch import UNNAMED
from chatter.logs.format import LineFormat
from chatter.logs.times import SENT

if TYPE_CHECKING:
    import polars as pl

# What a program that logs IRC may write before each line: its own stamp, such as `2024-03-07_21:05:09 - ` or
# `[Thu Mar 7 21:05:09 2024] INFO > `. Its time is not read, as its time zone is unknown.
WORD = r"[\[(<]?(?:[+-]?[0-9](?:[0-9TZ.,:/_+-]|/[A-Z][a-z]{2}/)*|[A-Z][a-z]{2}|DEBUG|INFO|UTC|GMT|[AP]M)[\])>]?:?"
STAMP = rf"(?:{WORD}(?: {{1,2}}{WORD}){{0,7}}(?: ?[^\w\s@:]{{1,3}})?\s+)?"
TAGS = r"@(?P<tags>\S*) +"
SENDER = r":(?P<username>[^\s!]++)\S*"
SENDER_AND_HOST = r":(?P<username>[^\s!]+)![^\s@]+@\S+"
SERVER = r":(?:\S+\.)?twitch\.tv"
CLEARED = rf"{SERVER} CLEARCHAT #(?P<channel>\S+)"
TAG = r"(?=@(?:[^;\s]*;)*"  # looks ahead for a tag, whose pattern follows
TAGS_WITH_LOGIN = rf"{TAG}login=(?P<username>[^;\s]+)){TAGS}"
# The id of a message, and the id of the message that a line is about.
MESSAGE_ID, DELETED_ID = (rf"^(?:[^@]*\s)?@(?:\S*;)?{name}=([^;\s]+)" for name in ("id", "target-msg-id"))
# A line without tags counts as IRC only if nobody would type it: people do type ":D LUL nice" and "PING".
SOURCE = rf"(?:{SERVER}|:[^\s!]+![^\s@]+@\S+)"
OTHER_COMMAND = (
    rf"(?:@[^\s=]*=\S* +)?{SOURCE} (?:[A-Z]+|\d{{3}})(?: .*)?|@[^\s=]*=\S* +[A-Z]+(?: .*)?|"
    r"P[IO]NG :\S+|PRIVMSG #\S+ :.*"
)
TEXT, ACTION = r":?(?P<message>.*)", r":?\x01ACTION (?P<message>.*?)\x01?"


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


COMMANDS = [
    ("messages", rf"{TAGS}{SENDER} PRIVMSG #(?P<channel>\S+) {ACTION}"),
    ("messages", rf"{TAGS}{SENDER} PRIVMSG #(?P<channel>\S+) {TEXT}"),
    ("messages", rf"{TAGS_WITH_LOGIN}:\S+ USERNOTICE #(?P<channel>\S+) :?(?P<message>.+)"),  # typed with a sub
    ("notices", rf"{TAGS}:\S+ USERNOTICE #\S+ ?:?"),
    (UNNAMED, rf"{TAGS}:\S+ USERNOTICE .*"),
    ("timeouts", rf"{TAG}ban-duration=\d){TAGS}{CLEARED} :?(?P<username>\S+)"),
    ("bans", rf"(?:@(?P<tags>\S*) +)?{CLEARED} :?(?P<username>\S+)"),
    ("clears", rf"(?:@(?P<tags>\S*) +)?{CLEARED} ?"),
    ("deletions", rf"{TAGS_WITH_LOGIN}{SERVER} CLEARMSG #(?P<channel>\S+) :?(?P<message>.*)"),
    ("deletions", rf"(?:@(?P<tags>\S*) +)?{SERVER} CLEARMSG #(?P<channel>\S+) :?(?P<message>.*)"),
    ("deletions", rf"(?:@\S* +)?{SERVER} CLEARMSG .*"),
    ("messages", rf"{SENDER_AND_HOST} PRIVMSG #(?P<channel>\S+) {ACTION}"),
    ("messages", rf"{SENDER_AND_HOST} PRIVMSG #(?P<channel>\S+) {TEXT}"),
    ("other IRC commands", OTHER_COMMAND),
]
LINES = LineFormat(
    patterns=[(kind, f"{STAMP}(?:{command})") for kind, command in COMMANDS],
    plain=r"^@(?:[^;\s]+;)*tmi-sent-ts=[0-9]{13}(?:;[^;\s]+)* :[^\s!]+\S* PRIVMSG #\S+ :[^\x01]",
    example="@tmi-sent-ts=1709845509000 :user!user@user.tmi.twitch.tv PRIVMSG #channel :message",
    columns=irc_columns,
    unless="source-room-id=",
    stands_alone=True,
)
