"""chatter.generation.chat_input: what was typed is read from plain lines and from logs of every format."""

import csv
import io
import json

import polars as pl
import pytest
from conftest import log_line, run, typed
from hypothesis import given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.generation.chat_input import CurrentChannel, read_lines, read_typed
from chatter.logs.batch import FIELDS
from chatter.tokens.chat import clean


def test_a_chat_is_read_from_plain_lines_or_logs():
    lines = b"hello\r\n\n[2024-03-7 21:05:09] #c u: hi\n[2024-03-7 21:05:11] #c u has been banned\n\xff\xfe\0 bytes\n"
    irc = b"@tmi-sent-ts=1709845509000 :u!u@u PRIVMSG #c :raw\r\nPING :tmi.twitch.tv\r\nlast"
    chat = [text for text in read_typed(read_lines(io.BytesIO(lines + irc))) if clean(text)]
    assert chat == ["hello", "hi", "\ufffd\ufffd\0 bytes", "raw", "last"]


def test_a_long_line_is_one_line():
    """It is cut; what follows is not read as more lines."""
    lines = [b"x" * 200_000 + b" tail\n", b"y" * (1 << 16) + b"\n", b"z\n"]
    assert [len(line) for line in read_lines(io.BytesIO(b"".join(lines)))] == [1 << 16, 1 << 16, 1]


def test_what_looks_like_irc_may_be_chat(parrot):
    """A line is dropped only if nobody could have typed it."""
    chat = ["PING", ":D LUL nice", "PART of me wants that", "NOTICE me senpai", "@bob: hi", "Chat has been cleared"]
    irc = [
        "PING :tmi.twitch.tv",
        ":tmi.twitch.tv 001 bot :Welcome, GLHF!",
        ":u!u@u.tmi.twitch.tv JOIN #c",
        "@room-id=1 :tmi.twitch.tv ROOMSTATE #c",
        "@ban-duration=600;tmi-sent-ts=1709845509000 :tmi.twitch.tv CLEARCHAT #c :u",
    ]
    assert [*read_typed(chat)] == chat
    assert [*read_typed(irc)] == [""] * len(irc)
    stamped = "2024-03-07_21:05:09 - :u!u@u.tmi.twitch.tv PRIVMSG #c :hello"
    shared = "@room-id=1;source-room-id=2 :u!u@u PRIVMSG #c :hello"
    lines = [":u!u@u.tmi.twitch.tv PRIVMSG #c :hello", "@id=1 :u!u@u PRIVMSG #c :hello", stamped, shared]
    assert [*read_typed(lines)] == ["hello"] * 4


def test_lines_of_every_format_are_read_and_those_of_unknown_formats_ignored(capsys):
    lines = [
        "[2024-03-07 21:05:09 UTC] u: one",
        "[0:01:02] u: two",
        "[12:04:06] <@u> three",
        json.dumps({"message_type": "text_message", "author": {"name": "u"}, "message": "four", "timestamp": 1}),
        json.dumps({"text": "five", "username": "u", "type": 1, "tags": {}, "timestamp": "2024-03-07T21:05:09Z"}),
    ]
    assert [*read_typed(lines)] == ["one", "two", "three", "four", "five"]
    typed = [
        "at 12:30 it ends: now",
        "12:30",
        "12:30 is late",
        "#1",
        "-",
        "3:2 bob: we lost",
        "{curly}",
        "score 3:02 > all",
    ]
    assert [*read_typed(typed)] == typed
    assert capsys.readouterr().err == ""
    unknown = ["2021-06-15 18:55:59,873\tbob: hi", "18:55 -> bob: hi", "(18:55:01) bob> hi"]
    assert [*read_typed(unknown)] == [""] * 3
    assert capsys.readouterr().err == f"ignoring lines of a log in an unknown format, such as {unknown[0]!r}\n"


def test_rows_with_the_number_of_a_stream_and_entries_with_a_nickname():
    discord = {"type": "Default", "isPinned": False, "content": "two", "author": {"name": "u", "nickname": "U"}}
    lines = ["date,time,channel,username,message,session", "2024-03-07,21:05:09,c,u,one,7", json.dumps(discord)]
    assert [*read_typed(lines)] == ["", "one", "two"]


def csv_of(rows, write):
    """Return the lines of a CSV."""
    file = io.BytesIO()
    write(file, rows)
    return [*read_lines(io.BytesIO(file.getvalue()))]


def write_as_parse_logs(file, rows):
    pl.DataFrame(rows, FIELDS, orient="row").write_csv(file)


def write_as_others(quoting):
    def write(file, rows):
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")
        csv.writer(text, quoting=quoting).writerows([FIELDS, *rows])
        text.detach()

    return write


DATED = ["2024-03-07", "21:05:09"]
ROWS = st.tuples(
    st.sampled_from([DATED, ["", ""], ["", "00:01:02"], [DATED[0], ""]]), st.sampled_from(["", "somechannel"]), typed
).map(lambda row: [*row[0], row[1], "nimble_otter", row[2]])


@pytest.mark.parametrize(
    "write", [write_as_parse_logs, write_as_others(csv.QUOTE_MINIMAL), write_as_others(csv.QUOTE_ALL)]
)
@given(rows=st.lists(ROWS, min_size=1))
def test_rows_of_parse_logs_are_messages(write, rows):
    heard = []
    *messages, last = read_typed(csv_of(rows, write), heard.append)
    assert messages[0] == "" and [*messages[1:], last] == [row[-1] for row in rows]
    assert [*filter(None, heard)] == [row[2] for row in rows if row[2]]


