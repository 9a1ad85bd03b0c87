"""CSVs of messages: reading them whoever wrote them, and telling ours from others."""

from __future__ import annotations

import argparse
import codecs
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatter.cli import InputError
from chatter.dialects import FIELDS
from chatter.files import MANIFEST, atomic_output
from chatter.lines import Batch
from chatter.names import NameFacts
from chatter.reading import HEAD_BYTES, open_log, read_head
from chatter.sessions import NO_DAY
from chatter.times import read_time

LOGIN = re.compile(r".*\((\w+)\)")  # name (login)
READ_BYTES = 4 << 20  # of CSV at a time: bounds memory
# Field -> the names that columns with it have, in lower case; the first that a table has is taken.
COLUMNS = {
    "message": ("message", "text", "body", "contents", "content", "msg"),
    "username": ("username", "user", "user_name", "login", "author", "author_name", "name", "nick", "display_name"),
    "channel": ("channel", "channel_name", "streamer"),
    "date": ("date", "day"),
    "time": ("timestamp", "created_at", "datetime", "time", "time_in_seconds", "time_text"),
}


def find_tables(folder: Path) -> list[Path]:
    """Return the .csv files below a folder, sorted, without hidden ones. Links are followed.

    Raises OSError if a folder cannot be read.
    """
    paths, seen = [], set()

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        is_new = os.path.realpath(parent) not in seen
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if name[0] != ".") if is_new else []
        if is_new:
            files = [Path(parent, name) for name in names if name[0] != "." and name.lower().endswith(".csv")]
            paths += [path for path in files if path.is_file()]
    return sorted(paths)


def is_ours(csv_path: Path) -> bool:
    """Return whether a file has the header that parse_logs.py writes."""
    with csv_path.open("rb") as file:
        return file.readline(HEAD_BYTES).decode(errors="replace").rstrip("\r\n") == ",".join(FIELDS)


def read_sources(output_dir: Path) -> dict[str, str]:
    """Return the log of each CSV that earlier runs wrote. A CSV with our header that none listed has the log ""."""
    try:
        return dict(json.loads((output_dir / MANIFEST).read_text(encoding="utf-8"))["logs"])
    except FileNotFoundError:  # the CSVs of the version before
        below = [path.parent for path in output_dir.rglob(MANIFEST)]
        ours = [path for path in find_tables(output_dir) if is_ours(path) and not {*path.parents} & {*below}]
        return {path.relative_to(output_dir).as_posix(): "" for path in ours}
    except (ValueError, KeyError, TypeError):  # damaged
        return {}


def find_stale(output_dir: Path, sources: Mapping[str, str], skipped: Collection[Path]) -> list[Path]:
    """Return the CSVs whose logs are gone, but not those whose logs could not be read this time."""
    unread = {path.absolute() for path in skipped}
    stale = []
    for name, source in sources.items():
        log = Path(source)
        is_gone = not source or (not os.path.lexists(log) and not unread & {log, *log.parents})
        if is_gone and (output_dir / name).is_file():
            stale.append(output_dir / name)
    return sorted(stale)


def write_sources(output_dir: Path, sources: Mapping[str, str]) -> None:
    """List the CSVs and their logs in the manifest of the folder."""
    left = {name: log for name, log in sorted(sources.items()) if (output_dir / name).is_file()}
    with atomic_output(output_dir / MANIFEST) as partial:
        partial.write_text(json.dumps({"files": [*left], "logs": left}, indent=1), encoding="utf-8")


def read_messages(csv_path: Path) -> Iterator[list[str]]:
    """Yield the messages of a CSV in lists of some ten thousand, in order.

    Raises InputError as `read_columns` does, or if there is no column `message`.
    """
    for columns in read_columns(csv_path, {"message": ["message"]}):
        yield columns["message"]


def read_header(csv_path: Path) -> tuple[list[str], str, str]:
    """Return the column names of a table, none if it is empty, its delimiter and its encoding, which may be UTF-16."""
    head = read_head(csv_path)
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    header = (head.decode(encoding, errors="replace").splitlines() or [""])[0]
    rows = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in ",;\t"}
    known = {name for names in COLUMNS.values() for name in names}
    delimiter = max(rows, key=lambda each: (len(known & {*map(normal, rows[each])}), len(rows[each])))
    return (rows[delimiter] if header.strip() else []), delimiter, encoding


