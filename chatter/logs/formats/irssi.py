"""irssi: `21:05 < user> message` below `--- Log opened Thu Mar 07 21:05:09 2024` (github.com/irssi/irssi)."""

from __future__ import annotations

from chatter.logs.format import LineFormat

STAMP = r"(?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?) "
LOGIN = r"(?P<username>[a-z0-9_]+)"  # Twitch's IRC server names users by their logins
MODE = r"[ @+%&~!]?"  # of a user in the channel
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
DAY = rf"[A-Z][a-z]{{2}} (?P<date>(?:{'|'.join(MONTHS)}) [ 0-3][0-9](?: [0-9:]{{8}})? [0-9]{{4}})"


def read_date(text: str) -> str:
    """Return a date such as `Mar 07 21:05:09 2024` as yyyy-mm-dd."""
    month, day, *_, year = text.split()
    return f"{year}-{MONTHS.index(month) + 1:02}-{int(day):02}"


LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}<{MODE}{LOGIN}>(?: (?P<message>.*))?"),
        ("messages", rf"{STAMP} ?\* {LOGIN} (?P<message>.*)"),  # /me
        ("other IRC commands", rf"{STAMP}(?:-!- |-[^\s-]+- ?|!).*"),
        ("lines of the program", r"--- (?:Log opened|Log closed|Day changed) .*"),
    ],
    plain=rf"^{STAMP}<{MODE}{LOGIN}> (?P<message>.*)$",
    example="21:05 < user> message",
    stamp=STAMP,
    clock="local",
    session_start=rf"--- (?:Log opened|Day changed) {DAY}(?P<zone>)",
    read_date=read_date,
)
