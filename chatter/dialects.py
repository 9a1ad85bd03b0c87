"""The forms of log lines, and what each line is: a message, or one of the things that nobody typed.

The forms are those of two loggers, justlog (github.com/gempir/justlog) and rustlog (github.com/boring-nick/rustlog),
and of IRC itself (dev.twitch.tv/docs/chat/irc). A new form is a new entry in DIALECTS and a file in tests/golden.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

FIELDS = ["date", "time", "channel", "username", "message"]


@dataclass(frozen=True)
class Dialect:
    """A form of log lines, as patterns of `re` that decide and, for speed, as a plain case that polars can handle."""

    # (kind, pattern) pairs. The first pattern that matches a whole line gives its kind. A pattern for messages has the
    # groups of FIELDS, or `tags` (of IRC) in place of date and time.
    patterns: Sequence[tuple[str, str]]
    # Most lines are messages that match this pattern, and not the one in `unless`.
    plain: str
    # The columns of such a line, in the order of FIELDS, from its first four words and the rest of it.
    columns: Callable[[Sequence[pl.Expr]], list[pl.Expr]]
    moderation: str  # matches in every line about a timeout or a ban, and in few others
    unless: str | None = None


# The beginning of a line of text. Names contain no blank and no colon, so "user: @x has been banned" is a message.
STAMP = (
    r"\[(?P<date>[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])) "
    r"(?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])\] #(?P<channel>\S+) "
)
NAME = r"[^\s:]+"
# rustlog writes events like messages of the user, whose text begins with the user's own name. A display name that is
# not in Latin letters differs from the login before it.
OWN_NAME = r"(?iu:(?P=username))"
NOTICE_WORDS = (
    "(?:subscribed (?:at|with) |gifted a |is gifting [0-9]|converted from |is continuing the |is paying forward |"
    "watched [0-9])"
)
OWN_EVENT = (
    rf"{OWN_NAME} has been (?:timed out for \d|banned\Z)|\d+ raiders from {OWN_NAME} have joined!|"
    rf"(?:{OWN_NAME}|\S*[^\0-\x7f]\S*) {NOTICE_WORDS}"
)
MODERATED = "has been (?:timed|banned)"

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


DIALECTS = {
    "text": Dialect(
        patterns=[
            ("messages", rf"{STAMP}(?!ananonymousgifter:)(?P<username>{NAME}):(?: (?!{OWN_EVENT})(?P<message>.*))?"),
            ("timeouts", rf"{STAMP}(?P<username>{NAME})(?:: {NAME})? has been timed out for \d.*"),
            ("bans", rf"{STAMP}(?P<username>{NAME})(?:: {NAME})? has been banned"),
            ("bans", rf"{STAMP}"),  # newer versions of justlog write no more than this
            ("clears", rf"{STAMP}(?: has been banned|Chat has been cleared)"),
            ("notices", rf"{STAMP}.+"),  # subscriptions, gifts, raids
        ],
        plain=rf"^{STAMP}{NAME}: ",
        columns=text_columns,
        moderation=MODERATED,
        unless=f"ananonymousgifter|{MODERATED}|have joined!|{NOTICE_WORDS}",
    ),
    "raw IRC": Dialect(
        patterns=[
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
        ],
        plain=r"^@(?:[^;\s]+;)*tmi-sent-ts=[0-9]{13}(?:;[^;\s]+)* :[^\s!]+\S* PRIVMSG #\S+ :[^\x01]",
        columns=irc_columns,
        moderation="CLEARCHAT",
    ),
}
PATTERNS = [
    (kind, re.compile(pattern, re.ASCII | re.DOTALL))
    for dialect in DIALECTS.values()
    for kind, pattern in dialect.patterns
]
UNTIMED = "messages without a time"
KINDS = [*dict.fromkeys(kind for kind, _ in PATTERNS), UNTIMED, "blank lines", "unreadable lines"]


def parse_line(line: str) -> tuple[str, list[str] | None]:
    """Return the kind of a line and, for a message, a timeout or a ban that says who, its CSV row.

    IRC without tags does not say when: its messages are of the kind UNTIMED, their date and time are empty.

    >>> parse_line("[2024-03-7 21:05:09] #channel user: hi: you")
    ('messages', ['2024-03-07', '21:05:09', 'channel', 'user', 'hi: you'])
    >>> parse_line("[2024-03-7 21:05:11] #channel user has been banned")
    ('bans', ['2024-03-07', '21:05:11', 'channel', 'user', ''])
    """
    for kind, pattern in PATTERNS:  # noqa: B007 (kind is used below)
        found = pattern.fullmatch(line)
        if found:
            break
    else:
        return ("unreadable lines" if line.strip() else "blank lines"), None
    fields = found.groupdict()
    if "username" not in fields:
        return kind, None
    if "date" in fields:
        year_and_month, day = fields["date"][:8], fields["date"][8:]
        stamp = [f"{year_and_month}{day:0>2}", fields["time"]]
    else:
        stamp = irc_time(fields["tags"] or "")
        if stamp is None and kind != "messages":
            return kind, None
        kind, stamp = (kind, stamp) if stamp else (UNTIMED, ["", ""])
    return kind, [*stamp, fields["channel"], fields["username"], fields.get("message") or ""]


def irc_time(tags: str) -> list[str] | None:
    """Return date and time (UTC) from IRC tags: when Twitch sent the line, else when the logger received it.

    >>> irc_time("id=1;tmi-sent-ts=1709845509000")
    ['2024-03-07', '21:05:09']
    """
    stamp = re.search(SENT, tags) or re.search(RECEIVED, tags)
    return stamp and f"{datetime.fromtimestamp(int(stamp[1]) / 1000, UTC):%Y-%m-%d %H:%M:%S}".split()


def parse_lines(lines: pl.Series, first: int = 0) -> tuple[pl.DataFrame, Counter, list[int]]:
    """Parse lines numbered from `first` on, with the same result as `parse_line` on each.

    Return the messages (columns `number`, of the line, and FIELDS), the number of lines of each kind, and the numbers
    of the unreadable lines.
    """
    import polars as pl

    line = pl.col("line")
    words = [pl.col("words").struct.field(f"field_{number}") for number in range(5)]
    rest = lines.to_frame().with_row_index("number", first)
    messages = pl.DataFrame(schema={"number": pl.UInt32} | dict.fromkeys(FIELDS, pl.String))
    for dialect in DIALECTS.values():
        is_plain = line.str.contains(dialect.plain)
        if dialect.unless:
            is_plain &= ~line.str.contains(dialect.unless)
        rest = rest.with_columns(plain=is_plain)
        plain = rest.filter("plain").select("number", words=line.str.splitn(" ", 5))
        messages = messages.vstack(plain.select("number", **dict(zip(FIELDS, dialect.columns(words), strict=True))))
        rest = rest.filter(~pl.col("plain"))
    padded = {date: f"{date[:8]}{date[8:]:0>2}" for date in messages["date"].unique()}
    messages = messages.with_columns(pl.col("date").replace(padded))
    counts, rows, unreadable = Counter(messages=len(messages)), [], []
    for number, text in rest.select("number", "line").iter_rows():
        kind, row = parse_line(text)
        counts[kind] += 1
        if kind == "messages":
            rows.append([number, *row])
        elif kind == "unreadable lines":
            unreadable.append(number)
    if rows:
        messages = messages.vstack(pl.DataFrame(rows, messages.schema, orient="row"))
    return (messages if messages["number"].is_sorted() else messages.sort("number")), counts, unreadable
