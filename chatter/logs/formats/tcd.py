"""tcd: `[0:05:09] <User> message`, with offsets into the video.

github.com/PetterKraabol/Twitch-Chat-Downloader, pipe.py; the fork of TheDrHax, subtitles.py
"""

from __future__ import annotations

from chatter.logs.format import MARKED_NAME, LineFormat
from chatter.logs.notices import OWN_NOTICE, PERHAPS_NOTICE

STAMP = (
    r"\[(?P<time>(?:[1-9][0-9]{0,3} days?, )?(?:(?:[0-9]|[1-9][0-9]{1,3}):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?|"
    r"[0-9]{1,4}:[0-5][0-9]:[0-5][0-9],[0-9]{1,3}))\] "
)

LINES = LineFormat(
    patterns=[
        ("messages", rf"{STAMP}<{MARKED_NAME} ?>(?: (?!{OWN_NOTICE})(?P<message>.*))?"),
        ("notices", rf"{STAMP}<{MARKED_NAME} ?> {OWN_NOTICE}.*"),
        ("messages", rf"{STAMP}\*(?P<username>\S+) (?P<message>.*)\]"),  # /me, with an extra bracket
    ],
    plain=rf"^{STAMP}<{MARKED_NAME} ?> (?P<message>.*)$",
    example="[0:05:09] <User> message",
    stamp=STAMP,
    unless=PERHAPS_NOTICE,
    clock="offset",
    display_names=True,
)
