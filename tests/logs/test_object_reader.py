"""chatter.logs.object_reader and json_lines: JSON of programs that nobody knows, and lines with several entries."""

import csv
import json
import tempfile
from pathlib import Path

import pytest
from conftest import parse, typed
from hypothesis import given
from hypothesis import strategies as st

from chatter.logs.find_reader import find_reader
from chatter.logs.formats import KINDS
from chatter.logs.json_reader import JsonReader
from chatter.logs.object_reader import ObjectReader


def rows_of(data, folder, file="a.jsonl", **options):
    (Path(folder) / file).write_bytes(data if isinstance(data, bytes) else data.encode())
    counts, unreadable = parse(Path(folder) / file, Path(folder) / "out", **options)
    with (Path(folder) / "out").open(newline="", encoding="utf-8") as rows:
        return [*csv.reader(rows)][1:], +counts, unreadable


def lines(*objects):
    return "".join(f"{json.dumps(each)}\n" for each in objects)


@pytest.mark.parametrize(
    ("entry", "row"),
    [
        ({"text": "hi"}, ["", "", "", "", "hi"]),
        ({"TEXT": "hi", "User": "ann"}, ["", "", "", "ann", "hi"]),
        ({"body": "hi", "author": {"name": "Ann", "id": 5}}, ["", "", "", "Ann", "hi"]),
        ({"content": "hi", "user": {"login": "ann", "name": "Ann"}}, ["", "", "", "ann", "hi"]),
        ({"message": {"text": "hi"}, "sender": {"username": "ann"}}, ["", "", "", "ann", "hi"]),
        ({"message": "hi", "channel": {"name": "c"}, "user": "ann"}, ["", "", "c", "ann", "hi"]),
        ({"message": "hi", "created_at": "2024-03-07T22:05:09.5+01:00"}, ["2024-03-07", "21:05:09", "", "", "hi"]),
        ({"message": "hi", "time": 1709845509123}, ["2024-03-07", "21:05:09", "", "", "hi"]),
        ({"message": "hi", "time": 307.5}, ["", "00:05:07", "", "", "hi"]),
        ({"message": "hi", "tags": ["a"], "raw": None, "displayName": "x"}, ["", "", "", "x", "hi"]),
        ({"message": "\x01ACTION waves\x01", "user": "@ann"}, ["", "", "", "ann", "waves"]),
        ({"message": "a\ud83db"}, ["", "", "", "", "a?b"]),
    ],
)
def test_names_of_values(entry, row, tmp_path):
    assert rows_of(lines(entry, entry), tmp_path)[0] == [row, row]
    assert rows_of(json.dumps([entry, entry]), tmp_path, "a.json")[0] == [row, row]
    nested = {"status": 200, "data": {"messages": [entry, entry]}}
    assert rows_of(json.dumps(nested, indent=1), tmp_path, "b.json")[0] == [row, row]


def test_one_object_without_a_user_is_no_chat(tmp_path):
    """It may be the error of a server."""
    error = '{"message": "Not Found", "status": 404}'
    assert rows_of(error, tmp_path, "a.json")[1] == {"unreadable lines": 1}
    assert isinstance(find_reader(tmp_path / "a.json"), JsonReader)
    assert rows_of('{"message": "hi", "user": "ann"}', tmp_path)[1]["messages"] == 1


def test_columns_that_the_user_names(tmp_path):
    data = lines(*[{"message": "not this", "What": {"now": "hi"}, "who": "ann"}] * 2)
    rows, _, _ = rows_of(data, tmp_path, columns={"message": "what.now", "username": "who"})
    assert rows == [["", "", "", "ann", "hi"]] * 2


def test_the_channel_and_the_day_of_the_file(tmp_path):
    data = lines(*[{"message": "hi", "time": "21:05:09", "channel": ""}] * 2)
    rows, _, _ = rows_of(data, tmp_path, "chan-2024-03-07.jsonl")
    assert rows[0][:3] == ["2024-03-07", "21:05:09", "chan"]


def test_users_who_are_missing_are_counted(tmp_path):
    """They may be people who asked to be left out."""
    entries = [{"user": "ann", "text": "hi"}, {"user": None, "text": "hi"}, {"text": "hi"}, {"user": {}, "text": "hi"}]
    rows, counts, _ = rows_of(lines(*entries), tmp_path)
    assert len(rows) == 1 and counts["entries without a user"] == 3


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("message text user author name time date channel a".split()), inner, max_size=3
        )
    ),
    max_leaves=4,
)


@given(st.lists(values, max_size=6), st.sampled_from([b"", b"\n", b"\xff\n", b"{\n"]))
def test_any_json_conserves_entries(entries, more):
    entries = [{"message": "hi", "user": "ann"}, *entries]
    with tempfile.TemporaryDirectory() as folder:
        rows, counts, unreadable = rows_of(lines(*entries).encode() + more, folder)
        assert isinstance(find_reader(Path(folder, "a.jsonl")), ObjectReader)
        assert sum(counts[kind] for kind in KINDS) == len(entries) + (more != b"")
        assert len(rows) == counts["messages"] and len(unreadable) == min(counts["unreadable lines"], 5)
        _, counts, _ = rows_of(json.dumps(entries), folder, "a.json")
        assert sum(counts[kind] for kind in KINDS) == len(entries)


@given(st.lists(typed, min_size=2))
def test_whatever_is_typed_comes_back(texts):
    texts = [text for text in texts if "\1" not in text] or ["hi"]
    with tempfile.TemporaryDirectory() as folder:
        entries = [{"user": "ann", "text": text} for text in texts]
        for file, data in (("a.jsonl", lines(*entries)), ("a.json", json.dumps(entries, ensure_ascii=False))):
            assert [row[4] for row in rows_of(data, folder, file)[0]] == texts


REPLAY = "replayChatItemAction"


@given(
    st.lists(values | st.fixed_dictionaries({REPLAY: values | st.fixed_dictionaries({"actions": values})}), max_size=6)
)
def test_any_lines_of_actions_are_counted(entries):
    text = {"addChatItemAction": {"item": {"liveChatTextMessageRenderer": {"message": {"simpleText": "hi"}}}}}
    first = {REPLAY: {"actions": [text, text]}}
    with tempfile.TemporaryDirectory() as folder:
        _, counts, _ = rows_of(lines(first, *entries), folder, "a.live_chat.json")
        assert counts["entries without a user"] == 2
        assert sum(counts[kind] for kind in KINDS) >= 2
