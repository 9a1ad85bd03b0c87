"""chatter.logs.unknown: what is not known is refused with its first line, the nearest formats, and what to pass."""

import json

import pytest
from conftest import error_of, run

from chatter.logs.entries import find_json_format, parse_line
from chatter.logs.formats import AUTOMATIC_FORMATS, JSON_FORMATS
from chatter.logs.unknown import EXAMPLES, describe_unknown, find_nearest


def test_every_format_has_an_example_that_is_a_message():
    for name, line_format in AUTOMATIC_FORMATS.items():
        assert parse_line(EXAMPLES[name], [line_format])[0] == "messages", name


@pytest.mark.parametrize("name", JSON_FORMATS)
def test_every_json_format_has_an_example_of_it(name):
    document = json.loads(EXAMPLES[name])
    entries = document.get("comments") or document.get("messages") or document.get("data", {}).get("messages")
    entry = entries[0] if entries else document
    if name != "DiscordChatExporter JSON":  # whose objects have keys that the example leaves out
        assert find_json_format(entry) is JSON_FORMATS[name]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("[2024/03/07 21:05:09] #channel user: hi", "justlog and rustlog"),
        ("(0:05:09) <User> hello", "tcd"),
        ("[21.05.09] <user> hi", "ZNC"),
        ("21:05 : user > hi there", "irssi"),
        ("07.03.2024 21:05:09\tann\thi", "WeeChat"),
        ("5:09 - User: message", "chat-downloader"),
        ('{"commenter": {"nick": "x"}, "body": "hi", "created": 5}', "TwitchDownloader JSON"),
        ('{"sender": {"slug": "x"}, "words": "hi", "type": 5}', "Kick JSON"),
        ('[{"time": 5, "username": "x", "words": "hi"}', "JSON objects"),
    ],
)
def test_the_nearest_formats(line, name):
    assert len(nearest := find_nearest(line)) == 3 and name in nearest


@pytest.mark.parametrize(
    ("file", "content", "advice"),
    [
        ("a.txt", "ann: hello\nbob: hi\n", "If its lines are `user: message`, pass --format bare."),
        ("a.txt", "buy milk\n", "Convert it to one of these, or to a CSV with the columns time, username and message."),
        ("a.csv", "Who;What\nann;hi\n", "If one of who, what contains messages, pass its name with --columns message="),
        ("a.jsonl", '{"who": "ann", "what": "hi"}\n' * 2, "If one of who, what contains messages, pass its name with"),
        ("a.json", '[{"who": "ann", "what": {"now": "hi"}}]', "If one of who, what.now contains messages, pass its"),
    ],
)
def test_the_advice(file, content, advice, tmp_path):
    (tmp_path / file).write_text(content)
    sentence = describe_unknown(tmp_path / file)
    begin = content.split("\n")[0]
    assert sentence.startswith(f"{tmp_path / file} begins {begin!r}. The nearest formats are ") and advice in sentence


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"\0\1\2\xff" * 100, b"{" * 1000, b"[" * 1000, b'{"a": [[[[', b"{}"]
)
def test_any_file_can_be_described(content, tmp_path):
    for suffix in ("txt", "csv", "json"):
        (tmp_path / f"a.{suffix}").write_bytes(content)
        assert "The nearest formats are" in describe_unknown(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize(
    ("file", "content", "option"),
    [
        ("a.txt", "ann: hello\n", ["--format", "bare"]),
        ("a.csv", "Who;What\nann;hello\n", ["--columns", "message=What,username=Who"]),
        ("a.jsonl", '{"who": "ann", "what": "hello"}\n' * 2, ["--columns", "message=what"]),
        ("a.json", '[{"who": "ann", "what": {"now": "hello"}}]', ["--columns", "username=who,message=what.now"]),
    ],
)
def test_the_advice_helps(file, content, option, tmp_path):
    (tmp_path / file).write_text(content)
    arguments = ["--logs-dir", tmp_path, "--output-dir", tmp_path / "raw"]
    message = error_of("parse_logs.py", *arguments)
    assert ("no chat messages in" in message and f"pass {option[0]}" in message) or f"with {option[0]}" in message
    run("parse_logs.py", *arguments, *option)
    assert "hello" in (tmp_path / "raw/a.csv").read_text()
