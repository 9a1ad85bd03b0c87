"""Which files of a folder are logs, which CSVs they become, and which files tokenize_logs.py reads."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from chatter.cli import InputError
from chatter.files import DATASET_MARKER, MANIFEST
from chatter.logs.archives import OTHER_NAME, is_archive, read_archive
from chatter.logs.batch import HEADERS
from chatter.logs.file_names import COLUMNAR, LOG_NAME, SUFFIXES
from chatter.logs.unpacking import UnreadableLog, unreadable

MAX_HEADER = 1 << 16  # bytes
INPUT_SUFFIXES = ("csv", *COLUMNAR)  # of what tokenize_logs.py reads
LISTED = f".{', .'.join(SUFFIXES[:-1])} or .{SUFFIXES[-1]}"


def find_logs(logs_dir: Path, output_dir: Path, strict: bool = False) -> tuple[list[Path], dict[Path, str]]:
    """Return the logs below a folder, sorted, and why each other file or folder was skipped.

    CSVs that parse_logs.py wrote to `output_dir`, or to another folder below this one, are skipped. Links are followed
    last, so that no file is read twice. Raises InputError if there are no logs, or if `strict` and an archive or a
    folder cannot be read.
    """
    if not logs_dir.is_dir():
        raise InputError(f"{logs_dir} is not a folder. Put your logs there, or pass their folder with --logs-dir.")
    logs, skipped, seen, links, outputs = [], {}, set(), [], {output_dir.resolve()}

    def skip(path: Path, error: OSError) -> None:
        if strict:
            raise unreadable(path, error) from error
        skipped[path] = error.strerror or str(error)

    def visit(path: Path) -> None:
        real = os.path.realpath(path)
        if path.name[0] == ".":
            skipped[path] = "hidden"
        elif not os.path.exists(path):  # unlike path.exists(), False for a path that may not be read
            skipped[path] = "a broken link" if os.path.islink(path) else "Permission denied"
        elif real in seen:
            skipped[path] = "a link to a file or folder that is read already"
        elif path.is_dir():
            walk(path)
        elif not path.is_file():
            skipped[path] = "not a regular file"
        elif is_archive(path):
            seen.add(real)
            visit_archive(path)
        elif OTHER_NAME.search(path.name):
            skipped[path] = "an archive of this kind is not read: unpack it, or pack the files again as .zip"
        elif not LOG_NAME.fullmatch(path.name):
            skipped[path] = "not named like a log"
        elif is_derived(path):
            skipped[path] = "written by the library datasets beside its data"
        elif path.suffix == ".csv" and (outputs & {*Path(real).parents}) and is_ours(path):
            skipped[path] = "written by parse_logs.py"
        else:
            seen.add(real)
            logs.append(path)

    def visit_archive(path: Path) -> None:
        try:
            archive = read_archive(path)
        except UnreadableLog as error:
            if strict:
                raise
            skipped[path] = str(error)
            return
        except OSError as error:
            skip(path, error)
            return
        for name, reason in archive.skipped.items():
            skipped[Path(f"{path}/{name}")] = reason
        for name in archive.members:
            member = path / name
            if LOG_NAME.fullmatch(member.name) and not is_derived(member):
                logs.append(member)
            else:
                is_packed = is_archive(member) or OTHER_NAME.search(member.name)
                skipped[member] = "an archive in an archive" if is_packed else "not named like a log"

    def walk(top: Path) -> None:
        for folder, subfolders, names in os.walk(top, onerror=lambda error: skip(Path(error.filename), error)):
            seen.add(os.path.realpath(folder))
            if MANIFEST in names and folder != str(top):
                outputs.add(Path(folder).resolve())
            for path in (Path(folder, name) for name in sorted(subfolders + names)):
                if os.path.islink(path):
                    links.append(path)
                elif path.name in names or path.name[0] == ".":
                    visit(path)
            subfolders[:] = [name for name in subfolders if name[0] != "." and not is_dataset(Path(folder, name))]

    walk(logs_dir)
    while links:
        visit(links.pop(0))
    if not logs:
        reasons = "".join(f" {path}: {reason}." for path, reason in [*skipped.items()][:5])
        raise InputError(f"no {LISTED} file, compressed or not, in {logs_dir}. Put your logs there.{reasons}")
    return sorted(logs), dict(sorted(skipped.items()))


def find_tables(folder: Path) -> list[Path]:
    """Return the CSVs and the Parquet, Arrow and Feather files below a folder, sorted, without hidden ones.

    Links are followed. Raises OSError if a folder cannot be read.
    """
    paths, seen = [], set()

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        is_new = os.path.realpath(parent) not in seen
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if name[0] != "." and not is_dataset(Path(parent, name)))
        folders[:] = folders if is_new else []
        if is_new:
            files = [Path(parent, name) for name in names if name[0] != "."]
            files = [path for path in files if path.suffix[1:].lower() in INPUT_SUFFIXES and path.is_file()]
            paths += [path for path in files if not is_derived(path)]
    return sorted(paths)


def is_dataset(folder: Path) -> bool:
    """Return whether tokenize_logs.py wrote a folder, whose Arrow files have tokens."""
    return all(os.path.exists(folder / name) for name in (MANIFEST, DATASET_MARKER))  # False if it cannot be read


def is_derived(path: Path) -> bool:
    """Return whether a file is a cache of the library datasets, or describes the Arrow files of a folder of it."""
    if re.fullmatch(r"cache-[0-9a-f]+\.arrow", path.name) or path.name == "dataset_dict.json":
        return True
    return path.name in ("dataset_info.json", "state.json") and any(path.parent.glob("*.arrow"))


def name_csvs(logs: list[Path], logs_dir: Path, output_dir: Path) -> dict[Path, Path]:
    """Map each log, in the order of `find_logs`, to the path of its CSV below `output_dir`.

    If c.csv is taken by an earlier log, c.txt.gz becomes c.txt.gz.csv. That name is free, because logs are sorted.
    Raises InputError if a CSV would replace another file, or a folder of CSVs.
    """
    csv_paths = {}
    for log in logs:
        name = LOG_NAME.fullmatch(log.name)["stem"]
        csv_path = log.relative_to(logs_dir).with_name(f"{name}.csv")
        if csv_path in csv_paths:
            csv_path = csv_path.with_name(f"{log.name}.csv")
        csv_paths[csv_path] = log
        existing = output_dir / csv_path
        if existing.exists() and not (existing.is_file() and (is_ours(existing) or not existing.stat().st_size)):
            raise InputError(
                f"{existing} was not written by parse_logs.py and would be replaced. Move it away, or choose another "
                "--output-dir."
            )
    for csv_path, log in csv_paths.items():
        for parent in csv_path.parents:
            if parent in csv_paths:
                raise InputError(f"{csv_paths[parent]} would become {parent}, the folder of {log}. Rename one of them.")
    return {log: csv_path for csv_path, log in csv_paths.items()}


def is_ours(csv_path: Path) -> bool:
    """Return whether a path is a file that can be read and has the header that parse_logs.py writes."""
    if not csv_path.is_file():
        return False
    with contextlib.suppress(PermissionError), csv_path.open("rb") as file:
        return file.readline(MAX_HEADER).decode("utf-8-sig", errors="replace").rstrip("\r\n").split(",") in HEADERS
    return False
