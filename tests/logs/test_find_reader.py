"""chatter.logs.find_reader: files are told apart, and the same chat comes out of each, whatever is typed or damaged."""

import codecs
import csv
import gzip
import json
import re
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import SHARED, needs_shared, parse, typed
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from writers import CHAT, CHERRY, DUCK, OTTER, START, WRITERS, Entry, comments, expected_rows

from chatter.cli import InputError
from chatter.logs.columnar_reader import ColumnarReader
from chatter.logs.csv_reader import CsvReader
from chatter.logs.entries import find_json_format
from chatter.logs.find_reader import find_reader
from chatter.logs.formats import JSON_FORMATS, KINDS, LINE_FORMATS
from chatter.logs.json_documents import split_documents
from chatter.logs.json_lines import SplitReader
from chatter.logs.json_reader import JsonReader
from chatter.logs.object_reader import ObjectReader
from chatter.logs.table_reader import TableReader
from chatter.logs.text_reader import TextReader

BOM = b"\xef\xbb\xbf"
READERS = {"JSON objects": ObjectReader, "Parquet, Arrow and Feather": ColumnarReader}
each_writer = pytest.mark.parametrize("name", WRITERS)


def options(name):
    return {"format_name": "bare"} if name == "bare" else {}


def rows_of(data, file, **options):
    """Return the rows of the CSV that a file becomes, and its counts."""
    with tempfile.TemporaryDirectory() as folder:
        log, table = Path(folder, file), Path(folder, "out")
        log.write_bytes(data if isinstance(data, bytes) else data.encode())
        counts, _ = parse(log, table, **options)
        with table.open(encoding="utf-8", newline="") as rows:
            return [row[:5] for row in csv.reader(rows)][1:], +counts


def test_each_kind_is_listed_once():
    assert len(KINDS) == len({*KINDS})


def num_lines(data):
    return data.count(b"\n") + (not data.endswith(b"\n") and data != b"")


@each_writer
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("bom", [b"", BOM], ids=["", "BOM"])
def test_the_same_chat_comes_out_of_each_format(name, packed, bom):
    writer = WRITERS[name]
    data = bom * (not writer.is_binary) + writer.content(CHAT).removeprefix(BOM)
    rows, counts = rows_of(gzip.compress(data) if packed else data, writer.file + ".gz" * packed, **options(name))
    assert rows == expected_rows(writer, CHAT)
    assert (counts["timeouts"], counts["bans"]) == ((1, 1) if writer.moderation else (0, 0))
    assert counts["unreadable lines"] == 0


@each_writer
def test_each_format_is_told_from_the_others(name, tmp_path):
    writer = WRITERS[name]
    log = tmp_path / writer.file
    log.write_bytes(writer.content(CHAT))
    reader = find_reader(log, **options(name))
    if writer.format_name in LINE_FORMATS:
        assert isinstance(reader, TextReader) and not reader.entries
        assert reader.formats[0] is LINE_FORMATS[writer.format_name]
    elif writer.format_name in JSON_FORMATS:
        is_split = JSON_FORMATS[writer.format_name].split
        kind = SplitReader if is_split else TextReader if writer.write([]) == "" else JsonReader
        assert isinstance(reader, kind)
        entries = reader.entries if kind is TextReader else []
        assert all(find_json_format(entry) is JSON_FORMATS[writer.format_name] for entry in entries)
    else:
        assert isinstance(reader, READERS.get(writer.format_name, CsvReader))
    assert reader.is_known
    assert reader.has_moderation >= writer.moderation
    if reader.has_logins:  # so that --exclude-users finds those it names
        users = {row[3].lower() for row in expected_rows(writer, CHAT)}
        assert users <= {OTTER[0], DUCK[0], CHERRY[0]}


