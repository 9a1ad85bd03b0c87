"""Chatty: `[21:05:09] <@User> message` below `# Log started: ...` (github.com/chatty/chatty, util/chatlog)."""

from __future__ import annotations

import re

from chatter.logs.format import CLOCK, MARKED_NAME, LineFormat
from chatter.logs.times import DATE

STAMP = rf"\[(?:(?P<date>{DATE}) )?(?P<time>{CLOCK})\] "
# A line about several timeouts and bans: a (600s), b [reason] {age}
MODERATED_USER = re.compile(r"([^\s,()]+)(?: \((\d+)s\))?")
REASON_BEGINS, REASON_ENDS = re.compile(r" [\[{]"), re.compile(r"[\]}](?=[, ]|$)")


def remove_reasons(users: str) -> str:
    """Remove each [reason] and {age}, which may contain anything, from a line about timeouts and bans."""
    ends = {"]": [], "}": []}  # in reverse, so that pop() gives the next one
    for found in reversed([*REASON_ENDS.finditer(users)]):
        ends[found[0]].append(found.end())
    kept, position = [], 0
    for found in REASON_BEGINS.finditer(users):
        of_kind = ends["]" if found[0] == " [" else "}"]
        while of_kind and of_kind[-1] <= max(found.end(), position):
            of_kind.pop()
        if of_kind and found.start() >= position:
            kept.append(users[position : found.start()])
            position = of_kind.pop()
    return "".join([*kept, users[position:]])


def split_moderation(_: str, users: str) -> list[tuple[str, str]]:
    """Return the kind and the user of each timeout or ban in a line.

    >>> split_moderation("timeouts", "ann (600s), bob [spam] {2y}")
    [('timeouts', 'ann'), ('bans', 'bob')]
    """
    found = MODERATED_USER.findall(remove_reasons(users))
    return [("timeouts" if seconds else "bans", user) for user, seconds in found]


LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}<[^<>()]* \((?P<username>\w+)\)>\*?(?: (?P<message>.*))?"),
        ("messages", rf"{STAMP}<{MARKED_NAME}>\*?(?: (?P<message>.*))?"),
        ("timeouts", rf"{STAMP}BAN: (?P<username>\S+ \(\d+s\).*)"),
        ("bans", rf"{STAMP}BAN: (?P<username>\S.*)"),
        ("deletions", rf"{STAMP}DELETED: (?P<username>\S+) \((?P<message>.*)\)"),
        ("deletions", rf"{STAMP}DELETED: .*"),
        ("messages", rf"{STAMP}\[Notification\] (?P<username>\S+) (?:just )?subscribed[^\[]*! \[(?P<message>.+)\]"),
        ("notices", rf"{STAMP}(?:\[Notification\]|BITS:) .*"),
        ("lines of the program", "# Log (?:started|closed): .*"),
        ("blank lines", "-"),  # between sessions
    ],
    # But not `<user> message` or `user: message` of other programs: Chatty writes `MOD: user`, in capitals.
    others=("lines of the program", rf"{STAMP}(?!<|[a-z0-9_]+: ).*"),
    plain=rf"^{STAMP}<{MARKED_NAME}> (?P<message>.*)$",
    example="[2024-03-07 21:05:09] <@User> message",
    stamp=STAMP,
    split_moderation=split_moderation,
    clock="local",
    session_start=rf"# Log started: (?P<date>{DATE}) {CLOCK}(?: (?P<zone>[+-][0-9]{{4}}))?.*",
    session_end=rf"# Log closed: (?P<date>{DATE}) (?P<time>{CLOCK}).*",
    rolls_over=True,
    display_names=True,
)
