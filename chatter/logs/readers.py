"""The reader of a log, and which logs lack what the options need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from chatter.cli import InputError
from chatter.logs.batch import Reader
from chatter.logs.columns import plain_name
from chatter.logs.file_names import is_columnar, is_table
from chatter.logs.find_reader import find_reader
from chatter.logs.headers import read_header
from chatter.logs.reading import UnreadableLog


class NamelessLog(UnreadableLog):
    """An error with a log that does not name its users."""


def open_reader(log: Path, format_name: str, columns: Mapping[str, str], user_option: str = "") -> Reader:
    """Return the reader of a log. The arguments are as in `find_reader`; raises UnreadableLog as it does.

    If `user_option`, an option that compares users, is set, also raises NamelessLog for a log without users, because it
    may contain messages of people who asked to be left out.
    """
    reader = find_reader(log, format_name, columns)
    if user_option and not reader.has_users:
        raise NamelessLog(
            f"{log} has no column of users, which {user_option} needs. Name it with --columns username=NAME, or move "
            "the file away."
        )
    return reader


def find_missing_columns(logs: Iterable[Path], columns: Mapping[str, str]) -> dict[Path, list[str]]:
    """Return the names in `columns`, which the user gave, that each table lacks.

    Raises InputError if no table has one of them.
    """
    headers = {}
    for log in logs if columns else ():
        with contextlib.suppress(UnreadableLog):  # which `open_reader` reports
            if (header := read_header(log)) or is_table(log) or is_columnar(log):
                headers[log] = header
    missing = {
        log: [name for name in columns.values() if plain_name(name) not in header] for log, header in headers.items()
    }
    for field, name in columns.items():
        if all(name in names for names in missing.values()):
            found = ", ".join(dict.fromkeys(each for header in headers.values() for each in header))
            raise InputError(
                f"no table has the column {name} of --columns {field}={name}. "
                + (f"Pass one of {found}." if found else "There are no tables: leave out --columns.")
            )
    return missing