def test_bare_lines_are_read_on_request_only(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(WRITERS["bare"].write(CHAT))
    reader = find_reader(log)
    assert isinstance(reader, TextReader) and not reader.is_known and LINE_FORMATS["bare"] not in reader.formats
    assert rows_of(log.read_bytes(), "log.txt")[1] == {"unreadable lines": 10}


@pytest.mark.parametrize("name", [name for name in WRITERS if WRITERS[name].format_name in LINE_FORMATS])
def test_the_request_for_bare_lines_leaves_files_in_other_formats(name):
    """Whoever follows the advice to pass it for one file keeps the others."""
    writer = WRITERS[name]
    rows, _ = rows_of(writer.write(CHAT), "log.txt", format_name="bare")
    assert rows == (rows_of(writer.write(CHAT), "log.txt")[0] if name != "bare" else expected_rows(writer, CHAT))


# Formats whose entries without text are no messages.
WITHOUT_EMPTY = {
    *("TwitchDownloader JSON", "chat-downloader JSON", "DiscordChatExporter JSON", "DiscordChatExporter CSV"),
    *("yt-dlp's live_chat.json", "Kick JSON"),
}
tricky = st.sampled_from(
    [
        "@loud_yeti has been banned",
        "loud_yeti has been timed out for 600 seconds",
        "has been permanently banned. ",
        "somebody subscribed at Tier 1.",
        "somebody redeemed Hydrate 100",
        "12 raiders from somebody have joined!",
        "twitchnotify: somebody just subscribed! [SubMessage]: hi",
        "(login) <name> (Subscriber) b: c | d",
        "[2024-03-7 21:05:09] #channel somebody: hi",
        "[2024-03-07 21:05:09 UTC] somebody: hi",
        '{"text": "hi", "displayName": "x"}, [], "',
        "# Start logging at 2024-03-07 23:50:00 CET",
        "# Log started: 2024-03-07 23:58:00 +0100",
        "BAN: somebody (600s)",
        "two  blanks ",
        " blank at the beginning",
        "tab\tand, comma; \"quotes\" ''",
        "\\n \\u0041 \\",
        "]",
        ":",
        "*",
    ]
)


def fits(name, text):
    """Return whether a format can hold a text, which no event of its own begins like."""
    if name == "OverRustle" and text.startswith("/me "):
        return False
    if WRITERS[name].format_name in WITHOUT_EMPTY and not text:
        return False  # counted as entries without text
    if name == "WeeChat" and text.startswith("\x01"):
        return False
    if "\x01" in text:  # marks what follows /me
        return False
    return not re.match(r"(?i)nimble_otter|tiny_duck|sakura_b|\d+ raiders from (?:nimble|tiny|sakura)", text)


@each_writer
@given(st.lists(tricky | typed, min_size=1, max_size=12))
@settings(max_examples=25)
def test_whatever_is_typed_comes_back(name, texts):
    users = [OTTER, CHERRY, DUCK]
    kept = [text for text in texts if fits(name, text)]
    assume(kept)
    chat = [Entry(number, "message", *users[number % 3], text) for number, text in enumerate(kept)]
    rows, counts = rows_of(WRITERS[name].write(chat), WRITERS[name].file, **options(name))
    assert rows == expected_rows(WRITERS[name], chat)
    assert counts["messages"] == len(chat)


FILES = {name: writer.content(CHAT) for name, writer in WRITERS.items()}
TABLES_OR_BINARY = {"CSV", "DiscordChatExporter CSV", "Parquet, Arrow and Feather"}
pieces = [
    line + end for data in FILES.values() if b"\n" in data for line in data.split(b"\n")[:4] for end in (b"", b"\n")
]
pieces += [part for data in FILES.values() if b"\n" not in data for part in (data, data[:300], data[-50:])]
pieces += [
    b"\n",
    b"\r\n",
    b"\r",
    b"\xff",
    b"\0",
    b" ",
    BOM,
    b'"',
    b"{",
    b"[",
    b"[{",
    b"}",
    b"]",
    b"[]",
    b"{}",
    b"[[{}]]",
]
pieces += [b"username,message\n", b"u,hi\n", b"message\n", b'u,"a\nb"\n', b"\xff\xfe", b"\x1f\x8b", b"null", b"1e999"]
suffixes = st.sampled_from([".txt", ".json", ".csv", ".tsv", ".txt.gz"])


def num_entries(reader, data):
    """Return how many entries there are in what are lines or a table, and None for documents."""
    if data == BOM:
        return 1  # a line without text
    data = data.removeprefix(BOM)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        data = data.decode("utf-16", errors="replace").encode()
    if isinstance(reader, TextReader):
        return num_lines(data)
    return None if reader.is_known else 1


@given(st.binary() | st.lists(st.sampled_from(pieces), max_size=8).map(b"".join), suffixes)
@example(b"[2024-03-7 21:05:09] #c u: hi\n[{}\n", ".json")
@example(BOM, ".txt")
@example(BOM, ".csv")
@example(BOM, ".json")
@example(codecs.BOM_UTF16_BE, ".txt")
@example("a\nb".encode("utf-16"), ".txt")
def test_any_bytes_conserve_entries(data, suffix):
    """Or are refused with one line that says why."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, f"log{suffix}")
        log.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
        try:
            reader = find_reader(log)
            counts, unreadable = parse(log, Path(folder, "out"))
        except InputError as error:
            assert str(log) in str(error)
            return
    total = sum(counts[kind] for kind in KINDS)
    expected = num_entries(reader, data)
    assert total == expected if expected is not None else total > 0 or isinstance(reader, TableReader) or b"[]" in data
    assert len(unreadable) == min(counts["unreadable lines"], 5)


def complete_elements(data):
    """Return how many elements of its array a JSON document holds, which may be cut short; 0 if it has no array."""
    text = data.decode(errors="ignore")
    key = re.match(r'\[|.*?"(?:comments|messages)": ?\[', text, re.DOTALL)
    decoder, found = json.JSONDecoder(), 0
    position = key.end() if key else len(text)
    while position < len(text) and text[position] != "]":
        try:
            _, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            break
        found += 1
        position += len(re.match(r"[,\s]*", text[position:])[0])
    return found


@each_writer
@given(st.data())
@settings(max_examples=20)
def test_a_file_that_is_cut_short_keeps_what_is_before(name, draw):
    """The entry that is cut is one entry, and all before it are what they were."""
    writer, whole = WRITERS[name], FILES[name]
    data = whole[: draw.draw(st.integers(1, len(whole) - 1))]
    try:
        rows, counts = rows_of(data, writer.file, **options(name))
    except InputError:
        assert writer.format_name in TABLES_OR_BINARY
        return
    expected = expected_rows(writer, CHAT)
    total = sum(counts[kind] for kind in KINDS)
    if writer.format_name in TABLES_OR_BINARY:
        assert total <= len(CHAT)
    elif JSON_FORMATS.get(writer.format_name) and JSON_FORMATS[writer.format_name].split:
        assert total >= num_lines(data.removeprefix(BOM))
    elif whole.count(b"\n") < 2:  # one JSON document
        assert total == complete_elements(data) + 1
        assert rows == expected[: len(rows)] or len(rows) < 2  # too few to tell the channel
        return
    else:
        assert total == (num_lines(data.removeprefix(BOM)) or 1)  # a byte order mark alone is a blank line
    if num_lines(data) > 3:
        assert rows[:-1] == expected[: len(rows) - 1] or name in ("relative", "chat-downloader")


def uploaded(number=6):
    """Return comments of an upload, made within two seconds, over many minutes of the video."""
    chat = [Entry(300 * second, "message", *OTTER, f"message {second}") for second in range(number)]
    written = comments(chat)
    for second, each in enumerate(written):
        each["created_at"] = f"2024-05-01T10:00:0{second % 3}.{second}Z"
    return written


OFFSETS = ["00:00:00", "00:05:00", "00:10:00", "00:15:00", "00:20:00", "00:25:00"]


def test_a_highlight_takes_its_times_from_the_offsets():
    start = f"{START:%Y-%m-%dT%H:%M:%S.123456789Z}"
    rows, _ = rows_of(json.dumps({"video": {"created_at": start}, "comments": uploaded()}), "log.json")
    times = [START + timedelta(minutes=5 * number) for number in range(6)]
    assert [row[:2] for row in rows] == [f"{time:%Y-%m-%d %H:%M:%S}".split() for time in times]


def test_an_upload_that_does_not_say_when_it_began_has_no_dates():
    rows, _ = rows_of(json.dumps(uploaded()), "log.json")
    assert [row[:2] for row in rows] == [["", time] for time in OFFSETS]


def test_comments_of_a_short_time_are_no_highlight():
    """Two seconds of chat are two seconds of offsets."""
    chat = [Entry(number % 3, "message", *OTTER, "hi") for number in range(9)]
    rows, _ = rows_of(
        json.dumps({"video": {"created_at": "2020-01-01T00:00:00Z"}, "comments": comments(chat)}), "a.json"
    )
    assert {row[0] for row in rows} == {"2024-03-07"}


def change(**changes):
    return comments(CHAT[:1])[0] | changes


BODY = {"body": "hi", "fragments": [], "user_badges": None}


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (change(), "messages"),
        (change(message=BODY), "messages"),
        (change(commenter=None), "entries without a user"),
        (change(commenter={}), "entries without a user"),
        (change(message=None), "entries without text"),
        (change(message=BODY | {"body": ""}), "entries without text"),
        (change(message={"body": None, "fragments": [{"text": "h"}, {"text": None}, {"text": "i"}]}), "messages"),
        (change(message={"fragments": None}), "entries without text"),
        (change(message=BODY | {"body": "Nimble_Otter subscribed with Prime. "}), "notices"),
        (change(message=BODY | {"body": "NIMBLE_otter is gifting 5 Tier 1 Subs to X's community!"}), "notices"),
        (change(message=BODY | {"body": "5 raiders from Nimble_Otter have joined!"}), "notices"),
        (change(message=BODY | {"body": "Tiny_Duck subscribed with Prime. "}), "messages"),
        (change(message="hi"), "unreadable lines"),
        (change(commenter="me"), "unreadable lines"),
        (change(commenter={"name": 5}), "unreadable lines"),
        (change(message=BODY | {"body": ["hi"]}), "unreadable lines"),
        (change(created_at=5), "unreadable lines"),
        (change(created_at=None), "messages"),
        (5, "unreadable lines"),
        (None, "unreadable lines"),
        ([], "unreadable lines"),
        ({}, "unreadable lines"),
    ],
)
def test_kinds_of_comments(entry, kind):
    _, counts = rows_of(json.dumps({"comments": [change(), entry]}), "log.json")
    assert counts - Counter(["messages", "messages written"]) == Counter(
        [kind, *(["messages written"] if kind == "messages" else [])]
    )


def streamers(user_badges):
    return [change(message=BODY | {"user_badges": user_badges})]


BROADCASTER = [{"_id": "premium", "version": "1"}, {"_id": "broadcaster", "version": "1"}]


@pytest.mark.parametrize(
    ("document", "file", "channel"),
    [
        ({"streamer": {"login": "A", "name": "b"}, "video": {"user_name": "c"}}, "d-2024-03-07.json", "a"),
        ({"streamer": {"login": None, "name": "B"}, "video": {"user_name": "c"}}, "d-2024-03-07.json", "b"),
        ({"streamer": None, "video": {"user_name": "C"}}, "d-2024-03-07.json", "c"),
        ({"streamer": [], "video": "x", "comments": streamers(BROADCASTER)}, "d-2024-03-07.json", "nimble_otter"),
        ({"comments": streamers(BROADCASTER[:1])}, "D-2024-03-07.json", "d"),
        ({"comments": streamers([5, None, {}])}, "[3-7-24] D - title.json", "d"),
        ({}, "log.json", "77"),
        ({"comments": [change(channel_id=77)]}, "log.json", "77"),
        ({"comments": [change(channel_id=None)]}, "log.json", ""),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before the comments", "after them"])
def test_the_channel_of_comments(document, file, channel, first):
    """What says it best, wherever it stands."""
    entries = {"comments": document.get("comments", streamers(None))}
    document = {key: value for key, value in document.items() if key != "comments"}
    rows, _ = rows_of(json.dumps(document | entries if first else entries | document), file)
    assert [row[2] for row in rows] == [channel]


def test_emotes_behind_the_comments_do_not_matter():
    document = {
        "comments": comments(CHAT[:4]),
        "embeddedData": {"thirdParty": [{"data": "A" * 200_000, "comments": [1]}]},
    }
    rows, counts = rows_of(json.dumps(document), "log.json")
    assert len(rows) == 4 and counts["unreadable lines"] == 0


def test_large_exports_come_in_batches():
    chat = [Entry(number, "message", *OTTER, f"message {number}") for number in range(11_000)]
    writer = WRITERS["TwitchDownloader 1.4.0"]
    rows, _ = rows_of(writer.write(chat), writer.file)
    assert rows == expected_rows(writer, chat)


@pytest.mark.parametrize(
    "document",
    ["{}", '{"a": [1]}', '[{"a": 1}]', '{"comments": [], "name": "x"}', "{", '{"comments": 5}', "{}{}", "[{}]{"],
)
def test_json_without_chat_is_one_unreadable_entry(document, tmp_path):
    (tmp_path / "log.json").write_text(document)
    assert not find_reader(tmp_path / "log.json").is_known
    assert rows_of(document, "log.json") == ([], {"unreadable lines": 1})


@pytest.mark.parametrize(
    "document",
    [
        *("[]", " [ ]\n", '{"comments": []}', '{"messages":[]}', "[][]", '[]\n{"comments": []}\n'),
        '{"FileInfo": {}, "streamer": {"login": "c"}, "video": {}, "comments": [], "embeddedData": {"a": [{}]}}',
    ],
)
def test_an_export_may_be_empty(document, tmp_path):
    (tmp_path / "log.json").write_text(document)
    assert find_reader(tmp_path / "log.json").is_known
    assert rows_of(document, "log.json") == ([], {})


JSON_WRITERS = [name for name, each in WRITERS.items() if each.file == "log.json" and each.format_name in JSON_FORMATS]


@pytest.mark.parametrize("number", [4, 1500], ids=["short", "long"])
@pytest.mark.parametrize("separator", ["", "\n", " \r\n\ufeff"], ids=["none", "line break", "BOM"])
@pytest.mark.parametrize("second", JSON_WRITERS)
def test_documents_are_read_one_after_the_other(number, separator, second):
    """As `cat a.json b.json` joins them, each with its own channel and the start of its own video."""
    chat = [Entry(seconds, "message", *OTTER, f'}} {{ ]["{seconds}" \\') for seconds in range(number)]
    first = WRITERS["TwitchDownloader 1.4.0"]
    other = first.write(chat).replace('"login":"some_channel"', '"login":"other_channel"')
    rows, counts = rows_of(separator.join([first.write(chat), WRITERS[second].write(chat), "[]", other]), "log.json")
    others = [[*row[:2], "other_channel", *row[3:]] for row in expected_rows(first, chat)]
    assert rows == expected_rows(first, chat) + expected_rows(WRITERS[second], chat) + others
    assert counts == {"messages": 3 * number, "messages written": 3 * number}


def test_documents_without_chat_among_others_are_counted():
    chat = WRITERS["v5 array"].write(CHAT[:1])
    rows, counts = rows_of(f'{chat}{{"a": 1}}{{"b": 2}}{chat}[{{"c"', "log.json")
    assert (len(rows), counts["unreadable lines"]) == (2, 2)


@given(st.lists(st.sampled_from([*'{}[]"\\, \n', '"a"', '{"x":"}{"}', '\\"']), max_size=30), st.integers(1, 7))
@example(['{"x":"}{"}'], 1)
def test_documents_are_split_whatever_the_size_of_blocks(parts, size):
    data = "".join(parts).encode()

    def split(size):
        blocks = [(data[place : place + size], 0) for place in range(0, len(data), size)]
        return [b"".join(block for block, _ in document).strip() for document in split_documents(blocks)]

    assert split(size) == split(1000)


def entries_of(file, **options):
    """Return the messages of a real log, as (number, date, time, user in lower case, message), and its events."""
    path = SHARED / "chat" / file
    batches = [*find_reader(path, **options).read(path, lambda num_bytes: None)]
    messages = [row for batch in batches for row in batch.messages.iter_rows()]
    events = Counter(tuple(each.lower() for each in row[1:-1]) for batch in batches for row in batch.events)
    return [(number, date, time, user.lower(), text) for number, date, time, _, user, text in messages], events


def without_numbers(rows):
    return [row[1:] for row in rows]


@needs_shared
def test_a_real_day_of_tcd_is_that_of_justlog():
    """The recording begins at line 50,205 of the other; all of it agrees, but for the case of the names."""
    found, _ = entries_of("tcd/wayneradiotv-2020-04-26T205733Z.tcd")
    expected = [row for row in entries_of("justlog/wayneradiotv-2020-04-26.txt")[0] if row[0] >= 50_204]
    assert without_numbers(found) == without_numbers(expected)[:2924]


@needs_shared
def test_a_real_day_in_a_table_is_that_of_justlog():
    """The table has a blank before each message."""
    table = "tables/handongsuk-2021-06-16.id-contents-viewers-time.csv"
    found, _ = entries_of(table, columns={"username": "id"})
    assert {row[-1][0] for row in found} == {" "}
    expected, _ = entries_of("justlog/handongsuk-2021-06-16.txt")
    assert [(*row[1:-1], row[-1][1:]) for row in found] == without_numbers(expected)[:2999]


@needs_shared
def test_a_real_day_of_chatty_is_that_of_justlog():
    """Messages in order, and the timeouts, whose order within a second differs."""
    found, timeouts = entries_of("chatty/riotgames-2016-09-30.log")
    expected, events = entries_of("justlog/riotgames-2016-09-30.txt")
    assert without_numbers(found) == without_numbers(expected)[:2835]
    assert timeouts <= events and sum(timeouts.values()) == 193
