"""The forms of lines: what a message looks like in each, and the things that nobody typed.

A new form is a new entry in DIALECTS and a file in tests/golden. The forms are those of the programs that write them:

    justlog, rustlog      github.com/gempir/justlog, github.com/boring-nick/rustlog
    raw IRC               dev.twitch.tv/docs/chat/irc
    OverRustle            github.com/MemeLabs/overrustlelogs, logger/chatlog.go
    TwitchDownloader      github.com/lay295/TwitchDownloader, Chat/ChatText.cs
    tcd                   github.com/PetterKraabol/Twitch-Chat-Downloader, pipe.py; TheDrHax's fork, subtitles.py
    Chatty                github.com/chatty/chatty, util/chatlog
    Chatterino            github.com/Chatterino/chatterino2, singletons/helper/LoggingChannel.cpp
    chat-downloader       github.com/xenova/chat-downloader, formatting/custom_formats.json
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from chatter import irc

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

FIELDS = ["date", "time", "channel", "username", "message"]


@dataclass(frozen=True)
class Dialect:
    """A form of lines, as patterns of `re` that decide and, for speed, as a plain case that polars can handle."""

    # (kind, pattern) pairs. The first pattern that matches a whole line gives its kind. A pattern for messages has the
    # groups of FIELDS, as far as the lines say them, or `tags` (of IRC) in place of date and time.
    patterns: Sequence[tuple[str, str]]
    # Most lines are messages that match this pattern, and not the one in `unless`. It has the same groups, or `columns`
    # gives all FIELDS in order, from the first four words of the line and the rest of it.
    plain: str
    columns: Callable[[Sequence[pl.Expr]], list[pl.Expr]] | None = None
    unless: str | None = None
    # What the lines are that no dialect of the file knows, if they have the stamp: (kind, pattern).
    others: tuple[str, str] | None = None
    # Matches in every line about a timeout or a ban, and in few others; None if the form has no such lines.
    moderation: str | None = None
    # Whether its lines say the day and differ from those of all other forms, so that a file may mix them with others.
    stands_alone: bool = False
    clock: str = "UTC"  # of its times; "local"; or "offset", from the start of the video
    head: str | None = None  # the line that begins a session, with the groups `date` and, if it has one, `zone` (+0100)
    rolls_over: bool = False  # whether a session goes on after midnight with no word about the new day
    display_names: bool = False  # whether users have their display names, which may differ from their logins
    on_request: bool = False  # whether it is used only if --form names it, since its lines look like anything

    @property
    def has_moderation(self) -> bool:
        return self.moderation is not None

    @cached_property
    def compiled(self) -> list[tuple[str, re.Pattern]]:
        return [(kind, re.compile(pattern, re.ASCII | re.DOTALL)) for kind, pattern in self.patterns]

    @cached_property
    def compiled_others(self) -> list[tuple[str, re.Pattern]]:
        return [(kind, re.compile(pattern, re.ASCII | re.DOTALL)) for kind, pattern in filter(None, [self.others])]


DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])"
CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
NAME = r"[^\s:]+"  # names contain no blank and no colon, so "user: @x has been banned" is a message
PUNCTUATION = r"!-/:;=?@\[-^`{-~"
# A name behind the marks of a moderator, a subscriber, ...: punctuation that no name begins with.
MARKED_NAME = rf"[{PUNCTUATION}]*(?P<username>[^\s<>{PUNCTUATION}][^\s<>()]*)"

# Stamps, which begin a line.
CHANNEL = rf"\[(?P<date>{DATE}) (?P<time>{CLOCK})\] #(?P<channel>\S+) "
UTC = rf"\[(?P<date>{DATE}) (?P<time>{CLOCK})(?:\.[0-9]{{1,9}})? UTC\] "
RELATIVE = r"\[(?P<time>(?:[0-9]|[1-9][0-9]+):[0-5][0-9]:[0-5][0-9])\] "
TCD = (
    r"\[(?P<time>(?:[1-9][0-9]* days?, )?(?:(?:[0-9]|[1-9][0-9]+):[0-5][0-9]:[0-5][0-9]|"
    r"[0-9]+:[0-5][0-9]:[0-5][0-9],[0-9]{1,3}))\] "
)
CHATTY = rf"\[(?:(?P<date>{DATE}) )?(?P<time>{CLOCK})\] "
CHATTERINO = (
    r"(?:#(?P<channel>\S+) )?"  # in logs of mentions
    r"\[(?P<time>[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,3})?)?(?: [AP]M)?)\] "
)
CHAT_DOWNLOADER = (
    rf"\[?(?:(?P<date>{DATE}) )?(?P<time>-?(?:[0-9]+:)?[0-9]{{1,2}}:[0-5][0-9])(?:\] | \| (?:\([^()]*\) )?)"
)

# rustlog and exports of videos write events like messages of the user, whose text begins with the user's own name. A
# display name that is not in Latin letters differs from the login before it.
OWN_NAME = r"(?iu:(?P=username))"
NOTICE_WORDS = (
    "(?:subscribed (?:at|with) |gifted a |is gifting [0-9]|converted from |is continuing the |is paying forward |"
    "watched [0-9])"
)
OWN_NOTICE = rf"\d+ raiders from {OWN_NAME} have joined!|(?:{OWN_NAME}|\S*[^\0-\x7f]\S*) {NOTICE_WORDS}"
OWN_EVENT = rf"{OWN_NAME} has been (?:timed out for \d|banned\Z)|{OWN_NOTICE}"
PERHAPS_NOTICE = f"have joined!|{NOTICE_WORDS}"
# Chatterino's: emotes of 7TV, rewards, and what a moderator did.
OWN_ACTION = (
    rf"{OWN_NAME} (?:(?:added|removed|renamed) 7TV emote |redeemed .*\d\Z|timed out \S+ for \d|(?:un)?banned \S+[.:]|"
    r"untimedout \S+\.)"
)
MODERATED = "has been (?:timed|banned)"


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


def video_lines(stamp: str) -> dict[str, Any]:
    """Return the patterns of `user: message`, where events look like messages of the user, behind a stamp."""
    return {
        "patterns": [
            ("messages", rf"{stamp}(?P<username>{NAME}):(?: (?!{OWN_NOTICE})(?P<message>.*))?"),
            ("notices", rf"{stamp}{NAME}: .*"),
        ],
        "plain": rf"^{stamp}(?P<username>{NAME}): (?P<message>.*)$",
        "unless": PERHAPS_NOTICE,
    }


DIALECTS = {
    "justlog and rustlog": Dialect(
        patterns=[
            ("messages", rf"{CHANNEL}(?!ananonymousgifter:)(?P<username>{NAME}):(?: (?!{OWN_EVENT})(?P<message>.*))?"),
            ("timeouts", rf"{CHANNEL}(?P<username>{NAME})(?:: {NAME})? has been timed out for \d.*"),
            ("bans", rf"{CHANNEL}(?P<username>{NAME})(?:: {NAME})? has been banned"),
            ("bans", rf"{CHANNEL}"),  # newer versions of justlog write no more than this
            ("clears", rf"{CHANNEL}(?: has been banned|Chat has been cleared)"),
            ("notices", rf"{CHANNEL}.+"),  # subscriptions, gifts, raids
        ],
        plain=rf"^{CHANNEL}{NAME}: ",
        columns=text_columns,
        unless=f"ananonymousgifter|{MODERATED}|{PERHAPS_NOTICE}",
        moderation=MODERATED,
        stands_alone=True,
    ),
    "raw IRC": Dialect(
        patterns=irc.PATTERNS,
        plain=irc.PLAIN,
        columns=irc.irc_columns,
        moderation="CLEARCHAT",
        stands_alone=True,
    ),
    "OverRustle": Dialect(
        patterns=[
            ("messages", rf"{UTC}twitchnotify: (?P<username>\S+) .*? \[SubMessage\]: (?P<message>.+)"),
            ("notices", rf"{UTC}twitchnotify: .*"),
            ("messages", rf"{UTC}(?P<username>[a-z0-9_]+):(?: (?:/me )?(?P<message>.*))?"),
        ],
        plain=rf"^{UTC}(?P<username>[a-z0-9_]+): (?P<message>.*)$",
        unless=r"UTC\] twitchnotify: |: /me ",
        stands_alone=True,
    ),
    "TwitchDownloader (UTC)": Dialect(
        **video_lines(UTC),
        stands_alone=True,
        display_names=True,
    ),
    "TwitchDownloader (relative)": Dialect(
        **video_lines(RELATIVE),
        clock="offset",
        display_names=True,
    ),
    "tcd": Dialect(
        patterns=[
            ("messages", rf"{TCD}<{MARKED_NAME} ?>(?: (?!{OWN_NOTICE})(?P<message>.*))?"),
            ("notices", rf"{TCD}<[^<>]+> .*"),
            ("messages", rf"{TCD}\*(?P<username>\S+) (?P<message>.*)\]"),  # /me, with a bracket too many
        ],
        plain=rf"^{TCD}<{MARKED_NAME} ?> (?P<message>.*)$",
        unless=PERHAPS_NOTICE,
        clock="offset",
        display_names=True,
    ),
    "Chatty": Dialect(
        patterns=[
            ("messages", rf"{CHATTY}<[^<>()]* \((?P<username>\w+)\)>\*?(?: (?P<message>.*))?"),
            ("messages", rf"{CHATTY}<{MARKED_NAME}>\*?(?: (?P<message>.*))?"),
            ("timeouts", rf"{CHATTY}BAN: (?P<people>\S+ \(\d+s\).*)"),
            ("bans", rf"{CHATTY}BAN: (?P<people>\S.*)"),
            ("deletions", rf"{CHATTY}DELETED: .*"),
            (
                "messages",
                rf"{CHATTY}\[Notification\] (?P<username>\S+) (?:just )?subscribed[^\[]*! \[(?P<message>.+)\]",
            ),
            ("notices", rf"{CHATTY}(?:\[Notification\]|BITS:) .*"),
            ("lines of the program", "# Log (?:started|closed): .*"),
            ("blank lines", "-"),  # between sessions
        ],
        others=("lines of the program", rf"{CHATTY}.*"),
        plain=rf"^{CHATTY}<{MARKED_NAME}> (?P<message>.*)$",
        moderation="BAN: ",
        clock="local",
        head=rf"# Log started: (?P<date>{DATE}) {CLOCK}(?: (?P<zone>[+-][0-9]{{4}}))?.*",
        rolls_over=True,
        display_names=True,
    ),
    "chat-downloader": Dialect(
        patterns=[("messages", rf"{CHAT_DOWNLOADER}(?P<username>{NAME}):(?: (?P<message>.*))?")],
        plain=rf"^{CHAT_DOWNLOADER}(?P<username>{NAME}): (?P<message>.*)$",
        clock="offset",
        display_names=True,
    ),
    "Chatterino": Dialect(
        patterns=[
            (
                "messages",
                rf"{CHATTERINO}(?:[^\s:]* )?(?P<username>[A-Za-z0-9_]+):(?: (?!{OWN_ACTION})(?P<message>.*))?",
            ),
            ("timeouts", rf"{CHATTERINO}(?P<username>\S+) has been timed out for \d.*"),
            ("bans", rf"{CHATTERINO}(?P<username>\S+) has been permanently banned\..*"),
            ("clears", rf"{CHATTERINO}Chat has been cleared by .*"),
            ("deletions", rf"{CHATTERINO}(?:A message from .* was deleted: .*)?"),
            ("lines of the program", rf"{CHATTERINO}(?:(?:dis|re)?connected|joined channel)"),
            ("lines of the program", "# (?:Start|Stop) logging at .*"),
        ],
        others=("notices", rf"{CHATTERINO}.+"),  # subscriptions, rewards, emotes, the day in the user's language
        plain=rf"^{CHATTERINO}(?:[^\s:]* )?(?P<username>[A-Za-z0-9_]+): (?P<message>.*)$",
        unless=r" (?:added|removed|renamed) 7TV emote | redeemed | timed out | (?:un)?banned | untimedout ",
        moderation="has been (?:timed|permanently)",
        clock="local",
        head=rf"# Start logging at (?P<date>{DATE}) {CLOCK}(?: (?P<zone>[+-][0-9]{{4}}))?.*",
    ),
    "bare": Dialect(
        **video_lines(""),
        display_names=True,
        on_request=True,
    ),
}
