"""Compressed files, unpacked while they are read, up to a limit."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from chatter.cli import InputError

# What a file may unpack to: chat becomes five to thirty times as large, and bombs a thousand times or more.
MAX_RATIO, ALWAYS_ALLOWED = 200, 1 << 30  # bytes
PACKED_BYTES = 1 << 14  # of a gzipped file, unpacked at a time
GZIPPED, ZSTANDARD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"  # the first bytes
GZIP_FORMAT = zlib.MAX_WBITS | 16
MAX_CHECKPOINTS, FIRST_SPACING = 512, 1 << 20  # 40 kB each; bytes of content between two of them


class UnreadableLog(InputError):
    """An error with one log, which does not stop the work on the others."""


def unreadable(path: Path, error: OSError) -> UnreadableLog:
    """Return the error for a file or folder that the system does not let us read."""
    return UnreadableLog(f"{path} cannot be read: {error.strerror or error}. Make it readable, or move it away.")


def max_unpacked(packed: int) -> int:
    """Return how many bytes a file of `packed` bytes may unpack to."""
    return max(ALWAYS_ALLOWED, MAX_RATIO * packed)


def too_large(path: Path) -> UnreadableLog:
    return UnreadableLog(
        f"{path} unpacks to more than {MAX_RATIO} times its size and {ALWAYS_ALLOWED >> 30} GB, as no chat does. If it "
        "is chat all the same, unpack it by hand."
    )


class Stream(io.RawIOBase):
    """A stream of what `read` returns, given a number of bytes. Raises UnreadableLog after `limit` bytes."""

    def __init__(self, read: Callable[[int], bytes], path: Path, limit: int) -> None:
        self.read_some, self.path, self.left = read, path, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = self.read_some(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise too_large(self.path)
        buffer[: len(data)] = data
        return len(data)


def unpack(file: IO[bytes], path: Path, packed: int) -> IO[bytes]:
    """Return the content of a file of `packed` bytes: unpacked if it is gzipped or in Zstandard, else the same file.

    Raises UnreadableLog if the file has the name of a packed one, but does not begin like one.
    """
    head, name = file.read(len(ZSTANDARD)), path.name.lower()
    file.seek(0)
    for suffix, begin in ((".gz", GZIPPED[:2]), (".zst", ZSTANDARD)):
        if name.endswith(suffix) and head and not head.startswith(begin):
            raise UnreadableLog(f"{path} is not a {suffix} file. If it is not compressed, rename it to {path.stem}.")
    if head.startswith(GZIPPED) or name.endswith(".gz"):
        return io.BufferedReader(Stream(gzip.GzipFile(fileobj=file).read, path, max_unpacked(packed)))
    if head == ZSTANDARD or name.endswith(".zst"):
        import pyarrow

        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd")
        return io.BufferedReader(Stream(stream.read, path, max_unpacked(packed)))
    return file


class SeekableStream(io.RawIOBase):
    """A stream of content at `position`, which comes from an open file."""

    file: IO[bytes]
    position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def close(self) -> None:
        self.file.close()
        super().close()


class Checkpoint(NamedTuple):
    """From where a gzipped file can be unpacked again."""

    position: int  # in the content
    offset: int  # in the file
    state: zlib._Decompress


class GzipContent:
    """The content of a gzipped file. Several threads may read different parts of it, in any order."""

    def __init__(self, path: Path) -> None:
        self.path, self.limit = path, max_unpacked(path.stat().st_size)
        self.spacing = FIRST_SPACING
        self.checkpoints = [Checkpoint(0, 0, zlib.decompressobj(GZIP_FORMAT))]

    def open(self) -> GzipReader:
        return GzipReader(self)

    def add(self, position: int, offset: int, state: zlib._Decompress) -> None:
        """Remember a state, if it is far enough behind the last one."""
        if position >= self.checkpoints[-1].position + self.spacing:
            self.checkpoints = [*self.checkpoints, Checkpoint(position, offset, state.copy())]
        if len(self.checkpoints) > MAX_CHECKPOINTS:
            self.spacing *= 2
            self.checkpoints = self.checkpoints[::2]


class GzipReader(SeekableStream):
    """Reads the content of a gzipped file from any position, starting at the last checkpoint before it."""

    def __init__(self, content: GzipContent) -> None:
        self.content, self.file = content, content.path.open("rb")
        self.restart(content.checkpoints[0])

    def restart(self, checkpoint: Checkpoint) -> None:
        self.position, offset, state = checkpoint
        self.state, self.left = state.copy(), b""
        self.file.seek(offset)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("only from the beginning")
        checkpoint = [each for each in self.content.checkpoints if each.position <= position][-1]
        if not self.position <= position or checkpoint.position > self.position:
            self.restart(checkpoint)
        while self.position < position and self.readinto(memoryview(bytearray(min(position - self.position, 1 << 20)))):
            pass
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        while not self.left and not self.unpack_more():
            if not self.file.peek(1):
                return 0
        size = min(len(buffer), len(self.left))
        buffer[:size], self.left = self.left[:size], self.left[size:]
        self.position += size
        return size

    def unpack_more(self) -> bool:
        """Unpack the next bytes; return whether there are any. Raises EOFError if the file is cut short."""
        self.content.add(self.position, self.file.tell(), self.state)
        packed = self.file.read(PACKED_BYTES)
        if not packed and not self.state.eof and self.file.tell():
            raise EOFError("it ends before the end of its content")
        self.left = self.state.decompress(packed)
        if self.state.eof and (rest := self.state.unused_data.lstrip(b"\0")):  # another gzipped file follows
            self.file.seek(-len(rest), io.SEEK_CUR)
            self.state = zlib.decompressobj(GZIP_FORMAT)
        if self.position + len(self.left) > self.content.limit:
            raise too_large(self.content.path)
        return bool(self.left)
