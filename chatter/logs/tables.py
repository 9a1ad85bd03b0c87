"""CSVs and TSVs of any program, row by row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from chatter.logs.batch import HEADERS
from chatter.logs.reading import UnreadableLog, read_chunks
from chatter.logs.table_syntax import TableHead, num_swallowed

READ_ROWS = 10_000  # at a time
OUR_ROW = re.compile(r"\d{4}-\d\d-\d\d,\d\d:\d\d:\d\d,")


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