def test_the_end_of_a_csv_is_read_without_its_header(random_model):
    lines = csv_of([[*DATED, "c", "u", text] for text in ("one", 'two, "three"')], write_as_parse_logs)
    done = run("generate.py", "-", "--json", "--model", random_model, stdin="\n".join(lines[1:]), check=False)
    assert json.loads(done.stdout)["prompt"] == 'one\ntwo, "three"'


def test_a_message_of_several_lines_is_read_at_its_last_one():
    rows = [[*DATED, "c", "u", 'one "two"\nthree'], [*DATED, "c", "u", "\n\nfour\n"], [*DATED, "c", "u", "five"]]
    assert [*read_typed(csv_of(rows, write_as_parse_logs))] == ["", "", rows[0][-1], "", "", "", rows[1][-1], "five"]


def test_a_quote_that_is_never_closed_does_not_swallow_the_chat():
    row = '2024-03-07,21:05:09,c,u,"'
    assert [*read_typed([row + "one", row + 'two"'])] == ["", "two"]
    assert [*read_typed([row, *["hi"] * 25])] == ["", *[""] * 19, *["hi"] * 6]


def test_lines_that_people_type_are_no_rows(capsys):
    lines = [",,,", ", , a, b, c", '"",""', ',, he said "hi', "2024-03-07, at noon", "a,b,c,d,e", "7/3/2024 12:30, ok?"]
    assert [*read_typed(lines)] == lines and capsys.readouterr().err == ""


def test_rows_of_other_tables_are_ignored(capsys):
    lines = ["2024-03-07 21:05:09,u,hi", '"2024-03-07T21:05:09Z";"u";"hi"', "2024-03-07\t21:05:09\tu\thi"]
    assert [*read_typed([*lines, "2024-03-07,21:05:09,c,u,not, quoted"])] == [""] * 4
    assert capsys.readouterr().err == f"ignoring lines of a log in an unknown format, such as {lines[0]!r}\n"


def test_json_in_an_unknown_format_is_ignored(capsys):
    """A document of a whole stream in one line would fill the chat. {} is what somebody may type."""
    lines = ['{"foo": 1}', '{"comments": []}', "{}", "{1}"]
    assert [*read_typed(lines)] == ["", "", "{}", "{1}"]
    assert capsys.readouterr().err == f"ignoring lines of a log in an unknown format, such as {lines[0]!r}\n"


def test_the_live_chat_of_youtube():
    """One object has several actions; the last message counts."""

    def item(text):
        renderer = {"message": {"runs": [{"text": text}]}, "authorName": {"simpleText": "@u"}, "timestampUsec": "1"}
        return {"addChatItemAction": {"item": {"liveChatTextMessageRenderer": renderer}}}

    ticker, damaged = {"addLiveChatTickerItemAction": {}}, {"replayChatItemAction": {"actions": 3}}
    lines = [
        {"replayChatItemAction": {"actions": actions, "videoOffsetTimeMsec": "1"}}
        for actions in ([item("one")], [item("two"), item("three"), ticker], [ticker], [])
    ]
    assert [*read_typed(map(json.dumps, [*lines, damaged]))] == ["one", "three", "", "", ""]


def test_a_long_line_of_json_is_read_to_its_end():
    line = json.dumps({"author": "u", "message": "hi", "emotes": ["x" * 100] * 3000}).encode() + b"\n"
    assert len(line) > 1 << 16
    assert [*read_typed(read_lines(io.BytesIO(line + b"next\n")))] == ["hi", "next"]


@pytest.mark.parametrize(
    ("channels", "wanted", "lines", "header", "is_said"),
    [
        ([], "", [log_line("beta", "x")], "", False),
        (["alpha"], "", ["x"], "#alpha", False),
        (["alpha", "beta"], "#BETA", [log_line("alpha", "x")], "#beta", False),
        (["alpha", "beta"], "", [log_line("alpha", "x"), log_line("BETA", "x")], "#beta", False),
        (["alpha", "beta"], "", [log_line("beta", "x"), "x"], "#beta", False),
        (["alpha", "beta"], "", ["x"], "#alpha", True),
        (["alpha", "beta"], "", [log_line("beta", "x"), log_line("elsewhere", "x")], "#alpha", True),
    ],
)
def test_which_channel_it_is(channels, wanted, lines, header, is_said, capsys):
    channel = CurrentChannel(channels, wanted)
    assert [*read_typed(lines, channel.hear)] == ["x"] * len(lines)
    assert [channel.header(), channel.header()] == [header, header]
    said = "speaking in alpha; pass --channel to speak in beta\n" if is_said else ""
    assert capsys.readouterr().err == said


def test_channels_that_there_are_not():
    with pytest.raises(InputError, match=r"the model does not know the channel 'gamma'\. Pass one of alpha, beta\."):
        CurrentChannel(["alpha", "beta"], "gamma")
    with pytest.raises(InputError, match=r"was not trained with channels\. Leave out --channel"):
        CurrentChannel([], "gamma")


def log_line(channel, message):
    return f"[2024-03-7 21:05:09] #{channel} u: {message}"
