"""OverRustle: `[2018-01-05 21:05:09 UTC] user: message`.

github.com/MemeLabs/overrustlelogs, logger/chatlog.go
"""

from __future__ import annotations

from chatter.logs.format import UTC_STAMP, LineFormat

LINES = LineFormat(
    patterns=[
        ("messages", rf"{UTC_STAMP}twitchnotify: (?P<username>\S+) .*? \[SubMessage\]: (?P<message>.+)"),
        ("notices", rf"{UTC_STAMP}twitchnotify: .*"),
        ("messages", rf"{UTC_STAMP}(?P<username>[a-z0-9_]+):(?: (?:/me )?(?P<message>.*))?"),
    ],
    plain=rf"^{UTC_STAMP}(?P<username>[a-z0-9_]+): (?P<message>.*)$",
    example="[2024-03-07 21:05:09 UTC] user: message",
    stamp=UTC_STAMP,
    unless=r"UTC\] twitchnotify: |: /me ",
    stands_alone=True,
)
