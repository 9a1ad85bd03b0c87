"""chatter.logs.formats: every line is read for what it is."""

from collections import Counter
from pathlib import Path

import pytest
from conftest import GOLDEN, SHARED, needs_shared, parse

from chatter.logs.entries import parse_line
from chatter.logs.formats import JSON_FORMATS, KINDS, LINE_FORMATS

GOLDEN_COUNTS = {
    "some_channel.txt": {
        "messages": 16,
        "timeouts": 4,
        "bans": 4,
        "clears": 2,
        "notices": 3,
        "entries without a user": 1,
        "blank lines": 2,
        "unreadable lines": 4,
    },
    "raw_irc.log": {
        "messages": 12,
        "timeouts": 2,
        "bans": 1,
        "clears": 1,
        "deletions": 1,
        "notices": 2,
        "other IRC commands": 4,
        "from shared chats": 1,
        "lines with invalid UTF-8": 1,
        "invisible suffixes removed": 2,
    },
    "overrustle.txt": {"messages": 8, "notices": 2},
    "twitchdownloader_utc.txt": {"messages": 6, "notices": 3},
    "twitchdownloader_relative.txt": {"messages": 4, "notices": 2},
    "1234567890 - a title (2024-03-07T230000Z).tcd": {"messages": 11, "notices": 1, "unreadable lines": 3},
    "#some_channel.log": {
        "messages": 13,
        "timeouts": 1,
        "bans": 1,
        "notices": 2,
        "deletions": 1,
        "lines of the program": 10,
        "blank lines": 2,
    },
    "chat_downloader.txt": {"messages": 9, "unreadable lines": 1},
    "some_channel-2024-03-07.log": {
        "messages": 11,
        "timeouts": 1,
        "bans": 1,
        "clears": 1,
        "notices": 10,
        "deletions": 1,
        "entries without text": 1,
        "lines of the program": 6,
        "unreadable lines": 1,
    },
    "2024-03-07.log": {"messages": 4, "other IRC commands": 2, "lines of the program": 1, "unreadable lines": 1},
    "tmi_js.log": {
        "messages": 3,
        "timeouts": 1,
        "bans": 1,
        "clears": 1,
        "deletions": 1,
        "lines of the program": 3,
        "unreadable lines": 1,
    },
    "bare.txt": {"messages": 3, "notices": 1, "blank lines": 1, "unreadable lines": 1},
    "twitchdownloader.json": {
        "messages": 6,
        "notices": 2,
        "entries without a user": 1,
        "entries without text": 1,
        "unreadable lines": 2,
    },
    "twitch_v5.json": {"messages": 5},
    "justlog.json": {
        "messages": 5,
        "timeouts": 1,
        "bans": 2,
        "clears": 1,
        "notices": 2,
        "entries without a user": 1,
        "unreadable lines": 1,
    },
    "rustlog.ndjson": {
        "messages": 4,
        "timeouts": 1,
        "bans": 1,
        "clears": 1,
        "notices": 1,
        "blank lines": 1,
        "unreadable lines": 2,
    },
    "chat_downloader_2020.json": {"messages": 2, "notices": 1, "entries without text": 1},
    "chat_downloader_live.jsonl": {
        "messages": 3,
        "timeouts": 1,
        "bans": 1,
        "clears": 1,
        "notices": 1,
        "deletions": 1,
        "entries without a user": 1,
    },
}
GOLDEN_COUNTS |= {
    "#other_channel.log": {
        "messages": 5,
        "other IRC commands": 2,
        "lines of the program": 3,
        "blank lines": 1,
        "unreadable lines": 1,
    },
    "irc.twitch.#weechat_channel.weechatlog": {"messages": 5, "other IRC commands": 3, "unreadable lines": 1},
    "bot_console-2024-03-07.log": {"messages": 3, "notices": 1, "unreadable lines": 1},
    "discord.json": {
        "messages": 2,
        "notices": 2,
        "written by bots": 1,
        "entries without a user": 1,
        "entries without text": 1,
        "unreadable lines": 1,
    },
    "discord_table.csv": {
        "messages": 3,
        "notices": 2,
        "entries without a user": 1,
        "entries without text": 1,
        "unreadable lines": 1,
    },
    "some_channel-2024-03-08.live_chat.json": {
        "messages": 4,
        "bans": 1,
        "notices": 5,
        "deletions": 1,
        "entries without a user": 1,
        "entries without text": 1,
        "blank lines": 1,
        "unreadable lines": 3,
    },
    "kick.json": {
        "messages": 2,
        "notices": 1,
        "entries without a user": 1,
        "entries without text": 1,
        "unreadable lines": 1,
    },
    "recent_messages.json": {
        "messages": 3,
        "timeouts": 1,
        "deletions": 1,
        "other IRC commands": 2,
        "unreadable lines": 1,
    },
    "objects.jsonl": {
        "messages": 3,
        "entries without a user": 1,
        "entries without text": 1,
        "blank lines": 1,
        "unreadable lines": 3,
    },
    "objects_array.json": {
        "messages": 2,
        "entries without a user": 1,
        "entries without text": 1,
        "unreadable lines": 1,
    },
    "table.parquet": {"messages": 3, "entries without a user": 1, "entries without text": 1},
    "streams.parquet": {"messages": 3, "entries without text": 1, "unreadable lines": 2},
    "some_channel-2024-03-07T210500Z.arrow": {"messages": 2},
}
ON_REQUEST = {"bare.txt": "bare"}


