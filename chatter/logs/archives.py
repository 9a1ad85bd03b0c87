"""Archives of logs, as if they were folders: logs/a.zip/b/c.txt is the file b/c.txt in a.zip.

Nothing is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO

from chatter.logs.unpacking import GZIPPED, GzipContent, SeekableStream, UnreadableLog, max_unpacked, too_large

NAME = re.compile(r"\.(?:zip|tar|tgz|tar\.gz)$", re.IGNORECASE)
# Archives that cannot be read from the middle.
OTHER_NAME = re.compile(r"\.(?:7z|rar|(?:tar\.|t)(?:bz2?|xz|zst))$", re.IGNORECASE)
MAX_FILES = 100_000
MAX_NAME = 250  # bytes of a name in an archive: the name of its CSV may be longer
ERRORS = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError),
)


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    size: int
    open: Callable[[], IO[bytes]]


@dataclass
class Archive:
    """The files in an archive by their names, and why others are not read."""

    path: Path
    members: dict[str, Member] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    size: int = 0  # of all members

    def add(self, name: str, reason: str, size: int, open_member: Callable[[], IO[bytes]]) -> None:
        """Add a member, or why it is not read if there is a `reason`. Raises UnreadableLog if there are too many.

        It replaces an earlier one of the same name, as in every program that unpacks archives.
        """
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        plain = "/".join(parts)
        if ".." in parts or name[:1] in ("/", "\\") or re.match("[A-Za-z]:", name):
            plain, reason = name, "its name leads out of the archive"
        elif any(part.startswith(".") for part in parts):
            reason = "hidden"
        elif "\0" in name or any(len(part.encode(errors="replace")) > MAX_NAME for part in parts):
            plain, reason = plain.replace("\0", ""), "its name is not valid on this system"
        self.members.pop(plain, None)
        self.skipped.pop(plain, None)
        if reason:
            self.skipped[plain] = reason
        else:
            self.members[plain] = Member(size, open_member)
        self.size += size
        if self.size > max_unpacked(self.path.stat().st_size):
            raise too_large(self.path)
        if len(self.members) + len(self.skipped) > MAX_FILES:
            raise UnreadableLog(f"{self.path} contains more than {MAX_FILES:,} files. Unpack it by hand.")


class Section(SeekableStream):
    """A section of a file, from the byte `start` on."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self.file, self.start, self.size, self.position = file, start, size, 0

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        self.position = position + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        self.file.seek(self.start + self.position)
        data = self.file.read(max(min(len(buffer), self.size - self.position), 0))
        if not data and self.position < self.size:
            raise EOFError("the archive is cut short")
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive that can be read, by its name."""
    return NAME.search(path.name) is not None


def split_path(path: Path) -> tuple[Path, str] | None:
    """Return the archive that a path leads into, and the name of a file in it; None if it is not in an archive."""
    for parent in path.parents:
        if is_archive(parent) and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


@contextlib.contextmanager
def plain_archive_errors(path: Path) -> Iterator[None]:
    """Turn errors about damaged and unknown content of an archive into UnreadableLog."""
    try:
        yield
    except ERRORS as error:
        raise UnreadableLog(
            f"{path} is damaged or packed in an unknown way ({error}). Unpack as much of it as possible by hand, or "
            "remove it."
        ) from error


def read_archive(path: Path) -> Archive:
    """Return what is in an archive. Raises UnreadableLog if it is damaged or unpacks to too much, and OSError."""
    state = path.stat()
    with plain_archive_errors(path):
        return load_archive(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def load_archive(path: Path, modified: int, size: int) -> Archive:
    """Read the names in an archive; its time of modification and its size tell if it is still the same."""
    return (load_zip if path.name.lower().endswith(".zip") else load_tar)(path)


def load_zip(path: Path) -> Archive:
    archive, file = Archive(path), zipfile.ZipFile(path)
    for info in file.infolist():
        is_link = stat.S_ISLNK(info.external_attr >> 16)
        reason = "a link" if is_link else "encrypted" if info.flag_bits & 1 else ""
        if not info.is_dir():
            archive.add(info.orig_filename, reason, info.file_size, lambda info=info: file.open(info))
    return archive


def load_tar(path: Path) -> Archive:
    archive, content = Archive(path), None
    with path.open("rb") as file:
        if file.read(len(GZIPPED)) == GZIPPED:
            content = GzipContent(path)
    open_content = content.open if content else lambda: path.open("rb")
    with open_content() as file, tarfile.open(fileobj=io.BufferedReader(file) if content else file, mode="r:") as tar:
        for info in tar:
            is_link = info.issym() or info.islnk()
            reason = "a link" if is_link else "not a regular file" if not info.isreg() or info.issparse() else ""

            def open_member(start: int = info.offset_data, size: int = info.size) -> IO[bytes]:
                return io.BufferedReader(Section(open_content(), start, size))

            if not info.isdir():
                archive.add(info.name, reason, 0 if reason else info.size, open_member)
            tar.members = []  # bounds memory
    return archive


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file, perhaps in an archive. Yield it, and its size. Raises UnreadableLog, also while it is read."""
    found = split_path(path)
    if not found:
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    with plain_archive_errors(path):
        member = read_archive(found[0]).members.get(found[1])
        if not member:
            raise UnreadableLog(f"{path} is not in the archive any more. Run the command again.")
        with member.open() as file:
            yield file, member.size


def log_size(path: Path) -> int:
    """Return the size of a file, perhaps in an archive, or 0 if it cannot be read."""
    try:
        found = split_path(path)
        return read_archive(found[0]).members[found[1]].size if found else path.stat().st_size
    except (OSError, KeyError, UnreadableLog):
        return 0


def largest_first(logs: Iterable[Path]) -> dict[Path, int]:
    """Map logs to their sizes, the largest first, but the logs of an archive together: few archives are kept open."""
    sizes = {log: log_size(log) for log in logs}
    files = {log: (split_path(log) or (log,))[0] for log in sizes}  # on disk
    totals = Counter()
    for log, size in sizes.items():
        totals[files[log]] += size
    order = sorted(sizes, key=lambda log: (totals[files[log]], files[log], sizes[log]), reverse=True)
    return {log: sizes[log] for log in order}


def is_gone(path: Path) -> bool:
    """Return whether a file is no longer there, or no longer in its archive.

    Files in an unreadable archive count as still there.
    """
    found = split_path(path)
    try:
        return found[1] not in read_archive(found[0]).members if found else not os.path.lexists(path)
    except (OSError, UnreadableLog):
        return False
