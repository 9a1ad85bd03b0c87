"""chatter.logs.text_reader: lines are read the same by the column and one by one."""

import time
from collections import Counter

import polars
import pytest
from conftest import typed
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import CHAT, WRITERS, expected_rows

from chatter.logs.batch import FIELDS
from chatter.logs.entries import parse_line
from chatter.logs.file_names import NameFacts
from chatter.logs.find_reader import choose_formats, order_formats
from chatter.logs.formats import AUTOMATIC_FORMATS, LINE_FORMATS, STAND_ALONE
from chatter.logs.sessions import NO_DAY
from chatter.logs.text_reader import LineParser

names = st.sampled_from(["u", "User", "u:", "", "#c", "\u3000", "\xa0x", "ananonymousgifter", "ユーザー"])
heads = st.sampled_from(
    ["[2024-03-7 21:05:09] #c ", "[2024-13-7 21:05:09] #c ", "[2024-03-17 24:05:09] #c ", "[2024-03-07 21:05:09] #ü "]
)
words = st.sampled_from(
    [
        "hi",
        "has been banned",
        "subscribed at Tier 1.",
        "subscribed with Prime. x",
        "gifted a Tier 1 sub to u!",
        "12 raiders from u have joined!",
        "a: b",
        "\r",
        "",
    ]
)
text_lines = st.tuples(heads, names, st.sampled_from([": ", " ", ":"]), names, st.just(" "), words).map("".join)
tags = st.lists(
    st.sampled_from(
        [
            "room-id=7",
            "source-room-id=7",
            "source-room-id=8",
            "id=1",
            "tmi-sent-ts=1709845509000",
            "tmi-sent-ts=17",
            "rm-received-ts=1709845509999",
            "x-tmi",
            "",
        ]
    )
).map(";".join)
irc_lines = st.builds(
    "@{}{}{} PRIVMSG #{} {}{}".format,
    tags,
    st.sampled_from([" ", "  "]),
    st.sampled_from([":u!u@u.tmi.twitch.tv", ":ユーザー!u@u", ":u", ":!u", ":\u3000u!u", ":a\x85b!u"]),
    names,
    st.sampled_from([":", ""]),
    words | st.sampled_from(["\x01ACTION waves\x01", " ", ":)"]),
)
stamps = st.sampled_from(
    [
        *("[2024-03-07 21:05:09 UTC] ", "[2024-03-7 21:05:09.5 UTC] ", "[2024-03-07 21:05:09] ", "[21:05:09] "),
        *("[0:00:01] ", "[25:00:01] ", "[0:00:01,123] ", "[01:00:00,123] ", "[1 day, 1:02:03] ", "[2 days, 0:00:00] "),
        *("5:07 | ", "-1:05:07 | (Subscriber, Turbo) ", "2024-03-07 21:05:09 | ", "[5:07] ", "[9:05 PM] ", ""),
        *("#c [21:05:09.123] ", "[٢١:05:09] "),
    ]
)
users = st.sampled_from(
    [
        *(
            "u: ",
            "User: ",
            "ユーザー: ",
            "two words: ",
            "u:",
            "u ",
            "",
            "twitchnotify: ",
            " u: ",
            "ユーザー u: ",
            ": u: ",
        ),
        *("<u> ", "<%@u> ", "<u > ", "<%> ", "<<u>> ", "<u>* ", "<@ユーザー (u)> ", "<ü> ", "<é\u3000> ", "*u ", "<u>"),
    ]
)
events = st.sampled_from(
    [
        *("u subscribed with Prime.", "User is gifting 5 subs", "ユーザー watched 5", "12 raiders from U have joined!"),
        *("X just subscribed! [SubMessage]: hi", "/me waves", "u added 7TV emote x.", "u redeemed x 100", "hi]"),
        *("u timed out x for 5s.", "u has been timed out for 5s. ", "u has been permanently banned. ", "connected"),
        *("BAN: a (600s), b", "DELETED: a (b)", "[Notification] u just subscribed! [hi]", "BITS: u (1)", "~title~"),
        *("Chat has been cleared by u.", "A message from u was deleted: x", "# Start logging at x", "hi: you", ""),
        *("# Log started: 2024-03-07 21:05:09 +0100", "# Start logging at 2024-03-07 21:05:09 CET", "-", "é", "\x85"),
    ]
)
other_lines = st.tuples(stamps, users, events | typed).map("".join)


