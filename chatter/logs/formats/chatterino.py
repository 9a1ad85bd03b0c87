"""Chatterino: `[21:05:09] user: message` below `# Start logging at ...`.

github.com/Chatterino/chatterino2, singletons/helper/LoggingChannel.cpp
"""

from __future__ import annotations

from chatter.logs.format import CLOCK, DATE, OWN_NAME, LineFormat

STAMP = (
    r"(?:#(?P<channel>\S+) )?"  # in logs of mentions
    r"\[(?P<time>[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,3})?)?(?: [AP]M)?)\] "
)
# 7TV emotes, rewards and actions of moderators, written like messages of the user.
OWN_ACTION = (
    rf"{OWN_NAME} (?:(?:added|removed|renamed) 7TV emote |redeemed .*\d\Z|timed out \S+ for \d|(?:un)?banned \S+[.:]|"
    r"untimedout \S+\.)"
)

LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}(?:[^\s:]* )?(?P<username>[A-Za-z0-9_]+):(?: (?!{OWN_ACTION})(?P<message>.*))?"),
        ("timeouts", rf"{STAMP}(?P<username>\S+) has been timed out for \d.*"),
        ("bans", rf"{STAMP}(?P<username>\S+) has been permanently banned\..*"),
        ("clears", rf"{STAMP}Chat has been cleared by .*"),
        ("deletions", rf"{STAMP}(?:A message from (?P<username>\S+) was deleted: (?P<message>.*))?"),
        ("lines of the program", rf"{STAMP}(?:(?:dis|re)?connected|joined channel)"),
        ("lines of the program", "# (?:Start|Stop) logging at .*"),
    ],
    others=("notices", rf"{STAMP}.+"),  # subscriptions, rewards, emotes, the day in the user's language
    plain=rf"^{STAMP}(?:[^\s:]* )?(?P<username>[A-Za-z0-9_]+): (?P<message>.*)$",
    unless=r" (?:added|removed|renamed) 7TV emote | redeemed | timed out | (?:un)?banned | untimedout ",
    moderation="has been (?:timed|permanently)",
    clock="local",
    session_start=rf"# Start logging at (?P<date>{DATE}) {CLOCK}(?: (?P<zone>[+-][0-9]{{4}}))?.*",
)
