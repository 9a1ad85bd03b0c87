"""chatter.logs.entries: what the entries of JSON exports are."""

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from writers import CHAT, WRITERS

from chatter.generation.stream_lines import read_stream
from chatter.logs.entries import find_json_format, gather_facts, parse_json, parse_line
from chatter.logs.format import DocumentFacts
from chatter.logs.formats import JSON_FORMATS, KINDS

WHEN = ["2024-03-07", "21:05:09"]
FACTS = DocumentFacts("c")
SYSTEM = "User subscribed at Tier 1."
RAW = "@tmi-sent-ts=1709845509000 :user!user@user.tmi.twitch.tv PRIVMSG #c :"


def logged(number=1, text="hi", tags=None, **changes):
    """Return an entry of justlog, with username, channel and type."""
    entry = {"text": text, "username": "user", "displayName": "User", "channel": "c", "type": number, "raw": ""}
    return entry | {"timestamp": "2024-03-07T21:05:09Z", "tags": tags or {}} | changes


def basic(text="hi", **tags):
    """Return an entry of rustlog's jsonBasic, without these."""
    named = {key.replace("_", "-"): value for key, value in tags.items()}
    return {"text": text, "displayName": "User", "timestamp": "2024-03-07T21:05:09.123Z", "id": "1", "tags": named}


def item(**changes):
    """Return an item of chat-downloader."""
    entry = {"author": {"name": "user", "display_name": "User"}, "message": "hi", "message_type": "text_message"}
    return entry | {"timestamp": 1709845509129857} | changes


