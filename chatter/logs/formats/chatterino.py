"""Chatterino: `[21:05:09] user: message` below `# Start logging at ...`.

github.com/Chatterino/chatterino2, singletons/helper/LoggingChannel.cpp
"""

from __future__ import annotations

from chatter.logs.batch import EMPTY
from chatter.logs.format import CLOCK, LineFormat
from chatter.logs.notices import OWN_NAME
from chatter.logs.times import DATE

STAMP = (
    r"(?:#(?P<channel>\S{1,50}) )?"  # in logs of mentions
    r"\[(?P<time>[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,3})?)?(?: [AP]M)?)\] "
)
LOGIN = r"(?P<username>[A-Za-z0-9_]+):"
# Before the login stands a display name in another script, or nothing, as in 2.2.0 to 2.4.4. Nightly versions of 2.4.4
# wrote the name twice, with a nickname of any words in its first place, and two blanks if the display name is the login
# (github.com/Chatterino/chatterino2/issues/4697).
NAME_AND_LOGIN = rf"(?:(?:[^\s:]*|[^:]*\S +) )?{LOGIN}"
# Sentences of the program may end in a word and a colon, too: "X is live: a title", "X banned Y: a reason".
NO_SENTENCE = (
    r"(?![^:]* (?:is|are|was|were|has|have|been|banned|unbanned|timed|warned|deleted|added|removed|renamed|changed|"
    r"redeemed|started|failed)[ :])"
)
NICKNAME_AND_LOGIN = rf"{NO_SENTENCE}(?:[^\s:]+ ){{2,}}{LOGIN}"
# 7TV emotes, rewards and actions of moderators, written like messages of the user.
OWN_ACTION = (
    rf"{OWN_NAME} (?:(?:added|removed|renamed) 7TV emote |redeemed .*\d\Z|timed out \S+(?: for \d|\Z)|"
    r"(?:un)?banned \S+[.:]|untimedout \S+\.)"
)
MODERATOR = r"(?:(?P<moderator>[A-Za-z0-9_]+): (?iu:(?P=moderator))|[A-Za-z0-9_]+)"

LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}{NAME_AND_LOGIN}(?: (?!{OWN_ACTION})(?P<message>.*))?"),
        ("timeouts", rf"{STAMP}(?P<username>\S+) has been timed out for \d.*"),
        ("bans", rf"{STAMP}(?P<username>\S+) has been permanently banned\..*"),
        ("clears", rf"{STAMP}Chat has been cleared by .*"),
        ("deletions", rf"{STAMP}A message from (?P<username>\S+) was deleted: (?P<message>.*)"),
        (EMPTY, STAMP),  # of the tab /live, whose lines have no text, and of deletions in some versions
        ("lines of the program", rf"{STAMP}(?:(?:dis|re)?connected|joined channel)"),
        ("messages", rf"{STAMP}{NICKNAME_AND_LOGIN}(?: (?!{OWN_ACTION})(?P<message>.*))?"),
        ("lines of the program", "# (?:Start|Stop) logging at .*"),
    ],
    # Subscriptions, rewards, emotes, the day in the user's language; but not `<user> message` of other programs.
    others=("notices", rf"{STAMP}(?!<|\* ).+"),
    plain=rf"^{STAMP}(?:[^\s:]* )?{LOGIN} (?P<message>.*)$",
    example="[21:05:09] user: message",
    stamp=STAMP,
    unless=r" (?:added|removed|renamed) 7TV emote | redeemed | timed out | (?:un)?banned | untimedout ",
    actions=[
        ("timeouts", rf"{STAMP}{MODERATOR} timed out (?P<username>[^\s.]+)(?: for \d.*|\.?)"),
        ("bans", rf"{STAMP}{MODERATOR} banned (?P<username>[^\s.:]+)[.:].*"),
        ("deletions", rf"{STAMP}{MODERATOR} deleted (?:a )?message from (?P<username>\w+)\b.*"),
    ],
    clock="local",
    session_start=rf"# Start logging at (?P<date>{DATE}) {CLOCK}(?: (?P<zone>[+-][0-9]{{4}}))?.*",
)
