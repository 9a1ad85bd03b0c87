"""The names of the columns of a table, of a Parquet file or of JSON objects, and what to do if none has messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chatter.logs.columns import plain_name
from chatter.logs.entries import find_json_format, load_json
from chatter.logs.file_names import is_columnar, is_table
from chatter.logs.json_documents import CONTAINERS, read_document, split_documents
from chatter.logs.object_reader import list_keys
from chatter.logs.reading import read_blocks, read_head
from chatter.logs.table_syntax import read_table_head


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a file, in lower case; none if it has no columns."""
    if is_columnar(path):
        from chatter.logs.columnar import open_columns

        with open_columns(path) as file:
            names = [name for each in file.columns for name in (".".join(each.path), each.name)]
    elif is_table(path):
        names = read_table_head(path).header
    else:
        names = [".".join(key) for each in read_objects(path) for key in list_keys(each)]
    return [*dict.fromkeys(map(plain_name, names))]


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Return the first JSON objects of a file, one a line or in an array, unless a known program wrote them."""
    head = read_head(path).lstrip()
    values = [load_json(line) for line in head.split(b"\n") if line.startswith(b"{")]
    if not any(isinstance(value, dict) for value in values) and head[:1] in (b"[", b"{"):
        blocks = next(split_documents(read_blocks(path, lambda num_bytes: None)))
        values = read_document(blocks, "")[0].others
    objects = [value for value in values if isinstance(value, dict)]
    is_other = any(map(find_json_format, objects)) or any(
        isinstance(each.get(key), list) for each in objects for key in CONTAINERS
    )
    return [] if is_other else objects


def no_messages(path: Path) -> str:
    """Return an error about a file without a column of messages."""
    names = ", ".join(read_header(path)) or "no text"
    return (
        f"{path} has no column of messages. If one of its columns contains them ({names}), pass its name with "
        "--columns message=NAME, or move the file away."
    )