@pytest.mark.parametrize(
    ("entry", "kind", "user_and_message"),
    [
        # Raw IRC says more than the rest.
        (logged(raw=RAW + "from IRC"), "messages", "user|from IRC"),
        (logged(raw=RAW + "\x01ACTION waves\x01"), "messages", "user|waves"),
        (logged(2, raw="@ban-duration=5;tmi-sent-ts=1709845509000 :tmi.twitch.tv CLEARCHAT #c :x"), "timeouts", "x|"),
        (logged(4, raw="@login=x;tmi-sent-ts=1709845509000 :tmi.twitch.tv USERNOTICE #c :own"), "messages", "x|own"),
        (logged(raw=":tmi.twitch.tv ROOMSTATE #c"), "other IRC commands", None),
        (logged(raw="no IRC"), "unreadable lines", None),
        # justlog without it
        (logged(), "messages", "user|hi"),
        (logged(text=""), "messages", "user|"),
        (logged(username="", displayName=""), "entries without a user", None),
        (logged(username="", displayName="ユーザー"), "messages", "ユーザー|hi"),
        (logged(text="x has been banned"), "messages", "user|x has been banned"),
        (logged(2, "user has been timed out for 5 seconds", {"ban-duration": "5"}), "timeouts", "user|"),
        (logged(2, "user has been banned"), "bans", "user|"),
        (logged(2, "", systemText="user has been banned"), "bans", "user|"),
        (logged(2, "x has been banned", username=""), "bans", "x|"),
        (logged(2, "chat has been cleared", username="", displayName=""), "clears", None),
        (logged(4, "own", {"system-msg": SYSTEM}, systemText=SYSTEM), "messages", "user|own"),
        (logged(4, "", {"system-msg": SYSTEM}, systemText=SYSTEM), "notices", None),
        (logged(4, f"{SYSTEM} own", {"system-msg": SYSTEM}), "messages", "user|own"),
        (logged(4, f"{SYSTEM} own", {"system-msg": SYSTEM.replace(" ", r"\s")}), "messages", "user|own"),
        (logged(4, SYSTEM, {"system-msg": SYSTEM}), "notices", None),
        (logged(4, f"{SYSTEM} ", {"system-msg": SYSTEM}), "notices", None),
        (logged(9, "hi"), "unreadable lines", None),
        (logged(4, "own", {"system-msg": ""}), "messages", "user|own"),
        (logged(4, "own", {"system-msg": SYSTEM}), "messages", "user|own"),
        (logged(4, "User subscribed with Prime.", {"system-msg": SYSTEM}), "notices", None),
        (logged(tags={"room-id": "1", "source-room-id": "2"}), "from shared chats", "user|hi"),
        (logged(tags={"room-id": "1", "source-room-id": "1"}), "messages", "user|hi"),
        (
            logged(4, "own", {"system-msg": "", "msg-id": "sharedchatnotice", "room-id": "1", "source-room-id": "2"}),
            "from shared chats",
            "user|own",
        ),
        (logged(raw=RAW.replace("@", "@room-id=1;source-room-id=2;") + "hi"), "from shared chats", "user|hi"),
        (logged(raw=":user!user@user.tmi.twitch.tv PRIVMSG #c :hi"), "messages", "user|hi"),
        # rustlog without username and type
        (basic(), "messages", "User|hi"),
        (basic("x has been banned"), "messages", "User|x has been banned"),
        (basic(f"{SYSTEM} own", system_msg=SYSTEM, login="user"), "messages", "user|own"),
        (basic(SYSTEM, system_msg=SYSTEM, login="user"), "notices", None),
        (basic("x has been timed out for 5 seconds", ban_duration="5", target_user_id="1"), "timeouts", "x|"),
        (basic("x has been banned", target_user_id="1"), "bans", "x|"),
        (basic("Chat has been cleared"), "messages", "User|Chat has been cleared"),
        (basic("Chat has been cleared") | {"displayName": ""}, "clears", None),
        (basic("an announcement", system_msg="", login="user"), "messages", "user|an announcement"),
        (basic("", system_msg="", login="user"), "notices", None),
        (basic("hi", room_id="1", source_room_id="2"), "from shared chats", "User|hi"),
        # chat-downloader
        (item(), "messages", "user|hi"),
        (item(author="User"), "messages", "User|hi"),
        (item(message="waves\x01"), "messages", "user|waves"),
        (item(author={"display_name": "User"}), "messages", "User|hi"),
        (item(author=None), "entries without a user", None),
        (item(message=None), "entries without text", None),
        (item(message="user is gifting 5 Tier 1 Subs to X's community!"), "notices", None),
        (item(message_type="ban_user", author=None, banned_user="x", ban_duration=5), "timeouts", "x|"),
        (item(message_type="ban_user", author=None, banned_user="x"), "bans", "x|"),
        (item(message_type="ban_user", author=None), "bans", None),
        (item(message_type="clear_chat", message=None), "clears", None),
        (item(message_type="delete_message"), "deletions", None),
        (item(message="user subscribed to my channel"), "messages", "user|user subscribed to my channel"),
        (item(message_type="user_notice", message=None), "entries without text", None),
        (item(message_type="subscription", message=None, system_message=SYSTEM), "notices", None),
        (item(message_type="resubscription", message="own", system_message=SYSTEM), "messages", "user|own"),
        (item(message_type="subscription", message=SYSTEM, system_message=SYSTEM), "notices", None),
    ],
)
def test_kinds_of_entries(entry, kind, user_and_message):
    assert find_json_format(entry) is not None
    found, row = parse_json(entry, FACTS)
    assert (found, row and "|".join(row[3:])) == (kind, user_and_message)
    assert row is None or row[:3] == [*WHEN, "c"]


@pytest.mark.parametrize(
    ("entry", "row"),
    [
        (basic(room_id="77"), [*WHEN, "77", "User", "hi"]),
        ({"author": "a", "message": "hi", "time_in_seconds": 307.5}, ["", "00:05:07", "", "a", "hi"]),
        ({"author": "a", "message": "hi", "time_in_seconds": -5}, ["", "00:00:00", "", "a", "hi"]),
        ({"commenter": {"name": "a"}, "message": {"body": "hi"}}, ["", "00:00:00", "", "a", "hi"]),
        ({"commenter": {"login": "a"}, "message": {"body": "hi"}, "createdAt": "2024-03-07T21:05:09Z"},
         [*WHEN, "", "a", "hi"]),
        ({"commenter": {"login": "a"}, "message": {"body": "hi"}, "contentOffsetSeconds": 90061},
         ["", "25:01:01", "", "a", "hi"]),
    ],
)  # fmt: skip
def test_what_entries_say_of_place_and_time(entry, row):
    assert parse_json(entry) == ("messages", row)


@pytest.mark.parametrize("entry", [logged(text="a\ud83d"), basic("a\ud83d"), item(message="a\ud83d")])
def test_half_a_surrogate_pair_is_replaced(entry):
    """JSON can carry it, UTF-8 cannot."""
    kind, row = parse_json(json.loads(json.dumps(entry)), FACTS)
    assert kind == "messages" and row[4] in ("a?", "a\ufffd")


