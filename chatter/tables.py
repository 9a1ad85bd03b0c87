"""CSVs of messages: reading them whoever wrote them, and telling ours from others."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from pathlib import Path

from chatter.command import InputError
from chatter.dialects import FIELDS

READ_BYTES = 4 << 20  # of CSV at a time: bounds memory
HEAD_BYTES = 1 << 16


def find_tables(folder: Path) -> list[Path]:
    """Return the .csv files below a folder, sorted, without those in hidden folders."""
    paths = [path for path in folder.rglob("*.csv") if path.is_file()]
    return sorted(path for path in paths if not any(part[0] == "." for part in path.relative_to(folder).parts))


def is_ours(csv_path: Path) -> bool:
    """Return whether parse_logs.py wrote this file: it is empty, or has the header."""
    with csv_path.open("rb") as file:
        return file.readline(HEAD_BYTES).decode(errors="replace").strip() in ("", ",".join(FIELDS))


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
    header = head.decode(encoding, errors="replace").splitlines()[0]
    delimiter = max(",;\t", key=header.count)
    columns = next(csv.reader([header], delimiter=delimiter))
    if "message" not in columns:
        raise InputError(
            f"{csv_path} has no column message in its first line. Run parse_logs.py, whose CSVs have one, or move the "
            "file out of the input folder."
        )
    try:
        batches = pyarrow.csv.open_csv(
            csv_path,
            pyarrow.csv.ReadOptions(block_size=READ_BYTES, encoding="utf-16" if utf16 else "utf8"),
            pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
            pyarrow.csv.ConvertOptions(
                include_columns=["message"], column_types={"message": "string"}, strings_can_be_null=False
            ),
        )
        for batch in batches:
            messages = batch["message"].to_pylist()
            if any("\n" in message for message in messages):
                check_quotes(csv_path, encoding, delimiter)
            yield messages
    except pyarrow.ArrowInvalid as error:
        check_quotes(csv_path, encoding, delimiter)
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        raise InputError(
            f"{csv_path} is not a valid CSV: {reason}. Fix it, or write it again with parse_logs.py."
        ) from error


def check_quotes(csv_path: Path, encoding: str, delimiter: str) -> None:
    """Raise InputError if a value swallows the rows after it because its quote is never closed.

    Such a value contains a line with as many columns as the header, which no message of several lines should.
    """
    csv.field_size_limit(1 << 31)
    with csv_path.open(encoding=encoding, errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader)
        first = reader.line_num + 1
        for row in reader:
            for value in row:
                for offset, line in enumerate(value.splitlines()[1:-1], 1):
                    if len(header) > 1 and line.count(delimiter) >= len(header) - 1:
                        raise InputError(
                            f'{csv_path}:{first} has a quote (") that is not closed, so that line {first + offset} and '
                            "what follows would become part of one message. Close it, or double it if it was typed."
                        )
            first = reader.line_num + 1
