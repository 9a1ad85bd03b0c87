"""CSVs and TSVs: all values row by row, or some columns fast; and the chats in them and in Parquet files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError
from chatter.logs.batch import HEADERS, SESSION, channel_name
from chatter.logs.columns import COLUMNS, find_columns
from chatter.logs.reading import UnreadableLog, open_log, read_chunks
from chatter.logs.table_syntax import TableHead, TableSyntax, num_swallowed, read_table_head

if TYPE_CHECKING:
    import pyarrow

READ_BYTES = 4 << 20  # of CSV at a time: bounds memory
READ_ROWS = 10_000  # at a time
OUR_ROW = re.compile(r"\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d,")


def is_columnar(path: Path) -> bool:
    """Return whether a file is a Parquet, Arrow or Feather file by its name."""
    return re.search(r"\.(?:parquet|arrow|feather)(?:\.gz|\.zst)?$", path.name, re.IGNORECASE) is not None


def is_table(path: Path) -> bool:
    """Return whether a file is a CSV or TSV by its name."""
    return re.search(r"\.[ct]sv(?:\.gz|\.zst)?$", path.name, re.IGNORECASE) is not None


def read_rows(
    csv_path: Path, head: TableHead, progress: Callable[[int], None]
) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
    """Yield the rows below the header in lists, each with the numbers of their first lines, counted from 0.

    A blank line is a row without values. `progress` is as in `read_chunks`. Raises UnreadableLog as `read_chunks` does,
    if the table is not in UTF-8, and if a quote is never closed.
    """
    lines = chain.from_iterable(read_text(csv_path, progress))
    if not head.syntax.quotes:
        rows, first = map(head.syntax.split, islice(lines, 1, None)), 1
        while some := [*islice(rows, READ_ROWS)]:
            yield range(first, first + len(some)), some
            first += len(some)
        return
    reader = head.syntax.read(lines)
    next(reader, None)
    while True:
        first = reader.line_num
        try:
            some = [*islice(reader, READ_ROWS)]
        except csv.Error:
            raise unclosed_quote(csv_path, first + 1, "many") from None
        if not some:
            return
        numbers = range(first, first + len(some))
        if reader.line_num - first != len(some):  # values of several lines
            numbers = [first, *islice(line_numbers(first, some), len(some) - 1)]
            check_rows(csv_path, numbers, some, head)
        yield numbers, some


def read_text(csv_path: Path, progress: Callable[[int], None]) -> Iterator[Iterable[str]]:
    """Yield the lines of a table, many at a time."""
    first = 1
    for chunk in read_chunks(csv_path, progress):
        try:
            yield io.StringIO(chunk.decode(), newline="")
        except UnicodeDecodeError as error:
            line = first + chunk[: error.start].count(b"\n")
            raise UnreadableLog(f"{csv_path} is not in UTF-8. Save it as a CSV in UTF-8. See line {line}.") from error
        first += chunk.count(b"\n")


def line_numbers(first: int, rows: Iterable[Sequence[str]]) -> Iterator[int]:
    """Yield the number of the line after each row."""
    for row in rows:
        text = "".join(row)
        first += 1 + text.count("\n") + text.count("\r") - text.count("\r\n")
        yield first


def check_rows(csv_path: Path, numbers: Sequence[int], rows: Iterable[Sequence[str]], head: TableHead) -> None:
    """Raise UnreadableLog if a value swallows the rows after it because its quote is never closed.

    Such a value contains a line like a row of parse_logs.py or, in other tables, many lines with as many columns as
    the header.
    """
    for number, row in zip(numbers, rows, strict=True):
        for value in row:
            if "\n" not in value:
                continue
            lines = value.splitlines()[1:]
            if head.header in HEADERS:
                swallowed = any(map(OUR_ROW.match, lines))
            else:
                similar = num_swallowed(value, head.syntax.delimiter, len(head.header))
                swallowed = similar >= 5 and similar > len(lines) // 2
            if swallowed:
                raise unclosed_quote(csv_path, number + 1, f"{len(lines)}")


def unclosed_quote(csv_path: Path, line: int, num_lines: str) -> UnreadableLog:
    return UnreadableLog(
        f'{csv_path}:{line} has a quote (") that is not closed, so that {num_lines} more lines would become part of '
        "one message. Close it, or double it if it was typed."
    )


def read_chats(path: Path, by_channel: bool = False) -> Iterator[tuple[str | None, list[str]]]:
    """Yield the messages of a file in order and some at a time, as `read_columns` and `split_chats` do."""
    last = None
    for columns in read_columns(path, ["channel"] * by_channel):
        yield from split_chats(columns, path, by_channel, last)
        last = last_session(columns, last)


def split_chats(
    columns: Mapping[str, pyarrow.Array], path: Path, by_channel: bool, last: Any = None
) -> Iterator[tuple[str | None, list[str]]]:
    """Yield the messages in some rows, in order. Each list has messages of one channel, which comes first.

    Unless `by_channel`, it is always "". Where one stream ends and another begins, as the column SESSION tells,
    (None, []) comes between them; `last` is the session of the row before, or None. Raises InputError if `by_channel`
    and a message has no channel.
    """
    messages = columns["message"].to_pylist()
    channels = columns["channel"].to_pylist() if "channel" in columns else [""] * len(messages)
    names = {channel: channel_name(channel) for channel in dict.fromkeys(channels)}
    if by_channel and "" in names.values():
        raise InputError(
            f"{path} has messages without a channel. Name its log channel-2024-03-07.log and run parse_logs.py again, "
            "fill in its column channel, or leave out --with-channel."
        )
    first = 0
    for session, group in groupby(columns[SESSION].to_pylist() if SESSION in columns else [last] * len(messages)):
        end = first + len([*group])
        if last not in (None, session):
            yield None, []
        chats = {name: [] for name in names.values()} if by_channel else {"": messages[first:end]}
        if by_channel:
            for channel, message in zip(channels[first:end], messages[first:end], strict=True):
                chats[names[channel]].append(message)
        yield from chats.items()
        first, last = end, session


def last_session(columns: Mapping[str, pyarrow.Array], last: Any) -> Any:
    """Return the session of the last row, or `last` if there are no rows or no sessions."""
    return columns[SESSION][-1].as_py() if SESSION in columns and len(columns[SESSION]) else last


def read_columns(
    path: Path, more: Collection[str] = (), progress: Callable[[int], None] = lambda num_bytes: None
) -> Iterator[dict[str, pyarrow.Array]]:
    """Yield columns of a CSV, or of a Parquet, Arrow or Feather file, many rows at a time: `message`, and SESSION and
    the fields `more`, such as `channel`, if the file has them.

    Calls `progress` with the bytes that were read. Raises InputError if there is no column for messages, or if the file
    is not valid.
    """
    from chatter.logs.columnar_reader import read_texts

    wanted = {"message": ["message"], SESSION: [SESSION]} | {field: COLUMNS[field] for field in more}
    yield from (read_csv if is_table(path) else read_texts)(path, wanted, progress)


def read_csv(
    csv_path: Path, wanted: Mapping[str, Sequence[str]], progress: Callable[[int], None]
) -> Iterator[dict[str, pyarrow.Array]]:
    """Yield the wanted columns of a table, many rows at a time; `wanted` is as in `find_columns`.

    A table has a header and values separated by commas, semicolons or tabs. It is in UTF-8, or UTF-16 with a BOM.
    Calls `progress` with the bytes that were read. Raises InputError if there is no column for messages, or if the
    table is not valid.
    """
    import pyarrow
    import pyarrow.csv

    head = read_table_head(csv_path)
    if not head.header:
        return
    columns = {key: head.header[place] for key, place in find_columns(head.header, wanted).items()}
    if "message" not in columns:
        raise InputError(
            f"{csv_path} has no column message. Rename one of {', '.join(head.header)} in its first line, or move the "
            "file out of the input folder."
        )
    position, checked = 0, False
    try:
        with open_log(csv_path) as (file, table):
            if table is file and csv_path.is_file() and str(csv_path).isascii():  # pyarrow reads such files faster
                table = file = pyarrow.OSFile(str(csv_path))
            batches = pyarrow.csv.open_csv(
                table,
                pyarrow.csv.ReadOptions(block_size=READ_BYTES),
                parse_options(head.syntax),
                pyarrow.csv.ConvertOptions(
                    include_columns=[*columns.values()],
                    column_types=dict.fromkeys(columns.values(), "string"),
                    strings_can_be_null=False,
                ),
            )
            for batch in batches:
                if not checked and has_line_break(batch[columns["message"]]):
                    check_table(csv_path, head)
                    checked = True
                yield {key: batch[name] for key, name in columns.items()}
                progress(file.tell() - position)
                position = file.tell()
    except pyarrow.ArrowInvalid as error:
        check_table(csv_path, head)
        reason = str(error).splitlines()[0].removeprefix("CSV parse error: ")
        if "straddling" in reason:
            reason = f"a row has more than {READ_BYTES:,} bytes"
        raise InputError(f"{csv_path} is not a valid CSV: {reason}. Correct it, or move it away.") from error


def has_line_break(column: pyarrow.StringArray) -> bool:
    text = column.buffers()[2]  # all values, one after another; several times as fast to search as one by one
    return text is not None and b"\n" in text.to_pybytes()


def parse_options(syntax: TableSyntax):
    import pyarrow.csv

    return pyarrow.csv.ParseOptions(
        delimiter=syntax.delimiter,
        quote_char='"' if syntax.quotes else False,
        escape_char="\\" if syntax.escapes else False,
        newlines_in_values=syntax.quotes,
    )


def check_table(csv_path: Path, head: TableHead) -> None:
    """Raise InputError if a table is not in UTF-8, has a quote that is never closed, or rows of different lengths."""
    for numbers, rows in read_rows(csv_path, head, lambda num_bytes: None):
        for number, row in zip(numbers, rows, strict=True):
            if row and len(row) != len(head.header):
                raise InputError(
                    f"{csv_path} is not a valid CSV: line {number + 1} has {len(row)} values instead of "
                    f"{len(head.header)}. Correct it, or move the file away."
                )
