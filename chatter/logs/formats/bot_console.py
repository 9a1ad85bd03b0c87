"""What bots print about the messages they see: `[channel] - [9:05:09 PM] user: message`."""

from __future__ import annotations

from chatter.logs.format import NAME, LineFormat
from chatter.logs.notices import OWN_NOTICE, PERHAPS_NOTICE

STAMP = (
    r"\[#?(?P<channel>[A-Za-z0-9_]+)\] - "
    r"\[(?P<time>[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?(?: [AP]M)?)\] "
)

LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}(?P<username>{NAME}):(?: (?!{OWN_NOTICE})(?P<message>.*))?"),
        ("notices", rf"{STAMP}(?P<username>{NAME}): {OWN_NOTICE}.*"),
    ],
    plain=rf"^{STAMP}(?P<username>{NAME}): (?P<message>.*)$",
    stamp=STAMP,
    unless=PERHAPS_NOTICE,
    clock="local",
    rolls_over=True,
    display_names=True,
)
