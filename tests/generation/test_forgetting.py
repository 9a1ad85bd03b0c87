"""chatter.generation.forgetting: what moderators remove, in every format of logs, is gone from the chat."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from writers import CHERRY, DUCK, OTTER, WRITERS, Entry

from chatter.generation.forgetting import SeenChat
from chatter.generation.stream_lines import read_stream

# Formats of lines with timeouts.
FORMATS = {
    name: writer
    for name, writer in WRITERS.items()
    if writer.moderation and name not in ("justlog JSON", "justlog JSON without raw")
}
WITHOUT_DELETIONS = {"justlog", "rustlog", "rustlog NDJSON"}
WITHOUT_CLEARS = {"Chatty"}
CERTAIN = {"raw IRC", "justlog", "rustlog", "Chatty", "Chatterino", "old Chatterino"}  # what happened to whom


def see(lines, name="", num_lines=100):
    """Return the chat after these lines."""
    seen = SeenChat(num_lines, name)
    for line in read_stream(lines):
        for removal in line.removals:
            seen.forget(removal)
        if line.text and not line.removals:
            seen.add(line, "")
    return seen


def texts(*lines, **options):
    return see(lines, **options).texts("")


USERS = st.sampled_from([OTTER, DUCK, CHERRY])
EVENTS = st.lists(st.tuples(st.sampled_from(["message"] * 4 + ["timeout", "ban", "clear", "deletion"]), USERS))


@pytest.mark.parametrize("name", FORMATS)
@given(events=EVENTS)
def test_what_was_removed_is_never_seen(name, events):
    """In the formats that say what happened to whom, everything else is seen."""
    chat, gone = [], set()
    for number, (kind, (login, display)) in enumerate(events):
        messages = [each for each in chat if each.kind == "message" and each.text not in gone]
        said = [each for each in messages if kind == "clear" or each.login == login]
        if kind == "deletion":
            said = said[-1:]
            if not said or name in WITHOUT_DELETIONS:
                continue
        if kind == "clear" and name in WITHOUT_CLEARS:
            continue
        if kind != "message":
            gone |= {each.text for each in said}
        text = f"text {number} :" if kind == "message" else said[0].text if kind == "deletion" else ""
        user = ("", "") if kind == "clear" else (login, display)
        chat.append(Entry(number + 1, kind, *user, text))
    left = texts(*FORMATS[name].write(chat).splitlines())
    assert not gone & {*left}
    if name in CERTAIN:
        assert left == [each.text for each in chat if each.kind == "message" and each.text not in gone]


def irc(user, text, number=1, channel="c", **tags):
    tags = ";".join(f"{name.replace('_', '-')}={value}" for name, value in {"id": f"m{number}", **tags}.items())
    return f"@{tags};tmi-sent-ts={1709845509000 + number * 1000} :{user}!{user}@{user} PRIVMSG #{channel} :{text}"


def event(command, number=9, channel="c", who="", **tags):
    tags = ";".join(f"{name.replace('_', '-')}={value}" for name, value in tags.items())
    who = f" :{who}" if who else ""
    return f"@{tags};tmi-sent-ts={1709845509000 + number * 1000} :tmi.twitch.tv {command} #{channel}{who}"


def test_names_of_channels_are_in_any_case():
    said = "[2024-03-07 21:05:09] #SomeChannel ann: bad"
    assert texts(said, "[2024-03-07 21:05:11] #somechannel ann has been banned") == []
    assert texts(said, "[2024-03-07 21:05:11] #SomeChannel ann has been banned") == []


def test_a_deletion_takes_the_message_with_its_id():
    """And no other, even if it is the same text or the message is no longer seen."""
    said = [irc("ann", "same", 1), irc("ann", "same", 2), irc("bob", "same", 3)]
    assert texts(*said, event("CLEARMSG", who="same", login="ann", target_msg_id="m2")) == ["same"] * 2
    assert texts(*said, event("CLEARMSG", who="same", login="ann", target_msg_id="m0")) == ["same"] * 3
    assert texts(*said[:2], "bob's", event("CLEARMSG", who="same", target_msg_id="m1")) == ["same", "bob's"]


def test_json_names_the_deleted_message():
    item = {"message_type": "text_message", "author": {"name": "ann"}}
    said = [item | {"message": f"text {n}", "message_id": f"m{n}", "timestamp": n} for n in range(3)]
    gone = {"message_type": "delete_message", "message": "x", "target_message_id": "m1", "timestamp": 9}
    assert texts(*map(json.dumps, [*said, gone])) == ["text 0", "text 2"]
    said = [{"text": f"text {n}", "id": f"m{n}", "username": "ann", "tags": {}, "type": 1} for n in range(3)]
    gone = {"text": "", "id": "", "displayName": "", "tags": {"target-msg-id": "m1"}}
    for kind in ({}, {"type": 13}):
        assert texts(*map(json.dumps, [*said, gone | kind])) == ["text 0", "text 2"]


@pytest.mark.parametrize("shown", ["x" * 50 + "…", "x" * 60])
def test_a_deleted_text_may_be_cut(shown):
    said = ["[21:05:09] ann: " + "x" * 60 + " \U000e0000", "[21:05:09] ann: y"]
    assert texts(*said, f"[21:05:11] A message from Ann was deleted: {shown}") == ["y"]


UNCLEAR = {
    "a ban of newer versions of justlog": "[2024-03-7 21:05:11] #c ",
    "a deletion without its text": "[21:05] info: [#c] ann's message has been deleted.",
    "a deletion whose text nobody said": "[21:05:11] A message from ann was deleted: something else",
    "a deletion that names nothing": "[21:05:11] ",
    "a deletion in a form that is not known": "[21:05:11] DELETED: ann",
    "a deletion without tags": ":tmi.twitch.tv CLEARMSG #c :one",
    "JSON that does not say who was banned": json.dumps({"message_type": "ban_user", "timestamp": 1}),
    "a deletion in JSON that does not say which": json.dumps({"message_type": "delete_message", "timestamp": 1}),
}


@pytest.mark.parametrize("line", UNCLEAR.values(), ids=UNCLEAR)
def test_if_it_is_not_clear_what_was_removed_nothing_is_left_that_it_may_be(line):
    assert texts("[21:05:09] ann: one", line) == []


OTHER_LINES = {
    "Chatty without days": ("[20:00:00] <ann> one", "[20:00:01] <bob> two", "[20:00:02] BAN: ann (600s), eve"),
    "reasons": ("[20:00:00] <ann> one", "[20:00:01] <bob> two", "[20:00:02] BAN: eve [spam] {2y}, Ann"),
    "a deletion in Chatty": ("[20:00:00] <ann> one", "[20:00:01] <bob> two", "[20:00:02] DELETED: ann (one)"),
    "a moderator's log": ("[20:00:00] ann: one", "[20:00:01] bob: two", "[20:00:02] mod: mod timed out ann for 10m."),
    "a moderator's ban": ("[20:00:00] ann: one", "[20:00:01] bob: two", "[20:00:02] mod banned ann."),
    "a moderator's reason": ("[20:00:00] ann: one", "[20:00:01] bob: two", "[20:00:02] mod: mod banned ann: a reason"),
    "by whom": (
        "[2024-03-07 20:00:00] #c ann: one",
        "[2024-03-07 20:00:01] #c bob: two",
        "[2024-03-07 20:00:02] #c ann has been timed out for 10 minutes by some-mod",
    ),
    "tmi.js": (
        "[20:00] info: [#c] <ann>: one",
        "[20:00] info: [#c] <bob>: two",
        "[20:00] info: [#c] ann has been banned.",
    ),
}


@pytest.mark.parametrize("lines", OTHER_LINES.values(), ids=OTHER_LINES)
def test_lines_that_look_like_messages_of_other_formats(lines):
    assert texts(*lines) == ["two"]


def test_what_people_say_about_bans_is_chat():
    said = ["[2024-03-07 20:00:00] #c ann: @bob has been banned", "[0:01:02] ann: has been timed out for 5", "BAN: ann"]
    assert texts("[0:01:00] bob: hi", *said) == ["hi", "@bob has been banned", "has been timed out for 5", "BAN: ann"]


def test_a_removal_is_for_its_channel():
    said = [irc("ann", "one", 1, "c"), irc("ann", "two", 2, "d")]
    for gone in (event("CLEARCHAT", who="ann"), event("CLEARCHAT", who="ann", ban_duration=600), event("CLEARCHAT")):
        assert texts(*said, gone) == ["two"]
    assert texts(*said, "[20:00:00] ann has been permanently banned. ") == []  # in an unknown channel


def test_lines_without_a_user_may_be_anybodys():
    assert texts("plain", irc("bob", "two"), event("CLEARCHAT", who="ann")) == ["two"]


def test_a_login_and_a_name_in_another_script_may_be_the_same_user():
    said = ["[20:00:00] <さくらんぼ> one", "[20:00:00] <ann> two", "[20:00:01] <bob> three"]
    assert texts(*said, "[20:00:02] BAN: sakura_b (600s)") == ["two", "three"]
    assert texts(*said, "[20:00:02] BAN: ann (600s)") == ["one", "three"]
    assert texts(*said, "[2024-03-07 20:00:02] #c シオリの栞 has been banned") == ["one"]


def test_a_line_that_comes_late_is_not_seen():
    """It was sent before the timeout. What the user says later is seen."""
    gone = event("CLEARCHAT", 9, who="ann", ban_duration=1)
    seen = see([irc("ann", "one", 5), gone, irc("ann", "late", 8), irc("bob", "two", 8), irc("ann", "back", 12)])
    assert seen.texts("") == ["two", "back"]
    deletion = event("CLEARMSG", 9, who="late", login="ann", target_msg_id="m8")
    assert texts(deletion, irc("ann", "late", 8), irc("ann", "late", 7)) == ["late"]
    same_second = ["[2024-03-07 20:00:02] #c ann has been banned", "[2024-03-07 20:00:02] #c ann: back"]
    assert texts(*same_second) == ["back"]


def test_an_answer_goes_with_what_it_answers():
    """It may repeat it. The answers to others stay."""
    seen = SeenChat(100)
    for line in read_stream([irc("ann", "bad", 1), irc("bob", "good", 2)]):
        seen.add(line, "")
        seen.add_answer(f"{line.text}!", line, "")
    [gone] = read_stream([event("CLEARCHAT", who="ann")])
    assert seen.forget(gone.removals[0]) == 2 and seen.texts("") == ["good", "good!"]


def answered(name):
    seen = SeenChat(100, name)
    [line] = read_stream([irc("bob", "hi", 1)])
    seen.add(line, "")
    seen.add_answer("hello", line, "")
    return seen


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([irc("my_bot", "hello", 2)], ["hi", "hello"]),
        ([irc("My_Bot", "hello \U000e0000", 2)], ["hi", "hello"]),
        ([irc("my_bot", "something else", 2)], ["hi", "hello", "something else"]),
        ([irc("eve", "hello", 2)], ["hi", "hello", "hello"]),
        ([irc("my_bot", "hello", 2), event("CLEARMSG", login="my_bot", target_msg_id="m2", who="hello")], ["hi"]),
        ([event("CLEARMSG", login="my_bot", target_msg_id="m2", who="hello")], ["hi"]),
        ([event("CLEARCHAT", who="my_bot")], ["hi"]),
        ([event("CLEARCHAT", who="eve")], ["hi", "hello"]),
        ([event("CLEARCHAT", who="bob"), irc("my_bot", "hello", 2)], []),
        ([event("CLEARCHAT", who="bob"), irc("my_bot", "hello", 2), irc("my_bot", "hello", 3)], ["hello"]),
        ([event("CLEARCHAT", who="bob"), irc("my_bot", "something else", 2)], ["something else"]),
        ([event("CLEARCHAT")], []),
    ],
)
def test_its_own_messages(lines, left):
    """An echo is not seen twice; a removal of its own messages counts, too."""
    seen = answered("my_bot")
    for line in read_stream(lines):
        for removal in line.removals:
            seen.forget(removal)
        if line.text:
            seen.add(line, "")
    assert seen.texts("") == left


def test_only_the_newest_lines_are_seen_and_another_model_keeps_them():
    seen = see([f"line {n}" for n in range(10)], num_lines=4)
    assert seen.texts("") == [f"line {n}" for n in range(6, 10)]
    seen.resize(2)
    assert seen.texts("") == ["line 8", "line 9"]
