"""The files that tokenize_logs.py reads: CSVs, and Parquet, Arrow and Feather files; their columns, and their chats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError
from chatter.logs.batch import SESSION, channel_name
from chatter.logs.columns import COLUMNS, find_columns
from chatter.logs.file_names import NO_NAME, is_table
from chatter.logs.reading import open_log
from chatter.logs.table_syntax import TableHead, TableSyntax, read_table_head
from chatter.logs.tables import read_rows

if TYPE_CHECKING:
    import pyarrow

READ_BYTES = 4 << 20  # of CSV at a time: bounds memory


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
    wanted = {"message": ["message"], SESSION: [SESSION]} | {field: COLUMNS[field] for field in more}
    yield from (read_csv if is_table(path) else read_texts)(path, wanted, progress)


def read_texts(
    path: Path, wanted: Mapping[str, Sequence[str]], progress: Callable[[int], None]
) -> Iterator[dict[str, pyarrow.Array]]:
    """Yield some columns as text, many rows at a time; `wanted` is as in `find_columns`.

    Lists are unrolled, and SESSION is the row that an element comes from. Calls `progress` with the bytes that were
    read. Raises InputError if there is no column for messages, if lists in a row have different lengths, or if the file
    is not valid.
    """
    from chatter.logs.columnar import open_columns
    from chatter.logs.columnar_reader import ColumnarReader

    with open_columns(path) as file:
        all_columns = file.columns
    columns = {
        key: all_columns[place] for key, place in find_columns([each.name for each in all_columns], wanted).items()
    }
    if "message" not in columns:
        names = ", ".join(".".join(column.path) for column in all_columns)
        raise InputError(
            f"{path} has no column message. Rename one of {names}, or move the file out of the input folder."
        )
    for rows in ColumnarReader(columns, NO_NAME, []).read_rows(path, progress):
        if rows.unreadable:
            raise InputError(
                f"{path} has rows with lists of different lengths. Run parse_logs.py on it, which skips them."
            )
        yield {name: rows.cells[name].to_arrow() for name in rows.cells.columns if name != "entry"}


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
    if not head.text:
        return
    if not any(head.header):
        raise InputError(f"{csv_path} begins with a blank line. Delete the line, or move the file away.")
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
