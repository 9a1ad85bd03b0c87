"""CSVs of messages: reading them whoever wrote them, and telling ours from others."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from chatter.command import InputError
from chatter.dialects import FIELDS
from chatter.files import MANIFEST, atomic_output

READ_BYTES = 4 << 20  # of CSV at a time: bounds memory
HEAD_BYTES = 1 << 16


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

    In UTF-8, or in UTF-16 with a byte order mark, separated by commas, semicolons or tabs, with a header. Raises
    InputError if it has no column `message`, or is not a valid CSV.
    """
    import pyarrow.csv

    with csv_path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head.strip():
        return
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if utf16 else "utf-8-sig"
    header = (head.decode(encoding, errors="replace").splitlines() or [""])[0]
    if not header.strip():
        return
    rows = {delimiter: next(csv.reader([header], delimiter=delimiter)) for delimiter in ",;\t"}
    delimiter = max(rows, key=lambda each: ("message" in map(normal, rows[each]), len(rows[each])))
    names = [name for name in rows[delimiter] if normal(name) == "message"]
    if not names:
        raise InputError(
            f"{csv_path} has no column message, but {', '.join(rows[delimiter])}. Rename one in its first line, or "
            "move the file out of the input folder."
        )
    # pyarrow takes only names in UTF-8, and is slower on open files.
    source = csv_path if str(csv_path).isascii() else csv_path.open("rb")
    try:
        batches = pyarrow.csv.open_csv(
            source,
            pyarrow.csv.ReadOptions(block_size=READ_BYTES, encoding="utf-16" if utf16 else "utf8"),
            pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
            pyarrow.csv.ConvertOptions(
                include_columns=names[:1], column_types={names[0]: "string"}, strings_can_be_null=False
            ),
        )
        checked = False
        for batch in batches:
            messages = batch[names[0]].to_pylist()
            if not checked and any("\n" in message for message in messages):
                check_quotes(csv_path, encoding, delimiter)
                checked = True
            yield messages
    except pyarrow.ArrowInvalid as error:
        check_quotes(csv_path, encoding, delimiter)
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        if "invalid UTF8" in reason:
            raise InputError(f"{csv_path} is not in UTF-8. Save it as a CSV in UTF-8.") from error
        if "straddling" in reason:
            reason = f"a row has more than {READ_BYTES:,} bytes"
        raise InputError(f"{csv_path} is not a valid CSV: {reason}. Correct it, or move it away.") from error


def normal(name: str) -> str:
    return name.strip().lower()


def check_quotes(csv_path: Path, encoding: str, delimiter: str) -> None:
    """Raise InputError if a value swallows the rows after it because its quote is never closed.

    It contains a line that begins like a row of parse_logs.py or, in tables of others, many lines with as many columns
    as the header.
    """
    csv.field_size_limit(1 << 31)
    with csv_path.open(encoding=encoding, errors="replace", newline="") as file:
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
