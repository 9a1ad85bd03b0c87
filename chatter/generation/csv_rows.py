"""Rows of the CSVs that parse_logs.py writes, one line at a time, as in `tail data/raw/channel.csv`."""

from __future__ import annotations

import csv
import re

from chatter.logs.batch import FIELDS, HEADERS

ROW = re.compile(r'("?)(?:\d{4}-\d\d-\d\d)?\1,("?)(?:\d\d:\d\d:\d\d)?\2,')  # how a row begins: a date and a time, or ""
NAMES = re.compile(r"#?\w*,\S+")  # the channel and the user of a row without a date and a time
MAX_LINES = 20  # of a row; in a longer one, a quote was never closed


class CsvRows:
    """Tells rows from other lines. The message of a row may have several lines."""

    def __init__(self) -> None:
        self.begun: list[str] = []  # the lines of a row whose quote is open

    def read(self, line: str) -> list[str] | None:
        """Return the row that ends with a line, [] if the row goes on or is the header, or None for any other line."""
        begins = ROW.match(line)
        if begins or len(self.begun) == MAX_LINES:
            self.begun = []
        if not begins and not self.begun:
            return [] if split_row(line) in HEADERS else None
        text = "\n".join([*self.begun, line])
        row = split_row(text)
        goes_on = is_ours(row) and text.count('"') % 2 == 1
        self.begun = [*self.begun, line] if goes_on else []
        if goes_on:
            return []
        return row if is_ours(row) else None


def split_row(text: str) -> list[str]:
    """Return the values of a row; none if it is not valid."""
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return []


def is_ours(row: list[str]) -> bool:
    """Return whether these values, which begin with a date and a time or with blanks, are a row of parse_logs.py."""
    if len(row) == len(FIELDS) + 1 and row[-1].isdecimal():  # the number of a stream
        row = row[:-1]
    if len(row) != len(FIELDS) or not row[3]:
        return False
    return any(row[:2]) or NAMES.fullmatch(",".join(row[2:4])) is not None