@pytest.mark.parametrize("name", LINE_FORMATS)
@given(st.lists(text_lines | irc_lines | other_lines | typed), st.integers(0, 1000))
def test_by_the_column_is_the_same_as_line_by_line(name, lines, first):
    """Kind, channel, user and message; the day and the time, too, where nothing but the line says them."""
    formats = order_formats(LINE_FORMATS[name])
    batch = LineParser(formats).parse(polars.Series("line", lines, dtype=polars.String), first)
    expected = {number: parse_line(line, formats) for number, line in enumerate(lines, first)}
    assert batch.messages.columns == ["entry", *FIELDS] and batch.num_entries == len(lines)
    assert +batch.counts == Counter(kind for kind, _ in expected.values())
    rows = [(number, *row) for number, (kind, row) in expected.items() if kind == "messages"]
    found = [*batch.messages.iter_rows()]
    skipped = 1 if LINE_FORMATS[name].stands_alone else 3  # sessions complete the date and the time
    assert [(row[0], *row[skipped:]) for row in found] == [(row[0], *row[skipped:]) for row in rows]
    unreadable = {n: line for n, line in enumerate(lines, first) if expected[n][0] == "unreadable lines"}
    assert batch.unreadable == unreadable


@pytest.mark.parametrize("name", [name for name in LINE_FORMATS if LINE_FORMATS[name].stands_alone])
@given(st.randoms())
@settings(max_examples=10)
def test_lines_that_stand_alone_may_be_mixed(name, random):
    """In whatever order the lines come, and whichever format_name is tried first."""
    lines = [line for name in ("justlog", "raw IRC") for line in WRITERS[name].write(CHAT).splitlines()]
    random.shuffle(lines)
    batch = LineParser(order_formats(LINE_FORMATS[name])).parse(polars.Series("line", lines))
    assert (len(batch.messages), len(batch.events), len(batch.unreadable)) == (8 + 9, 2 + 3, 0)
    rows = [row for name in ("justlog", "raw IRC") for row in expected_rows(WRITERS[name], CHAT)]
    assert sorted(list(row[1:]) for row in batch.messages.iter_rows()) == sorted(rows)


def first_lines(name, number):
    return WRITERS[name].write(CHAT).removeprefix("\ufeff").split("\n")[:number]


@pytest.mark.parametrize("name", [name for name in WRITERS if WRITERS[name].format_name in AUTOMATIC_FORMATS])
@pytest.mark.parametrize("noise", [[], ["", "<<<<<<< HEAD", "cut off] x"]], ids=["clean", "damaged"])
def test_the_first_lines_tell_the_format(name, noise):
    chosen = choose_formats([*noise, *first_lines(name, 7), *noise])
    assert chosen[0] is LINE_FORMATS[WRITERS[name].format_name]
    assert [*chosen[1:]] == [format_name for format_name in STAND_ALONE if format_name is not chosen[0]]


@pytest.mark.parametrize(
    ("first", "later", "name"),
    [
        (["[18:00:01] ann: hi"], ["[18:00:02] bob has been timed out for 5m."], "Chatterino"),
        (["[18:00:01] Ann: hi"], ["[18:00:02] Bob: hi"], "TwitchDownloader (relative)"),
        (["junk: line"], ["[18:00:02] <@%Bob> hi"], "Chatty"),
    ],
)
def test_later_lines_tell_what_the_first_ones_leave_open(first, later, name):
    assert choose_formats(first * 500 + later)[0] is LINE_FORMATS[name]


