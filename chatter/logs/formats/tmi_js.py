"""tmi.js with its option `debug`: `[21:05] info: [#channel] <user>: message`.

github.com/tmijs/tmi.js, lib/client.js and lib/logger.js
"""

from __future__ import annotations

from chatter.logs.format import LineFormat

STAMP = r"\[(?P<time>[0-2][0-9]:[0-5][0-9])\] "
LEVEL = r"(?:trace|debug|info|warn|error|fatal): "
PROGRAM = (
    r"Connecting to |Connected to |Sending authentication to |Executing command: |Joined #|Left #|Disconnecting|"
    r"Connection closed|Reconnecting in |Received RECONNECT|Could not "
)
PLACE = rf"{STAMP}{LEVEL}\[#(?P<channel>[^\s\]]+)\] "

LINES = LineFormat(
    patterns=[
        ("messages", rf"{PLACE}\*?<(?P<username>[^\s<>]+)>:(?: (?P<message>.*))?"),
        ("timeouts", rf"{PLACE}(?P<username>\S+) has been timed out for \d+ seconds\..*"),
        ("bans", rf"{PLACE}(?P<username>\S+) has been banned\..*"),
        ("clears", rf"{PLACE}Chat was cleared by a moderator\."),
        ("deletions", rf"{PLACE}(?P<author>\S+)'s message has been deleted\."),
        ("lines of the program", rf"{PLACE}(?!\*?<).*"),
        ("lines of the program", rf"{STAMP}{LEVEL}(?:{PROGRAM}).*"),
    ],
    others=("lines of the program", rf"{STAMP}{LEVEL}(?!\[\S+\] \*?<).*"),
    plain=rf"^{PLACE}<(?P<username>[^\s<>]+)>: (?P<message>.*)$",
    example="[21:05] info: [#channel] <user>: message",
    stamp=rf"{STAMP}{LEVEL}",
    clock="local",
    rolls_over=True,
)
