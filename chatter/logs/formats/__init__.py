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
irssi                irssi: lines
weechat              WeeChat: lines
bot_console          bots: lines
chat_downloader      chat-downloader: lines and JSON
discord              DiscordChatExporter: JSON and CSV
youtube              YouTube's live chat, written by yt-dlp: JSON
kick                 Kick: JSON
recent_messages      recent-messages: JSON
bare                 lines without a time

A new format is a file here, an entry below, and a log with its CSV in tests/golden.
"""

from __future__ import annotations

from chatter.logs.batch import BOTS, EMPTY, SHARED, UNNAMED
from chatter.logs.format import JsonFormat, LineFormat, TableFormat
from chatter.logs.formats import (
    bare,
    bot_console,
    chat_downloader,
    chatterino,
    chatty,
    discord,
    irc,
    irssi,
    justlog,
    kick,
    overrustle,
    recent_messages,
    tcd,
    tmi_js,
    twitch_downloader,
    weechat,
    youtube,
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
    "irssi": irssi.LINES,
    "WeeChat": weechat.LINES,
    "bots' consoles": bot_console.LINES,
    "chat-downloader": chat_downloader.LINES,
    "Chatterino": chatterino.LINES,
    "bare": bare.LINES,
}
JSON_FORMATS: dict[str, JsonFormat] = {
    "TwitchDownloader JSON": twitch_downloader.JSON,
    "justlog and rustlog JSON": justlog.JSON,
    "chat-downloader JSON": chat_downloader.JSON,
    "DiscordChatExporter JSON": discord.JSON,
    "yt-dlp's live_chat.json": youtube.JSON,
    "Kick JSON": kick.JSON,
    "recent-messages": recent_messages.JSON,
}
TABLE_FORMATS: dict[str, TableFormat] = {"DiscordChatExporter CSV": discord.CSV}
AUTOMATIC_FORMATS = {name: each for name, each in LINE_FORMATS.items() if not each.on_request}
STAND_ALONE = [each for each in LINE_FORMATS.values() if each.stands_alone]
ON_REQUEST = [name for name, each in LINE_FORMATS.items() if each.on_request]

LAST = [SHARED, BOTS, UNNAMED, EMPTY, "blank lines", "unreadable lines"]
KNOWN = [kind for each in LINE_FORMATS.values() for kind, _ in (*each.patterns, each.others or ("", ""))]
KINDS = [*dict.fromkeys(kind for kind in KNOWN if kind and kind not in LAST), *LAST]  # of entries, as they are counted
