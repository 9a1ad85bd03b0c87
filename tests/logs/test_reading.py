"""chatter.logs.reading: logs as chunks of whole lines, whatever bytes they hold, and many logs side by side."""

import codecs
import contextlib
import gzip
import json
import tempfile
from pathlib import Path

import pytest
from conftest import parse
from hypothesis import assume, given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.logs.batch import Part
from chatter.logs.find_reader import find_reader
from chatter.logs.formats import KINDS
from chatter.logs.reading import CHUNK_BYTES, LINE_BYTES, divide, open_log, read_chunks
from chatter.logs.text_reader import split_lines
from chatter.logs.unpacking import GZIPPED, ZSTANDARD

BOM = b"\xef\xbb\xbf"
MESSAGE = b"[2024-03-7 21:05:09] #c u: hi\n"


def is_plain(data):
    """Return whether bytes are read as lines of UTF-8: not unpacked, decoded from UTF-16, or refused for lone \\r."""
    has_mark = data.startswith((GZIPPED, ZSTANDARD, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return not has_mark and (b"\n" in data or b"\r" not in data.rstrip(b"\r"))


def chunks_of(log):
    return list(read_chunks(log, lambda num_bytes: None))


@given(st.binary() | st.lists(st.sampled_from([b"ab", b"\n", b"\r\n", b"\xff", BOM])).map(b"".join), st.integers(1, 9))
def test_chunks_are_whole_lines_and_nothing_is_lost(data, chunk_bytes):
    """Except a byte order mark at the beginning, which is no part of the text. Progress adds up to the file."""
    assume(is_plain(data))
    for suffix, stored in {".txt": data, ".log.gz": gzip.compress(data)}.items():
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("chatter.logs.reading.CHUNK_BYTES", chunk_bytes)
            log, progress = Path(folder, f"log{suffix}"), []
            log.write_bytes(stored)
            chunks = list(read_chunks(log, progress.append))
        assert b"".join(chunks) == data.removeprefix(BOM)
        assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])
        assert sum(progress) == len(stored) or not data


@given(
    st.lists(st.sampled_from([b"ab", b"\n", b"\r\n", b"\xff", BOM, b"x" * 30])).map(b"".join),
    st.integers(1, 9),
    st.integers(1, 40),
)
def test_parts_are_whole_lines_and_together_the_log(data, chunk_bytes, part_bytes):
    """Also where a line is longer than a part."""
    assume(is_plain(data))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatter.logs.reading.CHUNK_BYTES", chunk_bytes)
        patch.setattr("chatter.logs.reading.PART_BYTES", part_bytes)
        log = Path(folder, "log.txt")
        log.write_bytes(data)
        parts = divide(log)
        chunks = [b"".join(read_chunks(part, lambda num_bytes: None)) for part in parts]
    assert b"".join(chunks) == data.removeprefix(BOM)
    assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])
    assert len(parts) > 1 or len(data) <= part_bytes + max(len(line) + 1 for line in data.split(b"\n"))


@pytest.mark.parametrize("name", ["log.txt.gz", "utf-16.txt"])
def test_what_cannot_be_cut_is_one_part(name, tmp_path, monkeypatch):
    monkeypatch.setattr("chatter.logs.reading.PART_BYTES", 10)
    data = MESSAGE.decode() * 9
    (tmp_path / name).write_bytes(gzip.compress(data.encode()) if name.endswith("gz") else data.encode("utf-16"))
    assert divide(tmp_path / name) == [Part(tmp_path / name)]


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
    assume(is_plain(data))
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
    assert LINE_BYTES - 1 <= len(first) <= LINE_BYTES + 1  # wherever chunks end


def test_a_line_that_is_cut_is_noted(tmp_path):
    """A chat without line breaks would lose its end unseen, as it is split at the stamps in it."""
    chat = b"[2024-03-07 21:05:09 UTC] u: hi " * (LINE_BYTES // 32 + 1)
    for name, content in {"whole": chat[: LINE_BYTES - 1], "cut": chat + b"\n"}.items():
        (tmp_path / name).write_bytes(content + b"\n" + MESSAGE)
        batches = [*find_reader(tmp_path / name).read(tmp_path / name, lambda num_bytes: None)]
        notes = {note for batch in batches for note in batch.notes}
        assert ("a line of more than 4 MB, of which only the beginning was read" in notes) == (name == "cut")


@pytest.mark.parametrize("before", [0, 1, CHUNK_BYTES - 9, CHUNK_BYTES // 2])
def test_where_a_long_line_is_cut_does_not_depend_on_what_is_before_it(before, tmp_path):
    line = b"x" * (LINE_BYTES + 9)
    (tmp_path / "log.txt").write_bytes(b"a" * before + b"\n" + line + b"\n" + MESSAGE)
    assert b"".join(chunks_of(tmp_path / "log.txt")) == b"a" * before + b"\n" + line[:LINE_BYTES] + b"\n" + MESSAGE


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
    [packed[:-9], packed[:5], packed[:30] + b"\xff" * 9 + packed[39:], packed[:-8] + b"\0" * 8],
    ids=["cut short", "cut in its header", "overwritten", "wrong checksum"],
)
def test_a_damaged_gz_is_an_input_error(damaged, tmp_path):
    (tmp_path / "log.txt.gz").write_bytes(damaged)
    with pytest.raises(InputError, match=r"log\.txt\.gz is damaged .*Unpack as much of it as possible by hand"):
        chunks_of(tmp_path / "log.txt.gz")