def csv_of(log):
    return f"{log}.csv" if log.endswith(".csv") else Path(log).with_suffix(".csv").name


@pytest.mark.parametrize("log", GOLDEN_COUNTS)
def test_golden_files(log, tmp_path):
    counts, unreadable = parse(GOLDEN / log, tmp_path / "out.csv", format_name=ON_REQUEST.get(log, "auto"))
    assert (tmp_path / "out.csv").read_bytes() == (GOLDEN / csv_of(log)).read_bytes()
    assert +counts == Counter({"messages written": counts["messages"]} | GOLDEN_COUNTS[log])
    assert len(unreadable) == counts["unreadable lines"]


def test_every_format_and_every_kind_of_line_is_in_the_golden_files():
    assert {kind for counts in GOLDEN_COUNTS.values() for kind in counts} >= {*KINDS}
    assert len(GOLDEN_COUNTS) >= len(LINE_FORMATS) + len(JSON_FORMATS) + 5
    assert {path.name for path in GOLDEN.iterdir()} == {*GOLDEN_COUNTS, *map(csv_of, GOLDEN_COUNTS)}


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("user: hi", "messages"),
        ("user:", "messages"),
        ("user: USER subscribed at Tier 1.", "notices"),
        ("user: User is gifting 5 Tier 1 Subs to Z's community!", "notices"),
        ("user: 12 raiders from USER have joined!", "notices"),
        ("user: 12 raiders from them have joined!", "messages"),
        ("user: user is right", "messages"),
        ("user: ユーザー subscribed at Tier 1.", "notices"),
        ("user: ユーザー is right", "messages"),
        ("медведь: Медведь has been banned", "bans"),
        ("user: ユーザー has been banned", "messages"),
        ("user: users subscribed at Tier 1.", "messages"),
        ("ananonymousgifter: An anonymous user gifted a Tier 1 sub to Y!", "notices"),
        ("user: An anonymous user gifted a Tier 1 sub to Y!", "messages"),
        ("ananonymousgifter: hi", "messages"),
        ("", "bans"),
        # A notice is a whole sentence behind the line's own user, or behind a name in another script.
        ("ann: Pokémon gifted a sub to me, wow", "messages"),
        ("ann: Pokémon gifted a Tier 1 sub to me!", "messages"),
        ("ann: 😂 watched 3 hours of this", "messages"),
        ("ann: 😂 watched 3 consecutive streams and sparked a watch streak!", "messages"),
        ("ann: “bob” subscribed with Prime!", "messages"),
        ("ann: “ボブ” subscribed with Prime.", "messages"),
        ("ann: two ユーザー subscribed with Prime.", "messages"),
        ("ann: ユーザー subscribed to my channel", "messages"),
        ("ann: ann watched 3 hours of this", "messages"),
        ("ann: ann gifted a dozen roses", "messages"),
        ("ann: Ann subscribed with Prime.", "notices"),
        ("ann: Ann subscribed with Prime.lol", "messages"),
        ("ann: Ann subscribed at Tier 1. They've subscribed for 19 months! own words", "notices"),
        ("ann: ann gifted a Tier 2 sub to bob! They have given 3 Gift Subs in the channel!", "notices"),
        ("ann: ann is gifting 5 Tier 1 Subs to bob's community! They've gifted a total of 12", "notices"),
        ("ann: ann converted from a Prime sub to a Tier 1 sub!", "notices"),
        ("ann: ann is continuing the Gift Sub they got from an anonymous user!", "notices"),
        ("ann: ann is paying forward the Gift they got from bob to the community!", "notices"),
        ("ann: ann watched 5 consecutive streams this month and sparked a watch streak!", "notices"),
        ("ann: สมชาย watched 5 consecutive streams and sparked a watch streak!", "notices"),
        ("ann: Медведь subscribed with Twitch Prime. ", "notices"),
        ("ann subscribed with Twitch Prime. own words", "notices"),
        ("An anonymous user gifted a Tier 1 sub to ann!", "notices"),
        ("12 raiders from ann have joined!", "notices"),
        ("words that somebody typed with a subscription", "entries without a user"),
        ("user:hi", "entries without a user"),
        ("two words: hi", "entries without a user"),
        ("user: somebody has been banned", "messages"),
        ("user: User has been banned", "bans"),
        ("user has been banned", "bans"),
        ("user: user has been banned for life", "messages"),
        ("user has been banned for life", "entries without a user"),
        ("user has been timed out for 600 seconds", "timeouts"),
        ("user has been timed out for a while", "entries without a user"),
        ("user: has been timed out for 600 seconds", "messages"),
    ],
)
def test_kinds_of_text_lines(event, kind):
    assert parse_line(f"[2024-03-7 21:05:09] #channel {event}")[0] == kind


