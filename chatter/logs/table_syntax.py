"""How a table is written: the character between its values, its quotes and its backslashes, from its first part."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from chatter.logs.batch import HEADERS
from chatter.logs.columns import COLUMNS, plain_name
from chatter.logs.reading import read_head

FIRST_BYTES = 1 << 20  # of a table, from which its syntax is detected
MAX_VALUE = 1 << 24  # characters: a longer value begins with a quote that is never closed
csv.field_size_limit(MAX_VALUE)


@dataclass(frozen=True)
class TableSyntax:
    """How the values of a row are separated, and whether they may be quoted."""

    delimiter: str = ","
    quotes: bool = True  # whether a value may be in quotes, which are doubled in it
    escapes: bool = False  # whether quotes are written \" in it

    def read(self, lines: Iterable[str], strict: bool = False) -> Iterator[list[str]]:
        """Return a reader of the csv module."""
        escape = "\\" if self.escapes else None
        return csv.reader(lines, delimiter=self.delimiter, escapechar=escape, strict=strict)

    def split(self, line: str) -> list[str]:
        """Return the values of a line of a table without quotes; none of a blank line."""
        text = line.rstrip("\r\n")
        return text.split(self.delimiter) if text else []


@dataclass(frozen=True)
class TableHead:
    """The first part of a table."""

    text: str = ""
    syntax: TableSyntax = TableSyntax()

    @cached_property
    def header(self) -> list[str]:
        """The names of the columns; empty if the table is empty."""
        return next(self.read(), [])

    @cached_property
    def rows(self) -> list[list[str]]:
        """The complete rows below the header."""
        return [row for row in islice(self.read(), 1, None) if len(row) == len(self.header)]

    def read(self) -> Iterator[list[str]]:
        lines = io.StringIO(self.text, newline="")
        return self.syntax.read(lines) if self.syntax.quotes else map(self.syntax.split, lines)


def read_table_head(csv_path: Path) -> TableHead:
    """Read the first part of a table, and detect its syntax."""
    data = read_head(csv_path, FIRST_BYTES)
    text = data.decode(errors="replace")
    if len(data) >= FIRST_BYTES - len(codecs.BOM_UTF8):  # without the last line, which is incomplete
        text = text[: text.rfind("\n") + 1] or text
    return TableHead(text, find_syntax(text)) if text.strip() else TableHead()


def find_syntax(text: str) -> TableSyntax:
    """Return the syntax of a table that begins with a text of whole lines."""
    lines = io.StringIO(text, newline="")
    first = next(lines)
    known = {name for names in COLUMNS.values() for name in names}
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter), []) for delimiter in ",;\t"}
    delimiter = max(headers, key=lambda each: (len(known & {*map(plain_name, headers[each])}), len(headers[each])))
    quoted, plain = TableSyntax(delimiter), TableSyntax(delimiter, quotes=False)
    if headers[delimiter] in HEADERS or (delimiter != "\t" and '"' not in text):
        return quoted
    if delimiter == "\t" and '"' not in text:
        return plain
    lines = [first, *lines]
    candidates = [quoted, TableSyntax(delimiter, escapes=True)] if '\\"' in text else [quoted]
    if not first.startswith('"'):
        candidates.insert(0 if delimiter == "\t" and not need_quotes(lines, delimiter) else 2, plain)
    complete = lines if len(lines) < 3 or lines[-1].endswith("\n") else lines[:-1]
    return min(candidates, key=lambda syntax: count_misfits(complete, syntax))  # on a tie, the first


def need_quotes(lines: list[str], delimiter: str) -> bool:
    """Return whether most of the values in quotes contain quotes that a program doubled or escaped.

    People, too, type a text in quotes, but do not double the quotes in it.
    """
    values = [value for line in lines for value in line.rstrip("\r\n").split(delimiter)]
    in_quotes = [value[1:-1] for value in values if len(value) > 1 and value[0] == value[-1] == '"']
    with_reason = sum('""' in value or '\\"' in value for value in in_quotes)
    return 2 * with_reason > len(in_quotes)


def count_misfits(lines: list[str], syntax: TableSyntax) -> int:
    """Return how many rows or lines have quotes in wrong places, or another number of values than the header."""
    if not syntax.quotes:
        width = lines[0].count(syntax.delimiter)
        return sum(line.count(syntax.delimiter) != width for line in lines if line.strip())
    reader, width, misfits = syntax.read(lines, strict=True), 0, 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            misfits += 1
            continue
        if row is None:
            return misfits
        width = width or len(row)
        swallowed = sum(num_swallowed(value, syntax.delimiter, width) for value in row if "\n" in value)
        misfits += swallowed or (len(row) != width and row != [])


def num_swallowed(value: str, delimiter: str, width: int) -> int:
    """Return how many lines of a value, after its first, look like rows of a table with `width` columns."""
    return sum(line.count(delimiter) == width - 1 > 0 for line in value.splitlines()[1:])
