"""WeeChat: date, time, user and message with tabs between them (github.com/weechat/weechat, src/plugins/logger)."""

from __future__ import annotations

from chatter.logs.format import CLOCK, LineFormat
from chatter.logs.times import DATE

STAMP = rf"(?P<date>{DATE}) (?P<time>{CLOCK})(?:[.,][0-9]{{1,9}})?\t"
LOGIN = r"[@+%&~!]?(?P<username>[A-Za-z0-9_]+)\t"

LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}{LOGIN}\x01ACTION (?P<message>.*?)\x01?"),  # other programs with these columns
        ("messages", rf"{STAMP}{LOGIN}(?P<message>.*)"),
        ("messages", rf"{STAMP} \*\t(?P<username>[A-Za-z0-9_]+) (?P<message>.*)"),  # /me
        ("other IRC commands", rf"{STAMP}(?:-->|<--|--|=!=)?\t.*"),
    ],
    plain=rf"^{STAMP}{LOGIN}(?P<message>(?:[^\x01].*)?)$",
    example="2024-03-07 21:05:09\tuser\tmessage",
    stamp=STAMP,
    clock="local",
)
