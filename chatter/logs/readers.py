"""The readers of all logs, and which logs cannot be read or lack what the options need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from chatter.cli import InputError
from chatter.logs.batch import Reader
from chatter.logs.columns import plain_name
from chatter.logs.find_reader import find_reader
from chatter.logs.headers import read_header
from chatter.logs.reading import UnreadableLog
from chatter.logs.tables import is_columnar, is_table


def find_readers(
    logs: Iterable[Path], format_name: str, columns: Mapping[str, str], user_option: str = ""
) -> tuple[dict[Path, Reader], dict[Path, str], set[Path]]:
    """Return the reader of each log, why each other log cannot be read, and which of these do not name their users.

    `format_name` and `columns` are as in `find_reader`. If `user_option`, an option that compares users, is set, a log
    without users is not read, because it may contain messages of people who asked to be left out.
    """
    readers, unreadable, nameless = {}, {}, set()
    for log in logs:
        try:
            reader = find_reader(log, format_name, columns)
        except UnreadableLog as error:
            unreadable[log] = str(error)
            continue
        if user_option and not reader.has_users:
            nameless.add(log)
            unreadable[log] = (
                f"{log} has no column of users, which {user_option} needs. Name it with --columns username=NAME, or "
                "move the file away."
            )
        else:
            readers[log] = reader
    return readers, unreadable, nameless


def find_missing_columns(logs: Iterable[Path], columns: Mapping[str, str]) -> dict[Path, list[str]]:
    """Return the names in `columns`, which the user gave, that each table lacks.

    Raises InputError if no table has one of them.
    """
    headers = {}
    for log in logs if columns else ():
        with contextlib.suppress(UnreadableLog):  # which `find_readers` reports
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
