"""Logs that are copies of other logs, which must not be read twice."""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from chatter.logs.archives import open_file
from chatter.logs.file_names import is_table, parse_file_name
from chatter.logs.reading import CHUNK_BYTES, open_log
from chatter.logs.unpacking import GZIPPED, ZSTANDARD, UnreadableLog

ISIZE_BYTES = 4  # the last bytes of a gzipped file: the size of its content, modulo 2**32


def find_copies(logs: Iterable[Path]) -> dict[Path, Path]:
    """Map each log that is a copy of an earlier one to that log.

    A copy has the same content, compressed or not, and its name says the same about the channel, the day and the
    format, unless each line names its channel and day. Only files whose content has the same size are read. Empty logs,
    and logs that cannot be read, are not copies.
    """
    by_size = defaultdict(list)
    for log in logs:
        if size := unpacked_size(log):
            by_size[size, is_table(log)].append(log)
    copies = {}
    for same_size in by_size.values():
        originals = defaultdict(list)  # hash of the content -> logs
        for log in same_size if len(same_size) > 1 else ():
            with contextlib.suppress(UnreadableLog):
                same = others = originals[content_hash(log)]
                if others and not names_channel_and_day(log):
                    same = [each for each in others if parse_file_name(each) == parse_file_name(log)]
                if same:
                    copies[log] = same[0]
                else:
                    others.append(log)
    return copies


def names_channel_and_day(log: Path) -> bool:
    """Return whether the lines of a log name their channel and day, so that the name of the file tells nothing more."""
    from chatter.logs.find_reader import find_reader  # imports polars
    from chatter.logs.formats import justlog
    from chatter.logs.text_reader import TextReader

    reader = find_reader(log)
    return isinstance(reader, TextReader) and reader.is_known and reader.formats[0] is justlog.LINES


def unpacked_size(log: Path) -> int:
    """Return the size of a log's content, modulo 2**32. If several gzipped files were joined, only the last one counts.

    Return 0 if the log cannot be read.
    """
    with contextlib.suppress(OSError, UnreadableLog), open_file(log) as (file, size):
        head = file.read(len(ZSTANDARD))
        if head == ZSTANDARD or (head.startswith(GZIPPED) and not log.is_file()):
            with open_log(log) as (_, content):  # in an archive, the end of a file is not found any faster
                size = sum(map(len, iter(lambda: content.read(CHUNK_BYTES), b"")))
        elif head.startswith(GZIPPED) and size >= ISIZE_BYTES:
            file.seek(-ISIZE_BYTES, 2)
            size = int.from_bytes(file.read(ISIZE_BYTES), "little")
        return size % 2**32
    return 0


def content_hash(log: Path) -> bytes:
    with open_log(log) as (_, content):
        return hashlib.file_digest(content, "blake2b").digest()
