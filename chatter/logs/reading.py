"""Read log files in UTF-8, in chunks of whole lines or in blocks, and many files in parallel."""

from __future__ import annotations

import codecs
import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import IO, Any

from chatter.files import text_encoding
from chatter.logs.archives import file_size, open_file
from chatter.logs.unpacking import UnreadableLog, unpack

HEAD_BYTES = 1 << 16  # of a log, from which its format is detected
CHUNK_BYTES = 3 << 20  # bounds memory; 4 MB take a fifth more memory and are not faster
LINE_BYTES = 4 << 20  # bounds memory; no message is nearly as long
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
            raise UnreadableLog(
                f"{log_path} cannot be read: {error.strerror or error}. Make it readable, or move it away."
            ) from error
        raise UnreadableLog(
            f"{log_path} is damaged ({error}). Unpack as much of it as possible by hand, or remove it."
        ) from error


def read_head(log_path: Path, num_bytes: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a log, in UTF-8."""
    with open_log(log_path) as (_, log):
        return log.read(num_bytes)


def read_chunks(log_path: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a log in chunks of whole lines; call `progress` with the bytes of the file that each took.

    Lines of more than LINE_BYTES may be cut. Raises UnreadableLog as `open_log` does, and if the lines end with \\r
    alone.
    """
    head = read_head(log_path)
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        raise UnreadableLog(
            f"the lines of {log_path} end with a carriage return alone. Convert the file, for example with "
            f"tr '\\r' '\\n' < old.txt > new.txt."
        )
    with open_log(log_path) as (file, log):
        position = 0
        while chunk := log.read(CHUNK_BYTES):
            chunk += read_line_end(log)
            yield chunk if position else chunk.removeprefix(codecs.BOM_UTF8)
            progress(file.tell() - position)
            position = file.tell()


def read_line_end(log: IO[bytes]) -> bytes:
    """Read the rest of a line, and return its first LINE_BYTES bytes."""
    end = rest = log.readline(LINE_BYTES)
    while len(rest) == LINE_BYTES and not rest.endswith(b"\n"):
        rest = log.readline(LINE_BYTES)
    if end is rest:
        return end
    whole = end.rstrip(CONTINUATION)  # without the character that was cut
    return (whole[:-1] if whole[-1:] >= b"\xc0" else whole) + b"\n"


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


class Cancelled(Exception):
    """Raised in a thread to end it after another one has failed."""


def map_logs(
    description: str, function: Callable, calls: dict[Path, tuple], jobs: int, num_reads: int = 1
) -> tuple[dict[Path, Any], dict[Path, str]]:
    """Call `function(log, *arguments, progress)` for each log in `jobs` threads, with a progress bar in bytes.

    `calls` maps each log to its arguments. Return what the function returned for each log, and the errors of the logs
    for which it raised UnreadableLog; any other error ends the work. `num_reads` says how often the function reads its
    log. Threads are enough, as polars does most of the work and releases the GIL.
    """
    from tqdm import tqdm

    sizes = {log: file_size(log) for log in calls}
    lock, is_cancelled = Lock(), False
    unreadable = {}
    with (
        tqdm(desc=description, total=num_reads * sum(sizes.values()), unit="B", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(max(min(jobs, len(calls)), 1)) as pool,
    ):

        def progress(num_bytes: int) -> None:
            with lock:
                bar.update(num_bytes)
            if is_cancelled:
                raise Cancelled

        def call(log: Path) -> Any:
            try:
                return function(log, *calls[log], progress)
            except UnreadableLog as error:
                unreadable[log] = str(error)

        # The largest first, so that no large one is left for the end.
        futures = {log: pool.submit(call, log) for log in sorted(calls, key=sizes.get, reverse=True)}
        try:
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises the error, if there is one
            return {log: futures[log].result() for log in calls if log not in unreadable}, unreadable
        finally:
            is_cancelled = True
            pool.shutdown(cancel_futures=True)
