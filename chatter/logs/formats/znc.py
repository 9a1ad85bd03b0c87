"""ZNC: `[21:05:09] <user> message`, in files such as #channel/2024-03-07.log (github.com/znc/znc, modules/log.cpp)."""

from __future__ import annotations

from chatter.logs.format import CLOCK, LineFormat

STAMP = rf"\[(?P<time>{CLOCK})\] "
LOGIN = r"(?P<username>[a-z0-9_]+)"  # Twitch's IRC server names users by their logins

LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}<{LOGIN}>(?: (?P<message>.*))?"),
        ("messages", rf"{STAMP}\* {LOGIN} (?P<message>.*)"),  # /me
        ("other IRC commands", rf"{STAMP}(?:\*\*\* |-[^\s-]+- ).*"),
        ("lines of the program", rf"{STAMP}(?:Connected to IRC|Disconnected from IRC|Broadcast:).*"),
    ],
    plain=rf"^{STAMP}<{LOGIN}> (?P<message>.*)$",
    example="[21:05:09] <user> message",
    stamp=STAMP,
    clock="local",
)
