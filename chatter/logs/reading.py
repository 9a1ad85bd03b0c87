"""Read log files in chunks of whole lines or in blocks, and many files in parallel."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import IO, Any

from chatter.cli import InputError
from chatter.files import text_encoding

HEAD_BYTES = 1 << 16  # of a log, from which its encoding and its format are detected
CHUNK_BYTES = 3 << 20  # bounds memory; 4 MB take a fifth more memory and are not faster
BLOCK_BYTES = 1 << 16  # of JSON: larger ones take longer to read


@contextlib.contextmanager
def open_log(log_path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a log, gzipped or not, whatever its name is. Yield the file, and its unpacked content.

    Raises InputError if a .gz file is damaged, also while it is read.
    """
    try:
        with log_path.open("rb") as file:
            is_gzipped = file.read(3) == b"\x1f\x8b\x08" or log_path.name.lower().endswith(".gz")
            file.seek(0)
            log = gzip.GzipFile(fileobj=file) if is_gzipped else file
            yield file, log
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"{log_path} is damaged ({error}). Unpack as much of it as possible by hand, or remove it."
        ) from error


def read_head(log_path: Path) -> bytes:
    """Return the first HEAD_BYTES bytes of a log."""
    with open_log(log_path) as (_, log):
        return log.read(HEAD_BYTES)


def refuse_utf16(log_path: Path, head: bytes) -> None:
    """Raise InputError if a log that begins with `head` is in UTF-16."""
    if text_encoding(head) == "utf-16":
        raise InputError(f"{log_path} is in UTF-16. Save it in UTF-8.")


def read_chunks(log_path: Path, progress: Callable[[int], None]) -> Iterator[bytes]:
    """Yield a log in chunks of whole lines; call `progress` with the bytes of the file that each took.

    Raises InputError if a .gz file is damaged, if a log is in UTF-16, or if its lines end with \\r alone.
    """
    with open_log(log_path) as (file, log):
        head = log.read(HEAD_BYTES)
        refuse_utf16(log_path, head)
        if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
            raise InputError(
                f"the lines of {log_path} end with a carriage return alone. Convert the file, for example with "
                f"tr '\\r' '\\n' < old.txt > new.txt."
            )
        log.seek(0)
        position = 0
        while chunk := log.read(CHUNK_BYTES):
            chunk += log.readline()
            yield chunk if position else chunk.removeprefix(codecs.BOM_UTF8)
            progress(file.tell() - position)
            position = file.tell()


def read_blocks(log_path: Path, progress: Callable[[int], None]) -> Iterator[tuple[bytes, int]]:
    """Yield a file in blocks of UTF-8, split anywhere, each with the number of places that were not UTF-8.

    Bytes that are not UTF-8 become U+FFFD. `progress` and errors are as in `read_chunks`.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    with open_log(log_path) as (file, log):
        position = 0
        while block := log.read(BLOCK_BYTES):
            refuse_utf16(log_path, b"" if position else block)
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
) -> dict[Path, Any]:
    """Call `function(log, *arguments, progress)` for each log in `jobs` threads, with a progress bar in bytes.

    `calls` maps each log to its arguments; the result maps each log to what the function returned. `num_reads` says
    how often the function reads its log. Threads are enough, as polars does most of the work and releases the GIL.
    """
    from tqdm import tqdm

    size = num_reads * sum(log.stat().st_size for log in calls)
    lock, is_cancelled = Lock(), False
    with (
        tqdm(desc=description, total=size, unit="B", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(min(jobs, len(calls))) as pool,
    ):

        def progress(num_bytes: int) -> None:
            with lock:
                bar.update(num_bytes)
            if is_cancelled:
                raise Cancelled

        # The largest first, so that no large one is left for the end.
        order = sorted(calls, key=lambda log: log.stat().st_size, reverse=True)
        futures = {log: pool.submit(function, log, *calls[log], progress) for log in order}
        try:
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises the error, if there is one
            return {log: futures[log].result() for log in calls}
        finally:
            is_cancelled = True
            pool.shutdown(cancel_futures=True)
