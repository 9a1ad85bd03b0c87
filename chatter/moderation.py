"""Timeouts and bans in a log, and the messages that led to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.forms import Form, LineForm
from chatter.lines import Row, parse_line
from chatter.reading import read_chunks, split_lines

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

TIMEOUT_LINES = 100  # lines of the channel before a timeout in which its reason is sought


def find_moderation(log_path: Path, form: Form, progress: Callable[[int], None]) -> dict[str, pl.DataFrame]:
    """Return the timeouts and the bans of a log, under these two keys, one row each, in order.

    Columns: `channel`, `user` in lower case, `date`, `number` of the line in the log, and `first`, the number of the
    first line that it applies to. A timeout reaches back TIMEOUT_LINES lines of its channel, a ban over its day.
    """
    import polars as pl

    number = pl.col("number")
    schema = dict.fromkeys(["channel", "user", "date"], pl.String) | dict.fromkeys(["number", "first"], pl.UInt32)
    events, before = {"timeouts": [], "bans": []}, None
    by_pattern = isinstance(form, LineForm) and form.dialects[0].stands_alone and not form.entries
    for table, rows in (patterned_events if by_pattern else parsed_events)(log_path, form, progress):
        table = table if before is None else pl.concat([before, table])
        first = number.shift(TIMEOUT_LINES, fill_value=0).over("channel")
        places = table.select(number, first=first).filter(number.is_in([row[0] for row in rows]))
        firsts = dict(places.iter_rows())
        found = {"timeouts": [], "bans": []}
        for place, kind, date, _, channel, user, _ in rows:
            if kind in found:
                found[kind].append((channel, user.lower(), date, place, 0 if kind == "bans" else firsts[place]))
        for kind, each in found.items():
            events[kind].append(pl.DataFrame(each, schema, orient="row"))
        before = table.group_by("channel").tail(TIMEOUT_LINES).select("number", "channel")
    return {kind: pl.concat([pl.DataFrame(schema=schema), *frames]) for kind, frames in events.items()}


def patterned_events(
    log_path: Path, form: LineForm, progress: Callable[[int], None]
) -> Iterator[tuple[pl.DataFrame, list[Row]]]:
    """Yield the channel of each line, and the events among the lines, for which only some lines are parsed."""
    import polars as pl

    line = pl.col("line")
    channel = line.str.splitn(" #", 2).struct.field("field_1").str.splitn(" ", 2).struct.field("field_0")
    perhaps = "|".join(dialect.moderation for dialect in form.dialects if dialect.moderation)
    num_lines = 0
    for chunk in read_chunks(log_path, progress):
        lines, _ = split_lines(chunk)
        table = lines.to_frame().with_row_index("number", num_lines).select("number", "line", channel=channel)
        rows = []
        for place, text in table.filter(line.str.contains(perhaps)).select("number", "line").iter_rows():
            kind, row = parse_line(text, form.dialects)
            if row:
                rows.append((place, kind, *row))
        yield table.select("number", "channel"), rows
        num_lines += len(lines)


def parsed_events(
    log_path: Path, form: Form, progress: Callable[[int], None]
) -> Iterator[tuple[pl.DataFrame, list[Row]]]:
    """Yield the channel of each message and event, and the events, of a file in any form."""
    import polars as pl

    schema = {"number": pl.UInt32, "channel": pl.String}
    for batch in form.read(log_path, progress):
        events = pl.DataFrame([(row[0], row[4]) for row in batch.events], schema, orient="row")
        yield pl.concat([batch.messages.select("number", "channel"), events]).sort("number"), batch.events


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