@pytest.mark.parametrize(
    ("name", "line", "kind"),
    [
        ("Chatterino", "[18:00:01] <ann> hi", "unreadable lines"),
        ("Chatterino", "[18:00:01] <@%Ann> hi", "unreadable lines"),
        ("Chatterino", "[0:00:01] <Ann> hi", "unreadable lines"),
        ("Chatterino", "[18:00:01] * ann waves", "unreadable lines"),
        ("Chatterino", "[18:00:01] ann is live!", "notices"),
        ("Chatty", "[18:00:01] ann: hi", "unreadable lines"),
        ("Chatty", "[18:00:01] MOD: ann", "lines of the program"),
        ("Chatty", "[18:00:01] ~A title: with a colon~", "lines of the program"),
    ],
)
def test_messages_of_another_program_are_not_counted_as_notices(name, line, kind):
    """As in logs that were joined."""
    assert parse_line(line, order_formats(LINE_FORMATS[name])) == (kind, None)


def test_what_the_first_lines_do_not_tell():
    assert choose_formats(["", " "]) == STAND_ALONE
    for unknown in (["hi"], first_lines("bare", 7), ["{}", "cut off] x"]):
        assert not choose_formats(unknown)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["[0:00:30] User: hi", "[0:01:00] User: User subscribed with Prime. "], "TwitchDownloader (relative)"),
        (["[2024-03-07 21:05:09 UTC] user: hi"] * 9 + ["[2024-03-07 21:05:09 UTC] User: hi"], "TwitchDownloader (UTC)"),
        (["[2024-03-07 21:05:09 UTC] user: hi", "[2024-03-07 21:05:09 UTC] twitchnotify: X subscribed!"], "OverRustle"),
        (["[0:00:30] <User> hi"], "tcd"),
        (["[21:05:09] <ann> hi", "[21:05:10] * bob waves"], "ZNC"),
        (["[21:05:09] <ann> hi", "[21:05:10] <bob> hi"], "ZNC"),
        (["[01:05:09] <ann> hi", "[01:05:10] *** Joins: bob (bob@bob.tmi.twitch.tv)"], "ZNC"),
        (["[9:59:58] <ann> hi", "[10:05:10] <bob> hi"], "tcd"),
        (["[21:05:09] <ann> hi", "[21:05:10] <@%Bob> hi"], "Chatty"),
        (["[11:30] info: [#chan] <ann>: hello"], "tmi.js"),
        (["[11:30] info: [#chan] *<ann>: waves", "[11:31] debug: [#chan] <bob>: hello: you"], "tmi.js"),
        (["[11:30] info: Connecting to irc-ws.chat.twitch.tv on port 443..", "[11:30] info: Joined #chan"], "tmi.js"),
        (["[11:30] ann: [#chan] <bob>: is a quote", "[11:31] ann: hi"], "chat-downloader"),
        # The format that leaves the least structure in the messages.
        (["[2024-03-07 21:05:09 UTC] user: [21:05:09] <ann> hi"], "OverRustle"),
        (["[10:00:30] <User> hi", "# Log started: 2024-03-07 21:05:09 +0100"], "Chatty"),
        (["# Start logging at 2024-03-07 21:05:09 CET", *["[10:00:30] <user> hi"] * 9], "Chatterino"),
        (["[01:02:03] connected", "[01:02:03] user: hi", "[01:02:03] X is live!", "[01:02:04] user: hi"], "Chatterino"),
        (["[5:07] user: hi", "[16:04] user: hi"], "chat-downloader"),
        (["[2024-03-7 21:05:09] #c user: hi", "[2024-03-7 21:05:09] c user: hi"], "justlog and rustlog"),
        (["[2024-03-7 21:05:09] #c user has been banned"], "justlog and rustlog"),
        (["# Log started: 2024-03-07 21:05:09 +0100"], "Chatty"),
    ],
)
def test_lines_of_several_dialects_are_of_the_one_that_knows_most(lines, name):
    assert choose_formats(lines)[0] is LINE_FORMATS[name]


