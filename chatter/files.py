"""Output on disk: written as a whole or not at all, by one run at a time, and never over somebody else's files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from chatter.cli import InputError, log

MANIFEST = ".chatter.json"  # in each folder that a script wrote: the files that it wrote there
STAGING, LOCK = ".chatter.partial", ".chatter.lock"  # in a folder of files that are replaced one by one
# A file of every complete dataset, and one of every model.
DATASET_MARKER, MODEL_MARKER = "dataset_dict.json", "config.json"
# Files that datasets, macOS or a killed generate.py left behind, and that may be deleted.
DERIVED = ("cache-*.arrow", ".DS_Store", ".ctranslate2.lock")

COPIED_BYTES = 1 << 20  # at a time
OTHER_OUTPUT = ". Choose another --output-dir"
MAX_NAME = 230  # bytes of an output folder's name: file systems allow 255, and the files beside it have longer names


def delete(path: Path) -> None:
    """Delete a file, a link or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a hidden file in the same folder: beside(Path("a/b"), "lock") is a/.b.lock."""
    path = path.absolute()  # "." has no name
    return path.with_name(f".{path.name}.{suffix}")


@contextlib.contextmanager
def name_output(output: Path, advice: str = "", within: Path | None = None) -> Iterator[None]:
    """Name `output` in errors of the system, in place of a hidden file that the user does not know.

    `within` restricts this to errors with files in a hidden folder. `advice` follows the reason.
    """
    try:
        yield
    except OSError as error:
        if within and not (error.filename and Path(os.fsdecode(error.filename)).is_relative_to(within)):
            raise
        number = errno.ENOTDIR if isinstance(error, FileExistsError) else error.errno  # a file in place of a folder
        if number is None:
            raise
        raise OSError(number, os.strerror(number) + advice, str(output)) from error


@contextlib.contextmanager
def locked(lock_path: Path, output: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock while `output` is written, so that no second run writes it.

    If another run holds the lock, wait for it if `wait`, or else raise InputError.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_path)
    try:
        with name_output(output, "" if wait else OTHER_OUTPUT):
            lock_path.parent.mkdir(parents=True, exist_ok=True)
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
            lock_path.unlink()  # still locked: a waiting run notices that the file is gone and locks a new one
        lock.release()


@contextlib.contextmanager
def reserved(folder: Path, marker: str) -> Iterator[Path]:
    """Lock a folder that the script will replace when it finishes, and yield its path with links resolved.

    `marker` is a file in each output of the script. Raises InputError or OSError before any work is done if the folder
    cannot be replaced later: if another run writes it, if it contains files that the script did not write, or if it
    cannot be written.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder. Choose another --output-dir.")
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of {folder} is not in UTF-8. Choose another --output-dir.") from None
    if len(os.fsencode(folder.name)) > MAX_NAME:
        raise InputError(f"the name of {folder} has more than {MAX_NAME} bytes. Choose a shorter --output-dir.")
    if Path.cwd().is_relative_to(folder):
        raise InputError(f"{folder} contains the working directory. Choose another --output-dir.")
    if os.path.ismount(folder):
        raise InputError(f"{folder} is a mount point, which cannot be replaced. Choose a folder inside it.")
    with locked(beside(folder, "lock"), folder):
        check_replaceable(folder, marker)
        probe, renamed = beside(folder, "probe"), beside(folder, "probe-renamed")
        with name_output(folder, OTHER_OUTPUT):
            try:
                probe.mkdir(exist_ok=True)
                probe.rename(renamed)
            finally:
                delete(probe)
                delete(renamed)
        yield folder


def check_replaceable(folder: Path, marker: str) -> None:
    """Raise InputError if replacing `folder` would delete files that the script did not write."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    is_ours = (folder / MANIFEST).exists() and (folder / marker).exists()
    others = other_files(folder) if is_ours else [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    if others:
        raise InputError(
            f"{folder} contains other files that would be deleted, such as {others[0].name}. Move them away, or choose "
            "another --output-dir."
        )


def other_files(folder: Path) -> list[Path]:
    """Return the files below a folder that neither its manifest nor the manifest of a subfolder lists."""
    known = set()
    for manifest in folder.rglob(MANIFEST):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a damaged manifest lists nothing
            names = json.loads(manifest.read_text(encoding="utf-8"))["files"]
            known |= {manifest, *(manifest.parent / name for name in names)}
    files = [path for path in sorted(folder.rglob("*")) if not path.is_dir() or path.is_symlink()]
    return [path for path in files if path not in known and not any(path.match(pattern) for pattern in DERIVED)]


def write_manifest(folder: Path) -> None:
    """List the files of a complete folder in its manifest, so that a later run can tell them from other files."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    (folder / MANIFEST).write_text(json.dumps({"files": files}, indent=1), encoding="utf-8")


def share(folder: Path) -> None:
    """Give the files of a folder the usual permissions: safetensors writes files that only their owner can read."""
    os.umask(mask := os.umask(0))
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o666 & ~mask)


@contextlib.contextmanager
def atomic_output(final: Path) -> Iterator[Path]:
    """Yield a path beside `final` to write a file or folder to, and rename it to `final` on success.

    A reader sees the old content or the new, never half of it. On an error `final` does not change. Leftovers of
    killed runs are deleted. Two runs must not write the same `final` at once: see `locked`.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    partial, old = beside(final, "partial"), beside(final, "old")
    if old.exists() and not final.exists():  # a run was killed between the two renames below
        old.rename(final)
    delete(partial)
    delete(old)
    try:
        with name_output(final, within=partial):
            yield partial
            if partial.is_dir():
                write_manifest(partial)
                share(partial)
            if final.is_dir():  # a folder cannot be renamed over one that is not empty
                final.rename(old)
            partial.replace(final)
    finally:
        if old.exists() and not final.exists():  # interrupted between the two renames
            old.rename(final)
        delete(partial)
        with contextlib.suppress(OSError):  # the next run tries again and reports the error
            delete(old)


def file_size(path: Path) -> int:
    """Return the size of a file in bytes, or 0 if it does not exist any more."""
    return path.stat().st_size if path.exists() else 0


def append(path: Path, target: Path) -> None:
    """Move the content of a file to the end of another one; nothing if they are the same."""
    if path != target:
        with path.open("rb") as source, target.open("ab") as output:
            shutil.copyfileobj(source, output, COPIED_BYTES)
        path.unlink()


def move(path: Path, target: Path) -> None:
    """Move a file to `target`, and replace an old `target` atomically, even if a link leads to another disk."""
    try:
        path.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = beside(target.with_name(target.name[:50]), "partial")  # a log's name may have the maximum length
        shutil.copy(path, copy)
        copy.replace(target)


@contextlib.contextmanager
def staged_files(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write files to; on success move each of them to the same place below `folder`.

    On an error nothing in `folder` changes. Files that a killed run left are deleted.
    """
    staging = folder / STAGING
    with name_output(folder, OTHER_OUTPUT):
        delete(staging)
        staging.mkdir(parents=True)
    try:
        with name_output(folder, within=staging):
            yield staging
        moves = {path: folder / path.relative_to(staging) for path in sorted(staging.rglob("*")) if path.is_file()}
        for target in moves.values():  # find errors before the first move
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() or not os.access(target.parent, os.W_OK):
                raise InputError(f"{target} is a folder or is not writable. Choose another --output-dir.")
        for path, target in moves.items():
            move(path, target)
    finally:
        delete(staging)
