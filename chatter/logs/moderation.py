"""Timeouts, bans and deletions in a log, and the messages that led to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chatter.logs.batch import INVISIBLE_SUFFIXES, Reader

SCHEMA = dict.fromkeys(["channel", "user", "date"], pl.String) | dict.fromkeys(["entry", "first"], pl.UInt32)
PLACES = {"entry": pl.UInt32, "channel": pl.String}
# Programs cut deleted texts to 50 characters or more.
TEXT_ID = pl.concat_str(
    "channel",
    pl.col("username").str.to_lowercase(),
    pl.col("message").str.strip_chars_end(f" {INVISIBLE_SUFFIXES}").str.slice(0, 50),
    separator="\n",
)


@dataclass(frozen=True)
class Moderation:
    """The timeouts and bans of a log, in order, and the entries of deleted messages.

    Columns of the tables: `channel`, `user` in lower case, `date`, `entry` of the log, and `first`, the first entry
    that it applies to.
    """

    timeouts: pl.DataFrame
    bans: pl.DataFrame
    deleted: pl.Series

    def covers(self, messages: pl.DataFrame) -> pl.Series:
        """Return a Boolean Series: for each message, whether it led to a timeout or a ban of its user, or was deleted.

        `messages` has the columns `entry`, `channel`, `date` and `user` (in lower case).
        """
        entry = pl.col("entry")
        found = [self.deleted]
        lowest, highest = messages["entry"].min() or 0, messages["entry"].max() or 0
        for all_events, by in ((self.timeouts, ["channel", "user"]), (self.bans, ["channel", "user", "date"])):
            events = all_events.filter(entry > lowest, pl.col("first") <= highest).select(entry, "first", *by)
            theirs = messages.select(entry, *by).filter(pl.col("user").is_in(events["user"].implode()))
            # The user's next event decides, because later ones do not reach back further.
            theirs = theirs.join_asof(events, on="entry", by=by, strategy="forward", check_sortedness=False)
            found.append(theirs.filter(pl.col("first") <= entry)["entry"])
        return messages.select(entry.is_in(pl.concat(found).implode())).to_series()


def find_moderation(log_path: Path, reader: Reader, num_lines: int, progress: Callable[[int], None]) -> Moderation:
    """Read the timeouts, bans and deletions of a log.

    A timeout applies to the last `num_lines` entries of its channel, a ban to earlier entries of the same day, and a
    deletion to one message.
    """
    entry = pl.col("entry")
    events, before, deletions = {"timeouts": [], "bans": []}, pl.DataFrame(schema=PLACES), []
    for batch in reader.read_events(log_path, progress):
        numbers = [number for number, *_ in batch.events]
        of_events = {number: channel for number, _, _, _, channel, *_ in batch.events}
        of_events = pl.DataFrame([*of_events.items()], PLACES, orient="row")
        table = pl.concat([before, batch.messages.select("entry", "channel"), of_events]).sort("entry")
        first = entry.shift(num_lines, fill_value=0).over("channel")
        firsts = dict(table.select(entry, first=first).filter(entry.is_in(numbers)).iter_rows())
        found = {"timeouts": [], "bans": []}
        for number, kind, date, _, channel, user, text in batch.events:
            if kind == "deletions":
                deletions.append((number, channel, user, text))
            elif kind in found:
                found[kind].append((channel, user.lower(), date, number, 0 if kind == "bans" else firsts[number]))
        for kind, rows in found.items():
            events[kind].append(pl.DataFrame(rows, SCHEMA, orient="row"))
        before = table.group_by("channel").tail(num_lines).select("entry", "channel")
    tables = {kind: pl.concat([pl.DataFrame(schema=SCHEMA), *each]) for kind, each in events.items()}
    return Moderation(**tables, deleted=find_deleted(log_path, reader, deletions))


def find_deleted(log_path: Path, reader: Reader, deletions: list[tuple[int, str, str, str]]) -> pl.Series:
    """Return the entry of the message that each deletion removed: the last one before it with the same id or text."""
    found = [pl.DataFrame(schema={"entry": pl.UInt32, "id": pl.String})]
    schema = {"deletion": pl.UInt32} | dict.fromkeys(["channel", "username", "message"], pl.String)
    table = pl.DataFrame(deletions, schema, orient="row")
    table = table.select("deletion", id=pl.col("message") if reader.deletes_by_id else TEXT_ID).sort("deletion")
    if deletions:
        if reader.deletes_by_id:
            tables = reader.read_ids(log_path)
        else:
            batches = reader.read(log_path, lambda num_bytes: None)
            tables = (batch.messages.select("entry", id=TEXT_ID) for batch in batches)
        found += [each.filter(pl.col("id").is_in(table["id"].implode())) for each in tables]
    pairs = table.join_asof(
        pl.concat(found),
        left_on="deletion",
        right_on="entry",
        by="id",
        strategy="backward",
        check_sortedness=False,
        coalesce=False,
    )
    return pairs["entry"].drop_nulls()
