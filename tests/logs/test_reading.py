"""chatter.logs.reading: logs as chunks of whole lines, whatever bytes they hold, and many logs side by side."""

import contextlib
import gzip
import json
import tempfile
import threading
import time
from pathlib import Path

import pytest
from conftest import parse
from hypothesis import assume, given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.logs.formats import KINDS
from chatter.logs.reading import CHUNK_BYTES, LINE_BYTES, UnreadableLog, map_logs, open_log, read_chunks
from chatter.logs.text_reader import split_lines

BOM = b"\xef\xbb\xbf"
GZIPPED = b"\x1f\x8b\x08"  # how a gzipped file begins
MESSAGE = b"[2024-03-7 21:05:09] #c u: hi\n"


def is_refused(data):
    """Return whether the lines of a log end with \\r alone."""
    return b"\n" not in data and b"\r" in data.rstrip(b"\r")


def chunks_of(log):
    return list(read_chunks(log, lambda num_bytes: None))


@given(st.binary() | st.lists(st.sampled_from([b"ab", b"\n", b"\r\n", b"\xff", BOM])).map(b"".join), st.integers(1, 9))
def test_chunks_are_whole_lines_and_nothing_is_lost(data, chunk_bytes):
    """Except a byte order mark at the beginning, which is no part of the text. Progress adds up to the file."""
    assume(not data.startswith(GZIPPED) and not is_refused(data))
    for suffix, stored in {".txt": data, ".log.gz": gzip.compress(data)}.items():
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("chatter.logs.reading.CHUNK_BYTES", chunk_bytes)
            log, progress = Path(folder, f"log{suffix}"), []
            log.write_bytes(stored)
            chunks = list(read_chunks(log, progress.append))
        assert b"".join(chunks) == data.removeprefix(BOM)
        assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])
        assert sum(progress) == len(stored) or not data


def test_a_large_log_comes_in_chunks_that_bound_memory(tmp_path):
    (tmp_path / "log.txt").write_bytes(MESSAGE * 300_000)
    chunks = chunks_of(tmp_path / "log.txt")
    assert len(chunks) == 3 and max(map(len, chunks)) < CHUNK_BYTES + len(MESSAGE)


@pytest.mark.parametrize(
    ("chunk", "lines", "num_invalid"),
    [
        (b"a\nb", ["a", "b"], 0),
        (b"a\r\n\r\n b \n", ["a", "", " b "], 0),
        (b"\n\n", ["", ""], 0),
        ("a\rb\x85c\u2028d\x0be\0\n".encode(), ["a\rb\x85c\u2028d\x0be\0"], 0),
        ("ünï 😂\n".encode(), ["ünï 😂"], 0),
        (b"a\xffb\nc\n\xc3\r\n\xed\xa0\x80\n", ["a\ufffdb", "c", "\ufffd", "\ufffd" * 3], 3),
    ],
)
def test_lines_end_where_loggers_end_them_and_are_utf_8(chunk, lines, num_invalid):
    found, invalid = split_lines(chunk)
    assert (found.to_list(), invalid) == (lines, num_invalid)


def is_empty_export(data):
    with contextlib.suppress(ValueError):
        return json.loads(data) == []
    return False


@given(st.binary() | st.lists(st.sampled_from([*MESSAGE.split(b":", 1), MESSAGE, b"\n", b"\0", b"\xff"])).map(b"".join))
def test_any_bytes_conserve_lines(data):
    """Every line of a log is counted once, as one of the kinds."""
    assume(not data.startswith(GZIPPED) and not is_refused(data))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        log.write_bytes(data)
        counts, _ = parse(log, Path(folder, "log.csv"))
        num_lines = len(data.split(b"\n")) - data.endswith(b"\n") - (not data)
        assert sum(counts[kind] for kind in KINDS) == (0 if is_empty_export(data) else num_lines)


def test_a_byte_order_mark_does_not_hide_the_first_message(tmp_path):
    """Windows editors write one at the beginning of a file."""
    (tmp_path / "log.txt").write_bytes(BOM + MESSAGE)
    counts, _ = parse(tmp_path / "log.txt", tmp_path / "log.csv")
    assert counts["messages written"] == 1


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_long_line_is_cut_between_characters_and_the_next_is_whole(size, tmp_path):
    (tmp_path / "log.txt").write_bytes("я".encode() * (2 * CHUNK_BYTES) + b"x" * size + b"\n" + MESSAGE)
    first, second = b"".join(chunks_of(tmp_path / "log.txt")).splitlines(keepends=True)
    assert second == MESSAGE and {*first.decode()} <= {*"яx\n"}
    assert LINE_BYTES <= len(first) <= CHUNK_BYTES + LINE_BYTES + 1


