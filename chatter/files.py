"""Output on disk: written as a whole or not at all, by one run at a time, and never over somebody else's files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from chatter.command import InputError, log


def delete(path: Path) -> None:
    """Delete a file or a folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_replaceable(folder: Path, marker: str) -> None:
    """Raise InputError if replacing `folder` would delete files that the script did not write.

    `marker` is the name of a file that is in every folder that the script wrote.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).exists():
        raise InputError(f"{folder} contains other files that would be deleted. Choose another --output-dir.")


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a hidden file in the same folder: beside(Path("a/b"), "lock") is a/.b.lock."""
    path = path.absolute()  # "." has no name
    return path.with_name(f".{path.name}.{suffix}")


@contextlib.contextmanager
def locked(lock_path: Path, output: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock while `output` is written, so that no second run writes it.

    If another run holds the lock, wait for it, or raise InputError.
    """
    from filelock import FileLock, Timeout

    lock_path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise InputError(
                f"{output} is in use by another run. Wait until it ends, or choose another --output-dir."
            ) from None
        log(f"waiting for another run that is writing {output}")
        lock.acquire()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not delete open files
            lock_path.unlink()  # while it is held: a run that waits for it notices, and takes a new one
        lock.release()


@contextlib.contextmanager
def atomic_output(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write a file or folder to, and rename it to `final` on success.

    A reader sees the old content or the new, never half of it. On an error `final` stays as it was. What a killed run
    left is deleted. Two runs must not write the same `final` at once: see `locked`.
    """
    final = final.absolute()
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(final, "partial")
    delete(partial)
    try:
        yield partial
        if final.is_dir():  # a folder cannot be renamed over one that is not empty
            delete(final)
        partial.replace(final)
    finally:
        delete(partial)
