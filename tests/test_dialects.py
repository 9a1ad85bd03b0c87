"""chatter/dialects.py: every line is read for what it is, quickly and line by line alike."""

from collections import Counter

import polars
import pytest
from conftest import GOLDEN, SHARED, needs_shared, parse, typed
from hypothesis import given
from hypothesis import strategies as st

from chatter.dialects import DIALECTS, FIELDS, KINDS, irc_time, parse_line, parse_lines

GOLDEN_COUNTS = {
    "some_channel.txt": {
        "messages": 15,
        "timeouts": 4,
        "bans": 4,
        "clears": 2,
        "notices": 2,
        "blank lines": 2,
        "unreadable lines": 4,
    },
    "raw_irc.log": {
        "messages": 8,
        "timeouts": 2,
        "bans": 1,
        "clears": 1,
        "deletions": 1,
        "notices": 2,
        "other IRC commands": 4,
        "messages without a time": 1,
        "lines with invalid UTF-8": 1,
        "invisible suffixes removed": 2,
    },
}


@pytest.mark.parametrize("log", GOLDEN_COUNTS)
def test_golden_files(log, tmp_path):
    counts, unreadable = parse(GOLDEN / log, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (GOLDEN / log).with_suffix(".csv").read_bytes()
    assert counts == Counter({"messages written": counts["messages"]} | GOLDEN_COUNTS[log])
    assert len(unreadable) == counts["unreadable lines"]


def test_every_kind_of_line_is_in_the_golden_files():
    assert {kind for counts in GOLDEN_COUNTS.values() for kind in counts} >= {*KINDS}
    assert len(GOLDEN_COUNTS) == len(DIALECTS)


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
        ("", "bans"),
        ("user:hi", "notices"),
        ("two words: hi", "notices"),
        ("user: somebody has been banned", "messages"),
        ("user: User has been banned", "bans"),
        ("user has been banned", "bans"),
        ("user: user has been banned for life", "messages"),
        ("user has been banned for life", "notices"),
        ("user has been timed out for 600 seconds", "timeouts"),
        ("user has been timed out for a while", "notices"),
        ("user: has been timed out for 600 seconds", "messages"),
    ],
)
def test_kinds_of_text_lines(event, kind):
    assert parse_line(f"[2024-03-7 21:05:09] #channel {event}")[0] == kind


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


@pytest.mark.parametrize(
    ("tags", "time"),
    [
        ("tmi-sent-ts=1709845509999;rm-received-ts=0", ["2024-03-07", "21:05:09"]),
        ("rm-received-ts=1709845509000", ["2024-03-07", "21:05:09"]),
        ("x-tmi-sent-ts=1709845509000", None),
        ("tmi-sent-ts=", None),
        ("", None),
    ],
)
def test_the_time_of_an_irc_line(tags, time):
    assert irc_time(tags) == time


names = st.sampled_from(["u", "User", "u:", "", "#c", "\u3000", "\xa0x", "ananonymousgifter", "ユーザー"])
heads = st.sampled_from(
    ["[2024-03-7 21:05:09] #c ", "[2024-13-7 21:05:09] #c ", "[2024-03-17 24:05:09] #c ", "[2024-03-07 21:05:09] #ü "]
)
words = st.sampled_from(
    ["hi", "has been banned", "subscribed at Tier 1.", "12 raiders from u have joined!", "a: b", "\r", ""]
)
text_lines = st.tuples(heads, names, st.sampled_from([": ", " ", ":"]), names, st.just(" "), words).map("".join)
tags = st.lists(
    st.sampled_from(
        ["id=1", "tmi-sent-ts=1709845509000", "tmi-sent-ts=17", "rm-received-ts=1709845509999", "x-tmi", ""]
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


@given(st.lists(text_lines | irc_lines | typed), st.integers(0, 1000))
def test_by_the_column_is_the_same_as_line_by_line(lines, first):
    messages, counts, unreadable = parse_lines(polars.Series("line", lines, dtype=polars.String), first)
    expected = {number: parse_line(line) for number, line in enumerate(lines, first)}
    assert messages.columns == ["number", *FIELDS]
    assert [list(row) for row in messages.iter_rows()] == [
        [number, *row] for number, (kind, row) in expected.items() if kind == "messages"
    ]
    assert +counts == Counter(kind for kind, _ in expected.values())
    assert unreadable == [number for number, (kind, _) in expected.items() if kind == "unreadable lines"]


@needs_shared
def test_captured_events_are_of_their_kind():
    """Compared with the IRC command, its tags and its text, taken apart here without a pattern."""
    for line in (SHARED / "chat/raw_irc/events.raw.txt").read_bytes().decode().splitlines():
        tags, _, command, _, *text = (line if line.startswith("@") else f"@ {line}").split(maxsplit=4)
        if command == "USERNOTICE":
            expected = "messages" if text else "notices"
        elif command == "CLEARCHAT":
            expected = "clears" if not text else "timeouts" if "ban-duration=" in tags else "bans"
        else:  # one PRIVMSG has no sender: it is what a client sends, and nobody's message yet
            expected = {"PRIVMSG": "messages", "CLEARMSG": "deletions"}.get(command, "other IRC commands")
        assert parse_line(line)[0] == expected, line