@pytest.mark.parametrize(
    ("format_name", "line", "kind", "user_and_message"),
    [
        ("OverRustle", "[2024-03-07 21:05:09 UTC] user: hi: you", "messages", "user|hi: you"),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] user: /me waves", "messages", "user|waves"),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] user: /mean", "messages", "user|/mean"),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] user:", "messages", "user|"),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] twitchnotify: X just subscribed!", "notices", None),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] twitchnotify: X s! [SubMessage]: hi", "messages", "X|hi"),
        (
            "OverRustle",
            "[2024-03-07 21:05:09 UTC] user: X s! [SubMessage]: hi",
            "messages",
            "user|X s! [SubMessage]: hi",
        ),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] User: hi", "unreadable lines", None),
        ("OverRustle", "[2024-03-07 21:05:09] user: hi", "unreadable lines", None),
        ("TwitchDownloader (UTC)", "[2024-03-07 21:05:09.12 UTC] User: hi", "messages", "User|hi"),
        ("TwitchDownloader (UTC)", "[2024-03-07 21:05:09 UTC] User: USER subscribed with Prime.", "notices", None),
        ("TwitchDownloader (UTC)", "[2024-03-07 21:05:09 UTC] U: 5 raiders from U have joined!", "notices", None),
        (
            "TwitchDownloader (UTC)",
            "[2024-03-07 21:05:09 UTC] U: UU is gifting 5 subs",
            "messages",
            "U|UU is gifting 5 subs",
        ),
        ("TwitchDownloader (UTC)", "[2024-13-07 21:05:09 UTC] User: hi", "unreadable lines", None),
        ("TwitchDownloader (relative)", "[0:00:00] ユーザー: hi", "messages", "ユーザー|hi"),
        ("TwitchDownloader (relative)", "[25:01:02] User: hi", "messages", "User|hi"),
        ("TwitchDownloader (relative)", "[0:00:00] User: User gifted a Tier 1 sub to X!", "notices", None),
        ("TwitchDownloader (relative)", "[01:02:03] User: hi", "unreadable lines", None),
        ("TwitchDownloader (relative)", "[0:60:00] User: hi", "unreadable lines", None),
        ("TwitchDownloader (relative)", "[0:00:00] two words: hi", "unreadable lines", None),
        ("tcd", "[0:00:01] <User> hi", "messages", "User|hi"),
        ("tcd", "[0:00:01] <%@~$+!&*^User> hi", "messages", "User|hi"),
        ("tcd", "[0:00:01] <%User > hi", "messages", "User|hi"),
        ("tcd", "[0:00:01] <_user> hi", "messages", "_user|hi"),
        ("tcd", "[0:00:01] <User>", "messages", "User|"),
        ("tcd", "[0:00:01] <User> <Other> hi", "messages", "User|<Other> hi"),
        ("tcd", "[0:00:01] *User waves]", "messages", "User|waves"),
        ("tcd", "[0:00:01,123] <User> hi", "messages", "User|hi"),
        ("tcd", "[01:00:01,123] <User> hi", "messages", "User|hi"),
        ("tcd", "[3 days, 0:00:01] <User> hi", "messages", "User|hi"),
        ("tcd", "[0:00:01] <%User> User subscribed with Prime. ", "notices", None),
        ("tcd", "[0:00:01] <User> Other subscribed with Prime. ", "messages", "User|Other subscribed with Prime. "),
        ("tcd", "[0:00:01] <two words> hi", "unreadable lines", None),
        ("tcd", "<<<<<<< HEAD", "unreadable lines", None),
        ("tcd", "[0:00:01] User: hi", "unreadable lines", None),
        ("Chatty", "[21:05:09] <@%User> hi", "messages", "User|hi"),
        ("Chatty", "[2024-03-07 21:05:09] <User> hi", "messages", "User|hi"),
        ("Chatty", "[21:05:09] <User>* waves", "messages", "User|waves"),
        ("Chatty", "[21:05:09] <User> * waves", "messages", "User|* waves"),
        ("Chatty", "[21:05:09] <@ユーザー (user)> hi", "messages", "user|hi"),
        ("Chatty", "[21:05:09] <ユーザー (user)>* hi", "messages", "user|hi"),
        ("Chatty", "[21:05:09] <ユーザー> hi", "messages", "ユーザー|hi"),
        ("Chatty", "[21:05:09] <User> BAN: x", "messages", "User|BAN: x"),
        ("Chatty", "[21:05:09] BAN: a (600s), b", "timeouts", "a (600s), b|"),
        ("Chatty", "[21:05:09] BAN: a [reason] {3d}", "bans", "a [reason] {3d}|"),
        ("Chatty", "[21:05:09] DELETED: a (<b> hi)", "deletions", "a|<b> hi"),
        ("Chatty", "[21:05:09] [Notification] X just subscribed! [hi [you]]", "messages", "X|hi [you]"),
        ("Chatty", "[21:05:09] [Notification] X just subscribed!", "notices", None),
        ("Chatty", "[21:05:09] BITS: X (100)", "notices", None),
        ("Chatty", "[21:05:09] <two words> hi", "unreadable lines", None),
        ("Chatty", "[21:05:09] ~title: <game>~", "lines of the program", None),
        ("Chatty", "[21:05:09] MOD: a, b", "lines of the program", None),
        ("Chatty", "# Log closed: 2024-03-07 21:05:09 +0100", "lines of the program", None),
        ("Chatty", "-", "blank lines", None),
        ("chat-downloader", "5:07 | (Subscriber) user: hi", "messages", "user|hi"),
        ("chat-downloader", "-0:07 | user: hi", "messages", "user|hi"),
        ("chat-downloader", "2024-03-07 21:05:09 | user: (a) b: c", "messages", "user|(a) b: c"),
        ("chat-downloader", "[5:07] user: hi", "messages", "user|hi"),
        ("chat-downloader", "[1:05:07] User: 1 | 2", "messages", "User|1 | 2"),
        ("chat-downloader", "5:07 user: hi", "unreadable lines", None),
        ("Chatterino", "[21:05:09] user: hi", "messages", "user|hi"),
        ("Chatterino", "[21:05:09]  user: hi", "messages", "user|hi"),
        ("Chatterino", "[21:05:09] ユーザー user: hi", "messages", "user|hi"),
        ("Chatterino", "[21:05:09] user  user: hi: you", "messages", "user|hi: you"),
        ("Chatterino", "[21:05:09] bob22(街市) 街市 bob22: thirty degrees", "messages", "bob22|thirty degrees"),
        ("Chatterino", "[21:05:09] Mr. Nick ann_one: nick of two words", "messages", "ann_one|nick of two words"),
        ("Chatterino", "[21:05:09] the Mr. Nick  ann_one: hi", "messages", "ann_one|hi"),
        ("Chatterino", "[21:05:09] Mr. Nick  ann: ann added 7TV emote x.", "notices", None),
        ("Chatterino", "[21:05:09] some_mod banned ann: a reason", "notices", None),
        ("Chatterino", "[21:05:09] some_mod has warned ann: a reason", "notices", None),
        ("Chatterino", "[21:05:09] The VIPs of this channel are: ann, bob", "notices", None),
        ("Chatterino", "[21:05:09] mod: mod timed out x", "notices", None),
        ("Chatterino", "#channel [21:05:09] user: hi", "messages", "user|hi"),
        ("Chatterino", "[9:05 PM] user: hi", "messages", "user|hi"),
        ("Chatterino", "[21:05:09.123] user: hi", "messages", "user|hi"),
        ("Chatterino", "[21:05:09] user: ", "messages", "user|"),
        ("Chatterino", "[21:05:09] ", "entries without text", None),
        ("Chatterino", "[21:05:09] A message from user was deleted: a: b", "deletions", "user|a: b"),
        ("Chatterino", "[21:05:09] user has been timed out for 1d 10h 17m 36s. ", "timeouts", "user|"),
        ("Chatterino", "[21:05:09] user has been permanently banned. ", "bans", "user|"),
        (
            "Chatterino",
            "[21:05:09] user: x has been permanently banned. ",
            "messages",
            "user|x has been permanently banned. ",
        ),
        ("Chatterino", "[21:05:09] Chat has been cleared by a moderator.", "clears", None),
        ("Chatterino", "[21:05:09] User: User removed 7TV emote x.", "notices", None),
        ("Chatterino", "[21:05:09] user: X removed 7TV emote x.", "messages", "user|X removed 7TV emote x."),
        ("Chatterino", "[21:05:09] user: user redeemed A Title 100", "notices", None),
        ("Chatterino", "[21:05:09] user: user redeemed himself", "messages", "user|user redeemed himself"),
        ("Chatterino", "[21:05:09] mod: mod timed out x for 10m.", "notices", None),
        ("Chatterino", "[21:05:09] mod: mod unbanned x.", "notices", None),
        ("Chatterino", "[21:05:09] mod: mod banned together", "messages", "mod|mod banned together"),
        ("Chatterino", "[21:05:09] user is live!", "notices", None),
        ("Chatterino", "[21:05:09] user is live: a title: b", "notices", None),
        ("Chatterino", "[21:05:09] Monday, January 1, 2024", "notices", None),
        ("Chatterino", "[21:05:09] Montag, 1. Januar 2024", "notices", None),
        ("Chatterino", "[21:05:09] 2024年1月1日月曜日", "notices", None),
        ("Chatterino", "[21:05:09] connected", "lines of the program", None),
        ("Chatterino", "[21:05:09] joined channel", "lines of the program", None),
        ("Chatterino", "# Stop logging at 2024-03-07 21:05:09 CET", "lines of the program", None),
        ("tmi.js", "[11:30] info: [#chan] <ann>: hello: you", "messages", "ann|hello: you"),
        ("tmi.js", "[11:30] debug: [#chan] *<ann>: waves", "messages", "ann|waves"),
        ("tmi.js", "[11:30] info: [#chan] <ann>: ", "messages", "ann|"),
        ("tmi.js", "[11:30] info: [#chan] ann has been timed out for 600 seconds.", "timeouts", "ann|"),
        ("tmi.js", "[11:30] info: [#chan] ann has been banned.", "bans", "ann|"),
        ("tmi.js", "[11:30] info: [#chan] Chat was cleared by a moderator.", "clears", None),
        ("tmi.js", "[11:30] info: [#chan] ann's message has been deleted.", "deletions", None),
        ("tmi.js", "[11:30] info: [#chan] This room is now in slow mode.", "lines of the program", None),
        ("tmi.js", "[11:30] info: Joined #chan", "lines of the program", None),
        ("tmi.js", "[11:30] error: No response from Twitch.", "lines of the program", None),
        ("tmi.js", "[11:30] info: [WHISPER] <ann>: hello", "unreadable lines", None),
        ("tmi.js", "[11:30] ann: hello", "unreadable lines", None),
        ("ZNC", "[21:05:09] <ann> hello: <you>", "messages", "ann|hello: <you>"),
        ("ZNC", "[21:05:09] <ann> ", "messages", "ann|"),
        ("ZNC", "[21:05:09] * bob waves", "messages", "bob|waves"),
        ("ZNC", "[21:05:09] *** Joins: bob (bob@bob.tmi.twitch.tv)", "other IRC commands", None),
        ("ZNC", "[21:05:09] -tmi.twitch.tv- This room is now in slow mode.", "other IRC commands", None),
        ("ZNC", "[21:05:09] Connected to IRC (irc.chat.twitch.tv +6697)", "lines of the program", None),
        ("ZNC", "[0:05:09] <ann> hello", "unreadable lines", None),
        ("tcd", "[0:02:00.721] <User> hi", "messages", "User|hi"),
        ("irssi", "21:05 < ann> hello: <you>", "messages", "ann|hello: <you>"),
        ("irssi", "21:05:09 <@ann> ", "messages", "ann|"),
        ("irssi", "21:05 <ann> hello", "messages", "ann|hello"),
        ("irssi", "21:05  * ann waves", "messages", "ann|waves"),
        ("irssi", "21:05 -!- ann [ann@ann.tmi.twitch.tv] has quit [x]", "other IRC commands", None),
        ("irssi", "21:05 -ann:#chan- a notice", "other IRC commands", None),
        ("irssi", "--- Day changed Fri Mar 08 2024", "lines of the program", None),
        ("irssi", "21:05 ann: hello", "unreadable lines", None),
        ("irssi", "25:05 < ann> hello", "unreadable lines", None),
        ("WeeChat", "2024-03-07 21:05:09\tann\thi\tyou", "messages", "ann|hi\tyou"),
        ("WeeChat", "2024-03-07 21:05:09,873\t@Ann\thi", "messages", "Ann|hi"),
        ("WeeChat", "2024-03-07 21:05:09\t *\tann waves", "messages", "ann|waves"),
        ("WeeChat", "2024-03-07 21:05:09\tann\t\1ACTION waves\1", "messages", "ann|waves"),
        ("WeeChat", "2024-03-07 21:05:09\tann\t", "messages", "ann|"),
        ("WeeChat", "2024-03-07 21:05:09\t<--\tann has quit", "other IRC commands", None),
        ("WeeChat", "2024-03-07 21:05:09\t--\tMode #chan [+o ann]", "other IRC commands", None),
        ("WeeChat", "2024-03-07 21:05:09 ann hi", "unreadable lines", None),
        ("bots' consoles", "[chan] - [9:05:11 PM] Ann: hi: you", "messages", "Ann|hi: you"),
        ("bots' consoles", "[#chan] - [21:05:11.123] ann:", "messages", "ann|"),
        ("bots' consoles", "[chan] - [9:05:11 PM] Ann: Ann subscribed with Prime.", "notices", None),
        ("bots' consoles", "[chan] - [9:05:11 PM] two words: hi", "unreadable lines", None),
        ("bots' consoles", "[two words] - [9:05:11 PM] ann: hi", "unreadable lines", None),
        ("bare", "User: hi: you", "messages", "User|hi: you"),
        ("bare", "User: User subscribed with Prime.", "notices", None),
        ("bare", "two words: hi", "unreadable lines", None),
        ("bare", "https://example.org", "unreadable lines", None),
        ("bare", "  ", "blank lines", None),
    ],
)
def test_kinds_of_lines_of_each_format(format_name, line, kind, user_and_message):
    """The line alone, to its format_name alone."""
    found, row = parse_line(line, [LINE_FORMATS[format_name]])
    assert (found, row and "|".join(row[-2:])) == (kind, user_and_message)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[2024-03-7 21:05:09] #c User: hi: you", ("messages", "hi: you")),
        ("[2024-03-07 21:05:09] #c User: User has been timed out for 5 seconds", ("timeouts", "")),
        ("@tmi-sent-ts=1709845509000 :User!u@u PRIVMSG #c :hi: you", ("messages", "hi: you")),
        ("@tmi-sent-ts=1709845509000 :User!u@u PRIVMSG #c :\x01ACTION waves\x01", ("messages", "waves")),
        ("@login=User;tmi-sent-ts=1709845509000 :t USERNOTICE #c :with a sub", ("messages", "with a sub")),
        ("@ban-duration=5;tmi-sent-ts=1709845509000 :tmi.twitch.tv CLEARCHAT #c :User", ("timeouts", "")),
        ("@tmi-sent-ts=1709845509000 :tmi.twitch.tv CLEARCHAT #c :User", ("bans", "")),
    ],
)
def test_who_when_and_what(line, expected):
    kind, message = expected
    assert parse_line(line) == (kind, ["2024-03-07", "21:05:09", "c", "User", message])


@needs_shared
def test_captured_events_are_of_their_kind():
    """Compared with the IRC command, its tags and its text, taken apart here without a pattern."""
    for line in (SHARED / "chat/raw_irc/events.raw.txt").read_bytes().decode().splitlines():
        tags, _, command, _, *text = (line if line.startswith("@") else f"@ {line}").split(maxsplit=4)
        if command == "USERNOTICE":
            expected = "messages" if text else "notices"
        elif command == "CLEARCHAT":
            expected = "clears" if not text else "timeouts" if "ban-duration=" in tags else "bans"
        elif command == "PRIVMSG" and "source-room-id=" in tags:
            expected = "from shared chats"
        else:  # one PRIVMSG has no sender: it is what a client sends, and nobody's message yet
            expected = {"PRIVMSG": "messages", "CLEARMSG": "deletions"}.get(command, "other IRC commands")
        assert parse_line(line)[0] == expected, line