@given(st.text(), st.sampled_from(["utf-16-le", "utf-16-be"]), st.sampled_from([b"", b"\0"]), st.booleans())
def test_utf_16_is_read_by_its_mark(text, encoding, half_a_character, packed):
    """Half a character at the end, and half a pair, are not valid in UTF-8 either."""
    data = f"\ufeff{text}".encode(encoding) + half_a_character
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        log.write_bytes(gzip.compress(data) if packed else data)
        with open_log(log) as (_, content):
            assert content.read() == text.encode() + b"\xff" * len(half_a_character)
        log.write_bytes(b"\xff\xfea\0\x00\xd8b\0")
        with open_log(log) as (_, content):
            assert content.read() == b"a\xed\xa0\x80b"


packed = gzip.compress(MESSAGE * 1000, mtime=0)


@pytest.mark.parametrize(
    "damaged",
    [packed[:-9], packed[:5], b"no gzip at all", packed[:30] + b"\xff" * 9 + packed[39:], packed[:-8] + b"\0" * 8],
    ids=["cut short", "cut in its header", "plain text", "overwritten", "wrong checksum"],
)
def test_a_damaged_gz_is_an_input_error(damaged, tmp_path):
    (tmp_path / "log.txt.gz").write_bytes(damaged)
    with pytest.raises(InputError, match=r"log\.txt\.gz is damaged .*Unpack as much of it as possible by hand"):
        chunks_of(tmp_path / "log.txt.gz")


@pytest.fixture
def logs(tmp_path):
    """Five logs, of 0 to 4 bytes."""
    paths = [tmp_path / f"{size}.txt" for size in range(5)]
    for size, path in enumerate(paths):
        path.write_bytes(b"x" * size)
    return paths


@pytest.mark.parametrize("jobs", [1, 3])
def test_map_logs_gives_each_log_its_arguments_and_keeps_the_order(logs, jobs):
    def function(log, *arguments_and_progress):
        *arguments, progress = arguments_and_progress
        progress(log.stat().st_size)
        return log.stem, *arguments

    calls = {log: ("argument", len(log.name)) for log in logs}
    results, unreadable = map_logs("testing", function, calls, jobs)
    assert [*results.items()] == [(log, (log.stem, "argument", len(log.name))) for log in logs] and unreadable == {}


@pytest.mark.parametrize("jobs", [1, 3])
def test_map_logs_reports_unreadable_logs_and_goes_on(logs, jobs):
    def function(log, progress):
        if log.stem in "13":
            raise UnreadableLog(f"{log.name} is damaged")
        return log.stem

    results, unreadable = map_logs("testing", function, dict.fromkeys(logs, ()), jobs)
    assert [*results.values()] == ["0", "2", "4"]
    assert unreadable == {logs[1]: "1.txt is damaged", logs[3]: "3.txt is damaged"}


def test_map_logs_begins_with_the_largest(logs):
    order = []
    map_logs("testing", lambda log, progress: order.append(log), dict.fromkeys(logs, ()), 1)
    assert order == logs[::-1]


@pytest.mark.parametrize("reverse", [True, False], ids=["first", "last"])
def test_an_error_with_one_log_ends_the_work_on_the_others(logs, reverse):
    """The largest log fails, wherever it stands in the order: what runs ends with its next chunk, the rest is left."""
    running, begun, finished = threading.Barrier(2), [], []

    def function(log, progress):
        begun.append(log)
        if log in logs[3:]:
            running.wait(60)
        if log == logs[4]:
            raise InputError("damaged")
        for _ in range(100):  # chunks
            time.sleep(0.02)
            progress(0)
        finished.append(log)

    with pytest.raises(InputError, match="damaged"):
        map_logs("testing", function, dict.fromkeys(sorted(logs, reverse=reverse), ()), 2)
    assert {*begun} <= {*logs[2:]} and not finished
