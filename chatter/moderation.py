"""Timeouts and bans in a log, and the messages that led to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.dialects import DIALECTS, parse_line
from chatter.reading import read_chunks, split_lines

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

TIMEOUT_LINES = 100  # lines of the channel before a timeout in which its reason is sought
PERHAPS_MODERATION = "|".join(dialect.moderation for dialect in DIALECTS.values())


def find_moderation(log_path: Path, progress: Callable[[int], None]) -> dict[str, pl.DataFrame]:
    """Return the timeouts and the bans of a log, under these two keys, one row each, in order.

    Columns: `channel`, `user` in lower case, `date`, `number` of the line in the log, and `first`, the number of the
    first line that it applies to. A timeout reaches back TIMEOUT_LINES lines of its channel, a ban over its day.
    """
    import polars as pl

    line, number = pl.col("line"), pl.col("number")
    channel = line.str.splitn(" #", 2).struct.field("field_1").str.splitn(" ", 2).struct.field("field_0")
    schema = dict.fromkeys(["channel", "user", "date"], pl.String) | dict.fromkeys(["number", "first"], pl.UInt32)
    events, before, num_lines = {"timeouts": [], "bans": []}, None, 0
    for chunk in read_chunks(log_path, progress):
        lines, _ = split_lines(chunk)
        table = lines.to_frame().with_row_index("number", num_lines).select("number", "line", channel=channel)
        table = table if before is None else pl.concat([before, table], how="diagonal")
        table = table.with_columns(first=number.shift(TIMEOUT_LINES, fill_value=0).over("channel"))
        found = {"timeouts": [], "bans": []}
        perhaps = table.filter(line.str.contains(PERHAPS_MODERATION)).select(number, "first", line)
        for place, first, text in perhaps.iter_rows():
            kind, row = parse_line(text)
            if kind in found and row:
                found[kind].append((row[2], row[3].lower(), row[0], place, 0 if kind == "bans" else first))
        for kind, rows in found.items():
            events[kind].append(pl.DataFrame(rows, schema, orient="row"))
        before = table.select("number", "channel").group_by("channel").tail(TIMEOUT_LINES)
        num_lines += len(lines)
    return {kind: pl.concat([pl.DataFrame(schema=schema), *frames]) for kind, frames in events.items()}


def moderated(messages: pl.DataFrame, moderation: dict[str, pl.DataFrame]) -> pl.Expr:
    """Return the condition that a message led to a timeout or a ban of its user.

    `messages` has the columns `number`, `channel`, `date` and `user` (in lower case).
    """
    import polars as pl

    number = pl.col("number")
    found = [pl.Series(dtype=pl.UInt32)]
    lowest, highest = messages["number"].min() or 0, messages["number"].max() or 0
    for kind, by in {"timeouts": ["channel", "user"], "bans": ["channel", "user", "date"]}.items():
        events = moderation[kind].filter(number > lowest, pl.col("first") <= highest).select(number, "first", *by)
        theirs = messages.select(number, *by).filter(pl.col("user").is_in(events["user"].implode()))
        # The user's next event decides: a later one reaches back less far.
        theirs = theirs.join_asof(events, on="number", by=by, strategy="forward", check_sortedness=False)
        found.append(theirs.filter(pl.col("first") <= number)["number"])
    return number.is_in(pl.concat(found).implode())