def find_columns(header: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Map each key of `wanted` to the column with the first of its names that the table has, if it has one."""
    columns = {normal(name): name for name in reversed(header)}
    found = {key: next((name for name in map(normal, names) if name in columns), None) for key, names in wanted.items()}
    return {key: columns[name] for key, name in found.items() if name is not None}


def read_names(text: str) -> dict[str, str]:
    """Return the names of columns that an option gives, by field: message=Text,username=Who."""
    names = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in text.split(","))
    if not all(names.values()) or not names.keys() <= COLUMNS.keys():
        raise argparse.ArgumentTypeError(f"must be like message=Text,username=Who; fields: {', '.join(COLUMNS)}")
    return names


def read_columns(
    csv_path: Path, wanted: Mapping[str, Sequence[str]], progress: Callable[[int], None] | None = None
) -> Iterator[dict[str, list[str]]]:
    """Yield some columns of a table, some ten thousand rows at a time; `wanted` is as in `find_columns`.

    In UTF-8, or in UTF-16 with a byte order mark, separated by commas, semicolons or tabs, with a header. Raises
    InputError if it has no column for messages, or is not a valid table.
    """
    import pyarrow.csv

    header, delimiter, encoding = read_header(csv_path)
    if not header:
        return
    columns = find_columns(header, wanted)
    if "message" not in columns:
        raise InputError(
            f"{csv_path} has no column message, but {', '.join(header)}. Rename one in its first line, or move the "
            "file out of the input folder."
        )
    position = 0
    try:
        with open_log(csv_path) as (file, table):
            # pyarrow is faster on names than on open files, but takes only those in UTF-8, and shows no progress.
            by_name = table is file and str(csv_path).isascii() and not progress
            batches = pyarrow.csv.open_csv(
                csv_path if by_name else table,
                pyarrow.csv.ReadOptions(block_size=READ_BYTES, encoding="utf-16" if encoding == "utf-16" else "utf8"),
                pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
                pyarrow.csv.ConvertOptions(
                    include_columns=[*columns.values()],
                    column_types=dict.fromkeys(columns.values(), "string"),
                    strings_can_be_null=False,
                ),
            )
            checked = False
            for batch in batches:
                rows = {key: batch[name].to_pylist() for key, name in columns.items()}
                if not checked and any("\n" in message for message in rows["message"]):
                    check_quotes(csv_path, encoding, delimiter)
                    checked = True
                yield rows
                if progress:
                    progress(file.tell() - position)
                    position = file.tell()
    except pyarrow.ArrowInvalid as error:
        check_quotes(csv_path, encoding, delimiter)
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        if "invalid UTF8" in reason:
            raise InputError(f"{csv_path} is not in UTF-8. Save it as a CSV in UTF-8.") from error
        if "straddling" in reason:
            reason = f"a row has more than {READ_BYTES:,} bytes"
        raise InputError(f"{csv_path} is not a valid CSV: {reason}. Correct it, or move it away.") from error


@dataclass
class TableForm:
    """A CSV with a header, one entry a row."""

    columns: Mapping[str, Sequence[str]]  # as COLUMNS
    names: NameFacts
    has_logins: bool
    has_moderation = False
    is_known = True

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        import polars as pl

        first = 0
        for rows in read_columns(path, self.columns, progress):
            size = len(rows["message"])
            dates, times = rows.get("date", [""] * size), rows.get("time", [""] * size)
            stamps = [f"{date} {time}".strip() for date, time in zip(dates, times, strict=True)]
            known = {stamp: read_time(stamp) for stamp in {*stamps}}
            known = {stamp: [date or (time and self.names.date), time] for stamp, (date, time) in known.items()}
            dates, times = zip(*[known[stamp] for stamp in stamps], strict=True) if size else ((), ())
            users = rows.get("username", [""] * size)
            logins = {user: found[1] if (found := LOGIN.fullmatch(user)) else user.strip() for user in {*users}}
            channels = rows.get("channel", [self.names.channel] * size)
            columns = [dates, times, channels, [logins[user] for user in users], rows["message"]]
            table = pl.DataFrame(dict(zip(FIELDS, columns, strict=True)), dict.fromkeys(FIELDS, pl.String))
            notes = {NO_DAY} if "" in dates else set()
            yield Batch(table.with_row_index("number", first), size, Counter(messages=size), notes=notes)
            first += size


def normal(name: str) -> str:
    return name.strip().lower()


def check_quotes(csv_path: Path, encoding: str, delimiter: str) -> None:
    """Raise InputError if a value swallows the rows after it because its quote is never closed.

    It contains a line that begins like a row of parse_logs.py or, in tables of others, many lines with as many columns
    as the header.
    """
    csv.field_size_limit(1 << 31)
    with open_log(csv_path) as (_, table), io.TextIOWrapper(table, encoding, errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader)
        first = reader.line_num + 1
        for row in reader:
            for value in row:
                lines = value.splitlines()[1:] if "\n" in value else []
                if header == FIELDS:
                    swallowed = any(re.match(r"\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d,", line) for line in lines)
                else:
                    rows = sum(line.count(delimiter) >= len(header) - 1 > 0 for line in lines)
                    swallowed = rows >= 5 and rows > len(lines) // 2
                if swallowed:
                    raise InputError(
                        f'{csv_path}:{first} has a quote (") that is not closed, so that {len(lines)} more lines would '
                        "become part of one message. Close it, or double it if it was typed."
                    )
            first = reader.line_num + 1
