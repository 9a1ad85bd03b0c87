"""The formats of logs, one file a program. Each module imports only those above it in this list.

irc                  raw IRC: its lines
justlog              justlog and rustlog: lines and JSON
overrustle           OverRustle: lines
twitch_downloader    TwitchDownloader: lines of two kinds, and JSON
znc                  ZNC: lines
tcd                  tcd: lines
chatty               Chatty: lines
chatterino           Chatterino: lines
tmi_js               tmi.js: lines
chat_downloader      chat-downloader: lines and JSON
bare                 lines without a time

A new format is a file here, an entry below, and a log with its CSV in tests/golden.
"""

from __future__ import annotations

from chatter.logs.batch import EMPTY, SHARED, UNNAMED
from chatter.logs.format import JsonFormat, LineFormat
from chatter.logs.formats import (
    bare,
    chat_downloader,
    chatterino,
    chatty,
    irc,
    justlog,
    overrustle,
    tcd,
    tmi_js,
    twitch_downloader,
    znc,
)

# In the order in which they are tried. See `choose_formats` for which one wins.
# tcd comes after ZNC and Chatty, as no video begins with an hour of two digits. "bare" stays the last.
LINE_FORMATS: dict[str, LineFormat] = {
    "justlog and rustlog": justlog.LINES,
    "raw IRC": irc.LINES,
    "OverRustle": overrustle.LINES,
    "TwitchDownloader (UTC)": twitch_downloader.UTC_LINES,
    "TwitchDownloader (relative)": twitch_downloader.RELATIVE_LINES,
    "ZNC": znc.LINES,
    "Chatty": chatty.LINES,
    "tcd": tcd.LINES,
    "tmi.js": tmi_js.LINES,
    "chat-downloader": chat_downloader.LINES,
    "Chatterino": chatterino.LINES,
    "bare": bare.LINES,
}
JSON_FORMATS: dict[str, JsonFormat] = {
    "TwitchDownloader JSON": twitch_downloader.JSON,
    "justlog and rustlog JSON": justlog.JSON,
    "chat-downloader JSON": chat_downloader.JSON,
}
AUTOMATIC_FORMATS = {name: each for name, each in LINE_FORMATS.items() if not each.on_request}
STAND_ALONE = [each for each in LINE_FORMATS.values() if each.stands_alone]
ON_REQUEST = [name for name, each in LINE_FORMATS.items() if each.on_request]
FORMAT_NAMES = [*AUTOMATIC_FORMATS, *JSON_FORMATS, "CSV", *(f"{name} (with --format {name})" for name in ON_REQUEST)]

LAST = [SHARED, UNNAMED, EMPTY, "blank lines", "unreadable lines"]
KNOWN = [kind for each in LINE_FORMATS.values() for kind, _ in (*each.patterns, each.others or ("", ""))]
KINDS = [*dict.fromkeys(kind for kind in KNOWN if kind and kind not in LAST), *LAST]  # of entries, as they are counted
