"""CSVs and TSVs of messages from any program, read by column."""

from __future__ import annotations

import argparse
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from chatter.cli import InputError
from chatter.files import text_encoding
from chatter.logs.batch import FIELDS, channel_name
from chatter.logs.reading import open_log, read_head

READ_BYTES = 4 << 20  # of CSV at a time: bounds memory
# Field -> the names of columns that contain it, in lower case. The first that a table has is taken.
COLUMNS = {
    "message": ("message", "text", "body", "contents", "content", "msg"),
    "username": ("username", "user", "user_name", "login", "author", "author_name", "name", "nick", "display_name"),
    "channel": ("channel", "channel_name", "streamer"),
    "date": ("date", "day"),
    "time": ("timestamp", "created_at", "datetime", "time", "time_in_seconds", "time_text"),
}


def parse_names(text: str) -> dict[str, str]:
    """Parse an option such as message=Text,username=Who: field -> column. Raises argparse.ArgumentTypeError."""
    names = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in text.split(","))
    if not all(names.values()) or not names.keys() <= COLUMNS.keys():
        raise argparse.ArgumentTypeError(f"must be like message=Text,username=Who; fields: {', '.join(COLUMNS)}")
    return names


def read_header(csv_path: Path) -> tuple[list[str], str, str]:
    """Return the column names of a table (none if it is empty), its delimiter, and its encoding, UTF-8 or UTF-16."""
    head = read_head(csv_path)
    encoding = text_encoding(head)
    header = (head.decode(encoding, errors="replace").splitlines() or [""])[0]
    rows = {delimiter: next(csv.reader([header], delimiter=delimiter), []) for delimiter in ",;\t"}
    known = {name for names in COLUMNS.values() for name in names}
    delimiter = max(rows, key=lambda each: (len(known & {*map(plain_name, rows[each])}), len(rows[each])))
    return (rows[delimiter] if header.strip() else []), delimiter, encoding


def find_columns(header: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Map each key of `wanted` to the first of its column names that the table has; leave out keys without any."""
    columns = {plain_name(name): name for name in reversed(header)}
    found = {
        key: next((name for name in map(plain_name, names) if name in columns), None) for key, names in wanted.items()
    }
    return {key: columns[name] for key, name in found.items() if name is not None}


def plain_name(name: str) -> str:
    return name.strip().lower()


def read_chats(
    csv_path: Path, by_channel: bool = False, progress: Callable[[int], None] = lambda num_bytes: None
) -> Iterator[tuple[str, list[str]]]:
    """Yield the messages of a CSV in lists of about ten thousand, in order, each list with its channel.

    Unless `by_channel`, the channel is always "". Errors and `progress` are as in `read_columns`. Also raises
    InputError if `by_channel` and a message has no channel.
    """
    wanted = {"message": ["message"]} | ({"channel": COLUMNS["channel"]} if by_channel else {})
    for columns in read_columns(csv_path, wanted, progress):
        messages = columns["message"]
        if not by_channel:
            yield "", messages
            continue
        channels = columns.get("channel", [""] * len(messages))
        names = {channel: channel_name(channel) for channel in dict.fromkeys(channels)}
        if "" in names.values():
            raise InputError(
                f"{csv_path} has messages without a channel. Fill in its column channel, or leave out --with-channel."
            )
        chats = {name: [] for name in names.values()}
        for channel, message in zip(channels, messages, strict=True):
            chats[names[channel]].append(message)
        yield from chats.items()


def read_columns(
    csv_path: Path, wanted: Mapping[str, Sequence[str]], progress: Callable[[int], None]
) -> Iterator[dict[str, list[str]]]:
    """Yield the wanted columns of a table, about ten thousand rows at a time; `wanted` is as in `find_columns`.

    A table has a header, is separated by commas, semicolons or tabs, and in UTF-8, or in UTF-16 with a byte order mark.
    Calls `progress` with the bytes that were read. Raises InputError if there is no column for messages, or if the
    table is not valid.
    """
    import pyarrow
    import pyarrow.csv

    header, delimiter, encoding = read_header(csv_path)
    if not header:
        return
    columns = find_columns(header, wanted)
    if "message" not in columns:
        raise InputError(
            f"{csv_path} has no column message. Rename one of {', '.join(header)} in its first line, or move the "
            "file out of the input folder."
        )
    position, checked = 0, False
    try:
        with open_log(csv_path) as (file, table):
            if table is file and str(csv_path).isascii():  # pyarrow reads such files faster
                table = file = pyarrow.OSFile(str(csv_path))
            batches = pyarrow.csv.open_csv(
                table,
                pyarrow.csv.ReadOptions(block_size=READ_BYTES, encoding="utf-16" if encoding == "utf-16" else "utf8"),
                pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
                pyarrow.csv.ConvertOptions(
                    include_columns=[*columns.values()],
                    column_types=dict.fromkeys(columns.values(), "string"),
                    strings_can_be_null=False,
                ),
            )
            for batch in batches:
                rows = {key: batch[name].to_pylist() for key, name in columns.items()}
                if not checked and any("\n" in message for message in rows["message"]):
                    check_quotes(csv_path, encoding, delimiter)
                    checked = True
                yield rows
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


def check_quotes(csv_path: Path, encoding: str, delimiter: str) -> None:
    """Raise InputError if a value swallows the rows after it because its quote is never closed.

    Such a value contains a line like a row of parse_logs.py or, in other tables, many lines with as many columns as
    the header.
    """
    csv.field_size_limit((1 << 31) - 1)
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
