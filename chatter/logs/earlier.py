"""CSVs of earlier runs whose logs are gone, are copies, or cannot be read any more."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from chatter.cli import log
from chatter.files import MANIFEST, atomic_output, staged_files
from chatter.logs.archives import is_gone
from chatter.logs.filters import USER_FILTERS, filter_messages
from chatter.logs.folders import find_tables, is_ours

MAX_SHOWN = 5  # files


def update_earlier_csvs(
    output_dir: Path,
    csv_paths: Mapping[Path, Path],
    read: Collection[Path],
    skipped: Collection[Path],
    copies: Mapping[Path, Path],
    filters: Mapping[str, Any],
    prune: bool,
) -> tuple[list[Path], dict[Path, Path]]:
    """Deal with the CSVs of earlier runs that this run did not write: it wrote those of the logs in `read`.

    Users whom `filters` leave out are left out of them, too. Return the CSVs whose logs are gone, and a map from those
    that repeat the messages of others to the logs that both came from. `prune` deletes all of these, which then are in
    the list.
    """
    written = {log: csv_paths[log] for log in read}
    log_of_csv = list_csvs(output_dir, csv_paths, read)
    stale = find_stale(output_dir, log_of_csv, skipped)
    repeated = find_repeated(output_dir, log_of_csv, written, copies)
    if prune:
        stale, repeated = sorted([*stale, *repeated]), {}
        for path in stale:
            path.unlink()
    names = sorted({*log_of_csv} - {*name_logs(written)})
    if user_filters := {name: filters[name] for name in USER_FILTERS if filters.get(name)}:
        leave_out_users(output_dir, names, user_filters)
        warn_of_others(output_dir, log_of_csv, user_filters)
    write_log_of_csv(output_dir, log_of_csv)
    return stale, repeated


def name_logs(csv_paths: Mapping[Path, Path]) -> dict[str, str]:
    """Return the log of each CSV, as the manifest names both."""
    return {csv_path.as_posix(): str(log.absolute()) for log, csv_path in csv_paths.items()}


def list_csvs(output_dir: Path, csv_paths: Mapping[Path, Path], read: Collection[Path]) -> dict[str, str]:
    """Return the log of each CSV that this run wrote, for the logs in `read`, or earlier ones: name -> path of the log.

    Without a valid manifest, the name of a CSV tells its log.
    """
    earlier = {}
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # missing or damaged
        earlier = dict(json.loads((output_dir / MANIFEST).read_text(encoding="utf-8"))["logs"])
    return name_logs(csv_paths) | earlier | name_logs({log: csv_paths[log] for log in read})


def find_stale(output_dir: Path, log_of_csv: Mapping[str, str], skipped: Collection[Path]) -> list[Path]:
    """Return the CSVs whose logs are gone, except those whose logs could not be read this time."""
    unread = {path.absolute() for path in skipped}
    stale = []
    for name, source in log_of_csv.items():
        log = Path(source)
        if not unread & {log, *log.parents} and is_gone(log) and is_ours(output_dir / name):
            stale.append(output_dir / name)
    return sorted(stale)


def find_repeated(
    output_dir: Path, log_of_csv: Mapping[str, str], csv_paths: Mapping[Path, Path], copies: Mapping[Path, Path]
) -> dict[Path, Path]:
    """Map each CSV of an earlier run that repeats the messages of another CSV to the log that both came from.

    Its log is one of `copies`, or the log's CSV now has another name, because of a log beside it.
    """
    originals = {str(log.absolute()): log for log in csv_paths}
    originals |= {str(copy.absolute()): log for copy, log in copies.items() if log in csv_paths}
    written = name_logs(csv_paths)
    names = [name for name, source in log_of_csv.items() if source in originals and name not in written]
    return {output_dir / name: originals[log_of_csv[name]] for name in sorted(names) if (output_dir / name).is_file()}


def keep_or_delete_csvs(
    output_dir: Path, csv_paths: Mapping[Path, Path], deleted: Mapping[Path, bool]
) -> dict[Path, str]:
    """Keep or delete the CSVs of earlier runs whose logs could not be read: `deleted` tells which.

    Return a sentence about each CSV, by log.
    """
    log_of_csv = list_csvs(output_dir, csv_paths, csv_paths.keys() - deleted.keys())
    logs, sentences = {str(log.absolute()): log for log in deleted}, dict.fromkeys(deleted, "")
    for name, source in sorted(log_of_csv.items()):
        path, log = output_dir / name, logs.get(source)
        if log and is_ours(path):
            if deleted[log]:
                path.unlink()
            sentences[log] += f" {path} of an earlier run {'was deleted' if deleted[log] else 'stays'}."
    return sentences


def leave_out_users(output_dir: Path, names: Iterable[str], user_filters: Mapping[str, Any]) -> None:
    """Take the messages that `user_filters` leave out from CSVs of earlier runs, and say how many in each."""
    import numpy as np
    import polars as pl

    from chatter.logs.whole_logs import take_out

    num_dropped = {}
    with staged_files(output_dir) as staging:
        for name in names:
            path, copy = output_dir / name, staging / name
            if not is_ours(path):
                continue
            lenient = {"truncate_ragged_lines": True, "encoding": "utf8-lossy"}  # it may have been edited since
            table = pl.read_csv(path, columns=["username"], infer_schema=False, **lenient)
            table = table.fill_null("").with_row_index("row")
            kept, _ = filter_messages(table.filter(pl.col("username") != ""), user_filters)  # "" may be anyone
            dropped = np.setdiff1d(np.arange(len(table)), kept["row"].to_numpy())
            if len(dropped):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
                with copy.open("r+b") as rows:
                    take_out(rows, dropped + 1)  # after the header
                num_dropped[path] = len(dropped)
    options = " and ".join(USER_FILTERS[each] for each in user_filters)
    for path, number in num_dropped.items():
        log(f"{path} of an earlier run: {number:,} messages removed, as {options} asks for")


def warn_of_others(output_dir: Path, log_of_csv: Collection[str], user_filters: Collection[str]) -> None:
    """Log which files of others in the folder may have messages of the users who are to be left out."""
    tables = find_tables(output_dir)
    others = [str(path) for path in tables if path.relative_to(output_dir).as_posix() not in log_of_csv]
    if others:
        options = " and ".join(USER_FILTERS[each] for each in user_filters)
        shown = ", ".join(others[:MAX_SHOWN]) + f" and {len(others) - MAX_SHOWN:,} more" * (len(others) > MAX_SHOWN)
        log(f"not changed by {options}, but read by tokenize_logs.py, as other programs wrote them: {shown}")


def write_log_of_csv(output_dir: Path, log_of_csv: Mapping[str, str]) -> None:
    """Write the manifest of the folder: its CSVs, and the log of each."""
    left = {name: log for name, log in sorted(log_of_csv.items()) if (output_dir / name).is_file()}
    with atomic_output(output_dir / MANIFEST) as partial:
        partial.write_text(json.dumps({"files": [*left], "logs": left}, indent=1), encoding="utf-8")