@pytest.mark.parametrize(
    "entry",
    [
        *(None, 5, "hi", [], {}, {"x": 1}),
        *(logged(text=5), logged(username=5), logged(raw=5), logged(timestamp=5), logged(channel=5)),
        *(logged(2, text=5), logged(4, f"{SYSTEM} own", {"system-msg": SYSTEM}, channel=[1])),
        *(
            item(author=5),
            item(author=[]) | {"author": [1]},
            item(message=5),
            item(timestamp="x"),
        ),
        *(item(timestamp=[1]), item(timestamp=-1e300), item(message_type="ban_user", banned_user=5)),
        item(timestamp=float("nan")),
        {"author": "a", "message": "hi", "time_in_seconds": "x"},
        {"author": "a", "message": "hi", "time_in_seconds": float("inf")},
    ],
)
def test_other_types_than_the_format_has_are_unreadable(entry):
    assert parse_json(entry, FACTS) == ("unreadable lines", None)


def stop(signum, frame):
    pytest.fail("takes for ever")


def test_an_infinite_number_is_no_time():
    """JSON can write one: 1e999."""
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(5)
    try:
        assert parse_json(item(timestamp=json.loads("1e999")), FACTS) == ("unreadable lines", None)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


keys = st.sampled_from(
    "commenter name login display_name message body fragments text user_badges _id created_at channel_id timestamp "
    "content_offset_seconds raw displayName username tags type channel system-msg systemText author message_type "
    "banned_user ban_duration time_in_seconds streamer video user_name content sender slug isPinned nickname isBot "
    "replayChatItemAction addChatItemAction item liveChatTextMessageRenderer runs authorName simpleText "
    "timestampUsec".split()
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_infinity=False)
    | st.text(max_size=3)
    | st.just("2024-03-07T21:05:09Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)


def messages_of(document):
    return document.get("messages") or document["data"]["messages"]


ENTRIES = [
    entry
    for writer in WRITERS.values()
    if writer.format_name in JSON_FORMATS and writer.write([])[:1] in ("{", "[")
    for document in [json.loads(writer.write(CHAT))]
    for entry in (document if isinstance(document, list) else document.get("comments") or messages_of(document))
    if isinstance(entry, dict)
]


@given(st.sampled_from(ENTRIES), st.dictionaries(keys, values, max_size=4), st.dictionaries(keys, values, max_size=3))
def test_any_json_is_of_some_kind(entry, changes, document):
    """Never a crash, and a row holds text that UTF-8 can carry."""
    facts = gather_facts(document, [entry | changes, changes, None], "c")
    kind, row = parse_json(entry | changes, facts)
    assert kind in KINDS
    assert row is None or [value.encode().decode() for value in row] == row


def test_offsets_of_other_types_tell_nothing():
    """Neither of the channel nor of the time."""
    entry = {"commenter": {"name": "a"}, "created_at": "2024-03-07T21:05:09Z", "content_offset_seconds": "x"}
    assert gather_facts({}, [entry], "c") == DocumentFacts("c")


def test_entries_are_told_apart():
    assert find_json_format(logged()) is find_json_format(basic()) is JSON_FORMATS["justlog and rustlog JSON"]
    assert find_json_format(item()) is find_json_format({"time_in_seconds": 1}) is JSON_FORMATS["chat-downloader JSON"]
    assert find_json_format({"commenter": None}) is JSON_FORMATS["TwitchDownloader JSON"]
    assert [find_json_format(other) for other in ({"a": 1}, [], "commenter", None)] == [None] * 4


@pytest.mark.parametrize(
    "line",
    [
        "[99999999999999:00:00] user: hi",
        "[99999999999999:00:00] <user> hi",
        "[9999999999 days, 0:00:00] <user> hi",
        "99999999999999:00:00 | user: hi",
        "[" + "9" * 5000 + ":00:00] user: hi",
    ],
)
def test_a_time_that_no_video_has_makes_a_line_unreadable(line):
    """And ends neither a bot nor the parsing of a log."""
    assert parse_line(line) == ("unreadable lines", None) and [read.text for read in read_stream([line])] in (
        [line],
        [""],
    )
