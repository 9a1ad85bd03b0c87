"""Timeouts and bans in a log, and the messages that led to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from chatter.logs.batch import Reader

SCHEMA = dict.fromkeys(["channel", "user", "date"], pl.String) | dict.fromkeys(["entry", "first"], pl.UInt32)
PLACES = {"entry": pl.UInt32, "channel": pl.String}


@dataclass(frozen=True)
class Moderation:
    """The timeouts and bans of a log, in order.

    Columns: `channel`, `user` in lower case, `date`, `entry` of the log, and `first`, the first entry that it applies
    to.
    """

    timeouts: pl.DataFrame
    bans: pl.DataFrame

    def covers(self, messages: pl.DataFrame) -> pl.Series:
        """Return a Boolean Series: for each message, whether it led to a timeout or a ban of its user.

        `messages` has the columns `entry`, `channel`, `date` and `user` (in lower case).
        """
        entry = pl.col("entry")
        found = [pl.Series(dtype=pl.UInt32)]
        lowest, highest = messages["entry"].min() or 0, messages["entry"].max() or 0
        for all_events, by in ((self.timeouts, ["channel", "user"]), (self.bans, ["channel", "user", "date"])):
            events = all_events.filter(entry > lowest, pl.col("first") <= highest).select(entry, "first", *by)
            theirs = messages.select(entry, *by).filter(pl.col("user").is_in(events["user"].implode()))
            # The user's next event decides, because later ones do not reach back further.
            theirs = theirs.join_asof(events, on="entry", by=by, strategy="forward", check_sortedness=False)
            found.append(theirs.filter(pl.col("first") <= entry)["entry"])
        return messages.select(entry.is_in(pl.concat(found).implode())).to_series()


def find_moderation(log_path: Path, reader: Reader, num_lines: int, progress: Callable[[int], None]) -> Moderation:
    """Read the timeouts and bans of a log.

    A timeout applies to the last `num_lines` entries of its channel, a ban to earlier entries of the same day.
    """
    entry = pl.col("entry")
    events, before = {"timeouts": [], "bans": []}, pl.DataFrame(schema=PLACES)
    for batch in reader.read_events(log_path, progress):
        numbers = [number for number, *_ in batch.events]
        of_events = {number: channel for number, _, _, _, channel, *_ in batch.events}
        of_events = pl.DataFrame([*of_events.items()], PLACES, orient="row")
        table = pl.concat([before, batch.messages.select("entry", "channel"), of_events]).sort("entry")
        first = entry.shift(num_lines, fill_value=0).over("channel")
        firsts = dict(table.select(entry, first=first).filter(entry.is_in(numbers)).iter_rows())
        found = {"timeouts": [], "bans": []}
        for number, kind, date, _, channel, user, _ in batch.events:
            if kind in found:
                found[kind].append((channel, user.lower(), date, number, 0 if kind == "bans" else firsts[number]))
        for kind, rows in found.items():
            events[kind].append(pl.DataFrame(rows, SCHEMA, orient="row"))
        before = table.group_by("channel").tail(num_lines).select("entry", "channel")
    return Moderation(**{kind: pl.concat([pl.DataFrame(schema=SCHEMA), *each]) for kind, each in events.items()})