@pytest.mark.parametrize(
    "stamp",
    [
        *("", "[21:05:09] ", "21:05 ", "[2024-03-07 21:05:09] < ", "2024-03-07T21:05:09.123456Z ", "1709845509.12 "),
        *(
            "2024-03-07 21:05:09,123 INFO ",
            "2024-03-07_21:05:09 — ",
            "Thu Mar  7 21:05:09 2024: ",
            "[07/Mar/2024:21:05] ",
        ),
        *("9:05 PM - ", "[2024-03-07 21:05:09 UTC] >> ", "(+0100 21:05) | "),
    ],
)
def test_irc_behind_the_stamp_of_a_logger_is_chat_without_a_time(stamp):
    tagged = "@ban-duration=5;tmi-sent-ts=1709845509000 "
    lines = [
        ":ann!ann@ann.tmi.twitch.tv PRIVMSG #c :hi: you",
        ":ann!ann@ann.tmi.twitch.tv PRIVMSG #c :\x01ACTION waves\x01",
        ":tmi.twitch.tv CLEARCHAT #c :bob",
        f"{tagged}:tmi.twitch.tv CLEARCHAT #c :bob",
        "@tmi-sent-ts=1709845509000 :ann!ann@ann.tmi.twitch.tv PRIVMSG #c :with tags",
        ":tmi.twitch.tv 376 ann :>",
    ]
    lines = [stamp + line for line in lines]
    formats = choose_formats(lines)
    assert formats[0] is LINE_FORMATS["raw IRC"]
    batch = LineParser(formats, NameFacts("x", "2024-03-08")).parse(polars.Series("line", lines))
    assert batch.messages.rows() == [
        (0, "2024-03-08", "", "c", "ann", "hi: you"),
        (1, "2024-03-08", "", "c", "ann", "waves"),
        (4, "2024-03-07", "21:05:09", "c", "ann", "with tags"),
    ]
    assert batch.events == [
        (2, "bans", "2024-03-08", "", "c", "bob", ""),
        (3, "timeouts", "2024-03-07", "21:05:09", "c", "bob", ""),
    ]
    assert batch.counts["other IRC commands"] == 1 and not batch.unreadable
    assert LineParser(formats).parse(polars.Series("line", lines)).notes == {NO_DAY}


@pytest.mark.parametrize("quoting", ["[21:05:09] bob: ", "<bob> ", "bob: ", "12:30 bob: ", "look: ", "[12:30] 99bob: "])
def test_a_line_of_irc_that_somebody_quotes_is_not_read_as_irc(quoting):
    kind, row = parse_line(f"{quoting}:ann!ann@ann.tmi.twitch.tv PRIVMSG #c :hi")
    assert kind == "unreadable lines" or row[3] == quoting.strip("<> :").split()[-1]


@pytest.mark.parametrize(
    "line",
    [
        *("[2024-03-7 21:05:09] #c u: " + "街" * 50_000 + "!", "9" * 50_000, "9 " * 50_000, "[9] " * 50_000),
        *("[21:05:09] " + "a  " * 50_000, "[21:05:09] " + "is " * 50_000, "@" + "a=1;" * 50_000),
    ],
)
def test_long_lines_are_not_matched_in_quadratic_time(line):
    started = time.monotonic()
    parse_line(line)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("line", "events"),
    [
        ("BAN: a (600s), b", [("timeouts", "a"), ("bans", "b")]),
        ("BAN: a", [("bans", "a")]),
        ("BAN: a (1s) [was rude, (very)] {3d}, b", [("timeouts", "a"), ("bans", "b")]),
        ("<a> BAN: b (600s)", []),
        ("DELETED: a (BAN: b)", [("deletions", "a")]),
        ("BAN: a [x]y]z] {2}3} {4}, b [ [", [("bans", "a"), ("bans", "b"), ("bans", "["), ("bans", "[")]),
    ],
)
def test_each_of_the_people_in_a_ban_of_chatty(line, events):
    batch = LineParser([LINE_FORMATS["Chatty"]]).parse(polars.Series("line", [f"[2024-03-07 21:05:09] {line}"]))
    assert sorted((kind, user) for _, kind, _, _, _, user, _ in batch.events) == sorted(events)


def test_events_say_when_where_and_who():
    lines = WRITERS["justlog"].write(CHAT).splitlines()
    batch = LineParser().parse(polars.Series("line", lines), 100)
    assert batch.events == [
        (106, "timeouts", "2024-03-07", "15:59:02", "some_channel", "loud_yeti", ""),
        (107, "bans", "2024-03-07", "15:59:03", "some_channel", "loud_yeti", ""),
    ]
