"""JSON objects that no known program wrote, with the names that tables have: one a line, or in an array."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from chatter.logs.batch import EMPTY
from chatter.logs.columns import LOGIN, find_fields, login_of
from chatter.logs.entries import load_json
from chatter.logs.file_names import NameFacts
from chatter.logs.json_documents import read_document, split_documents
from chatter.logs.json_reader import BATCH_ENTRIES, read_entries
from chatter.logs.reading import BlockFile, read_blocks, read_chunks
from chatter.logs.table_reader import Rows, TableReader
from chatter.logs.text_reader import split_lines

Key = tuple[str, ...]  # ("author", "name") for {"author": {"name": ...}}
MAX_DEPTH = 3


@dataclass
class ObjectReader(TableReader):
    """Reads JSON objects."""

    keys: Mapping[str, Key]  # field -> where its value is
    names: NameFacts
    first: Sequence[Any]  # objects
    in_lines: bool  # whether each line is an object

    def __post_init__(self) -> None:
        self.has_users = "username" in self.keys
        users = [login_of(value_text(find_value(each, self.keys["username"]))) for each in self.first * self.has_users]
        self.has_logins = all(map(LOGIN.fullmatch, filter(None, users)))

    def read_rows(self, path: Path, progress: Callable[[int], None]) -> Iterator[Rows]:
        first = 0
        for values, kinds, num_invalid in (read_lines if self.in_lines else read_arrays)(path, progress):
            rows = self.to_rows(values, kinds, first)
            rows.num_invalid = num_invalid
            first += rows.num_entries
            yield rows

    def to_rows(self, values: Sequence[Any], lines: Sequence[str], first: int) -> Rows:
        """Return the rows of JSON values, numbered from `first` on. `lines` has the line of each, if it is one."""
        counts, unreadable, kept = Counter(), {}, []
        for number, value in enumerate(values, first):
            text = find_value(value, self.keys["message"]) if isinstance(value, dict) else value
            if isinstance(value, dict) and isinstance(text, str):
                cells = [clean_text(value_text(find_value(value, key))) for key in self.keys.values()]
                kept.append((number, *cells))
            elif isinstance(value, dict) and text is None:
                counts[EMPTY] += 1
            elif lines and not lines[number - first].strip():
                counts["blank lines"] += 1
            else:
                unreadable[number] = lines[number - first] if lines else ""
        counts["unreadable lines"] += len(unreadable)
        schema = {"entry": pl.UInt32} | dict.fromkeys(self.keys, pl.String)
        return Rows(pl.DataFrame(kept, schema, orient="row"), len(values), counts, unreadable)


def read_lines(path: Path, progress: Callable[[int], None]) -> Iterator[tuple[list[Any], list[str], int]]:
    """Yield the values of lines of JSON, many at a time, with the lines, and how many of them are not UTF-8."""
    for chunk in read_chunks(path, progress):
        series, num_invalid = split_lines(chunk)
        lines = series.to_list()
        yield [*map(load_json, lines)], lines, num_invalid


def read_arrays(path: Path, progress: Callable[[int], None]) -> Iterator[tuple[list[Any], list[str], int]]:
    """Yield the elements of arrays in JSON documents, many at a time, and how many places are not UTF-8."""
    for blocks in split_documents(read_blocks(path, progress)):
        document, head = read_document(blocks, "")
        file = BlockFile(chain(head, blocks))
        prefix = document.prefix or document.other_prefix
        entries = read_entries(file, prefix) if prefix else iter([None] * (not document.is_known))
        while some := [*islice(entries, BATCH_ENTRIES)]:
            num_invalid, file.num_invalid = file.num_invalid, 0
            yield some, [], num_invalid


def find_value(value: Any, key: Key) -> Any:
    """Return the value at a key of nested objects, or None."""
    for name in key:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def value_text(value: Any) -> str:
    return "" if value is None or isinstance(value, bool | dict | list) else str(value)


def clean_text(text: str) -> str:
    """Replace lone surrogates, which JSON may have but UTF-8 cannot."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def list_keys(value: Mapping[str, Any], before: Key = ()) -> Iterator[Key]:
    """Yield the keys of an object, also in the objects in it, whose values are not lists."""
    for name, each in value.items():
        key = (*before, name)
        if isinstance(each, dict) and len(key) < MAX_DEPTH:
            yield from list_keys(each, key)
        elif not isinstance(each, dict | list):
            yield key


def find_keys(objects: Sequence[Any], columns: Mapping[str, str]) -> dict[str, Key]:
    """Return where objects have the fields of a message; `columns` maps fields to the names that the user gave.

    A single object without a user does not count, such as the error of a server.
    """
    objects = [each for each in objects if isinstance(each, dict)]
    keys = [*dict.fromkeys(key for each in objects for key in list_keys(each))]
    rows = [[value_text(find_value(each, key)) for key in keys] for each in objects]
    places = find_fields([".".join(key) for key in keys], rows, columns)
    if "message" not in places or (len(objects) < 2 and "username" not in places):
        return {}
    return {field: keys[place] for field, place in places.items()}


def find_object_reader(
    objects: Sequence[Any], names: NameFacts, columns: Mapping[str, str], in_lines: bool
) -> ObjectReader | None:
    """Return the reader of a file that begins with these JSON values, or None if they have no messages."""
    keys = find_keys(objects, columns)
    return ObjectReader(keys, names, [*objects], in_lines) if keys else None
