"""Read log files in UTF-8, in chunks of whole lines or in blocks, and divide them into parts of whole lines."""

from __future__ import annotations

import codecs
import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from chatter.logs.archives import open_file
from chatter.logs.batch import Part
from chatter.logs.unpacking import UnreadableLog, unpack, unreadable
from chatter.text_files import text_encoding

HEAD_BYTES = 1 << 16  # of a log, from which its format is detected
CHUNK_BYTES = 3 << 20  # bounds memory; 4 MB take a fifth more memory and are not faster
LINE_BYTES = 4 << 20  # bounds memory; no message is nearly as long
PART_BYTES = 8 << 20  # of a log that several processes parse: smaller ones cost more, larger ones are left for the end
BLOCK_BYTES = 1 << 16  # of JSON: larger ones take longer to read
CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of a UTF-8 character after its first one


class FromUtf16(io.RawIOBase):
    """A stream in UTF-16 as UTF-8. What is not valid in UTF-16 becomes bytes that are not valid in UTF-8."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.left = stream, b""
        self.decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self.left and (block := self.stream.read(BLOCK_BYTES)):
            self.left = self.decoder.decode(block).encode("utf-8", "surrogatepass")
        if not self.left and self.decoder.getstate()[0]:  # half a character at the end
            self.decoder.reset()
            self.left = b"\xff"
        size = min(len(buffer), len(self.left))
        buffer[:size], self.left = self.left[:size], self.left[size:]
        return size


@contextlib.contextmanager
def open_log(log_path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a log, compressed or not, whatever its name is. Yield the file, and its unpacked content in UTF-8.

    UTF-16 with a byte order mark is converted; other bytes stay as they are. Raises UnreadableLog if the file cannot be
    read or a compressed file is damaged, also later while it is read.
    """
    try:
        with open_file(log_path) as (file, size):
            log = unpack(file, log_path, size)
            is_utf16 = text_encoding(log.peek(2)[:2]) == "utf-16"
            yield file, io.BufferedReader(FromUtf16(log)) if is_utf16 else log
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno:
            raise unreadable(log_path, error) from error
        raise UnreadableLog(
            f"{log_path} is damaged ({error}). Unpack as much of it as possible by hand, or remove it."
        ) from error


def read_head(log_path: Path, num_bytes: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a log, in UTF-8 without a byte order mark."""
    with open_log(log_path) as (_, log):
        return log.read(num_bytes).removeprefix(codecs.BOM_UTF8)


def divide(log_path: Path) -> list[Part]:
    """Return parts of about PART_BYTES in order; one part if the log is gzipped or in UTF-16."""
    with open_log(log_path) as (file, log):
        if log is not file or not log_path.is_file():  # or in an archive, where seeking is slow
            return [Part(log_path)]
        begins, size = [0], file.seek(0, io.SEEK_END)
        for place in range(PART_BYTES, size, PART_BYTES):
            if place > begins[-1]:
                file.seek(place)
                skip_line(file)
                begins.append(file.tell())
    ends = [*begins[1:], None]
    return [Part(log_path, *each) for each in zip(begins, ends, strict=True) if each[0] < size or not each[0]]


def read_chunks(
    part: Path | Part, progress: Callable[[int], None], note: Callable[[str], None] = lambda text: None
) -> Iterator[bytes]:
    """Yield a log or a part of it in chunks of whole lines; call `progress` with the bytes of the file that each took.

    Lines are cut after LINE_BYTES; `note` is called with a text about that. Raises UnreadableLog as `open_log` does,
    and if the lines end with \\r alone.
    """
    part = part if isinstance(part, Part) else Part(part)
    head = read_head(part.log)
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        raise UnreadableLog(
            f"{part.log} has lines that end with a carriage return alone. Convert the file, for example with "
            f"tr '\\r' '\\n' < old.txt > new.txt."
        )
    with open_log(part.log) as (file, log):
        position = part.begin
        if position:
            log.seek(position)
        while chunk := log.read(CHUNK_BYTES if part.end is None else min(CHUNK_BYTES, part.end - position)):
            end, is_cut = read_line_end(log, chunk)
            chunk += end
            if is_cut:
                note(f"a line of more than {LINE_BYTES >> 20} MB, of which only the beginning was read")
            yield chunk if position else chunk.removeprefix(codecs.BOM_UTF8)
            progress(file.tell() - position)
            position = file.tell()


def read_line_end(log: IO[bytes], chunk: bytes) -> tuple[bytes, bool]:
    """Read the rest of the last line in a chunk.

    Return what of it belongs to the line's first LINE_BYTES bytes, and whether there was more.
    """
    num_read = len(chunk) - chunk.rfind(b"\n") - 1
    if not num_read:
        return b"", False
    end = log.readline(LINE_BYTES - num_read)
    if end.endswith(b"\n") or len(end) < LINE_BYTES - num_read:
        return end, False
    skip_line(log)
    whole = end.rstrip(CONTINUATION)  # without the character that was cut
    return (whole[:-1] if whole[-1:] >= b"\xc0" else whole) + b"\n", True


def skip_line(log: IO[bytes]) -> None:
    """Read the rest of a line, however long it is."""
    while (rest := log.readline(CHUNK_BYTES)) and not rest.endswith(b"\n"):
        pass


def read_blocks(log_path: Path, progress: Callable[[int], None]) -> Iterator[tuple[bytes, int]]:
    """Yield a file in blocks of UTF-8, split anywhere, each with the number of places that were not UTF-8.

    Bytes that are not UTF-8 become U+FFFD. `progress` is as in `read_chunks`. Raises UnreadableLog as `open_log` does.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    with open_log(log_path) as (file, log):
        position = 0
        while block := log.read(BLOCK_BYTES):
            text = decoder.decode(block)
            yield text.encode(), text.count("\ufffd") - block.count("\ufffd".encode())
            progress(file.tell() - position)
            position = file.tell()
        if rest := decoder.decode(b"", final=True):
            yield rest.encode(), 1


class BlockFile:
    """A file object for ijson that reads blocks of `read_blocks`."""

    def __init__(self, blocks: Iterator[tuple[bytes, int]]):
        self.blocks = blocks
        self.num_invalid = 0  # places that were not in UTF-8

    def read(self, size: int) -> bytes:
        """Return the next block, ignoring `size`; b"" at the end, or if `size` is 0."""
        block = b""
        while size and not block:  # an empty block would be the end
            block, num_invalid = next(self.blocks, (None, 0))
            self.num_invalid += num_invalid
            if block is None:
                return b""
        return block
