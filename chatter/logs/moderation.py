"""Timeouts, bans and deletions in a log, and the messages that led to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from chatter.logs.batch import INVISIBLE_SUFFIXES, Batch, Reader
from chatter.workers import report

# The columns of Moderation: `first` is the first entry that a timeout applies to, `ban` the entry of a ban.
TIMEOUTS = {"entry": pl.UInt32, "channel": pl.String, "user": pl.String, "first": pl.UInt32}
BANS = {"channel": pl.String, "user": pl.String, "date": pl.String, "ban": pl.UInt32}
NO_ENTRIES = pl.Series("entry", [], pl.UInt32)
# Programs cut deleted texts to 50 characters or more.
TEXT_ID = pl.concat_str(
    "channel",
    pl.col("username").str.to_lowercase(),
    pl.col("message").str.strip_chars_end(f" {INVISIBLE_SUFFIXES}").str.slice(0, 50),
    separator="\n",
)


@dataclass(frozen=True)
class Moderation:
    """The timeouts and bans of a log, and the entries of deleted messages. Users are in lower case."""

    timeouts: pl.DataFrame  # columns TIMEOUTS, in the order of entries
    last_bans: pl.DataFrame  # columns BANS: the last ban of a user on each day
    deleted: pl.Series

    @cached_property
    def users(self) -> set[str]:
        """The users who were timed out or banned."""
        return {*self.timeouts["user"], *self.last_bans["user"]}

    def covers(self, messages: pl.DataFrame) -> pl.Series:
        """Return a Boolean Series: for each message, whether it led to a timeout or a ban of its user, or was deleted.

        `messages` has the columns `entry`, `channel`, `date` and `user`, in the order of entries.
        """
        found = [self.deleted]
        theirs = messages.filter(pl.col("user").is_in(self.users)).select("entry", "channel", "user", "date")
        if len(theirs):
            # Only the next timeout matters: later ones do not reach back further.
            timeouts = theirs.join_asof(
                self.timeouts, on="entry", by=["channel", "user"], strategy="forward", check_sortedness=False
            )
            bans = theirs.join(self.last_bans, on=["channel", "user", "date"])
            found += [timeouts.filter(pl.col("first") <= pl.col("entry"))["entry"]]
            found += [bans.filter(pl.col("entry") <= pl.col("ban"))["entry"]]
        return messages["entry"].is_in(pl.concat(found).implode())


class Events:
    """The timeouts, bans and deletions of a log, collected from its batches, or from its parts.

    A timeout applies to the last `num_entries` messages and events of its channel, a ban to earlier messages of the
    same day, and a deletion to one message. In a part of a log, the first entry of a timeout may lie before the part;
    it is then unknown until `extend` adds the part to those before it.
    """

    def __init__(self, num_entries: int) -> None:
        self.num_entries = num_entries
        # Channel, user in lower case, date, entry, the first entry that it applies to (None: unknown), and the kind.
        self.rows: list[tuple] = []
        self.deletions: list[tuple[int, str, str, str]] = []  # entry, channel, user, and the text or the id
        # The first and the last `num_entries` entries of each channel.
        self.head: dict[str, np.ndarray] = {}
        self.tail: dict[str, np.ndarray] = {}

    def add(self, batch: Batch) -> None:
        """Add the events of the next batch."""
        entries = entries_of_channels(batch)
        seen = self.after_tail(entries)
        firsts = self.find_firsts(
            ((number, channel) for number, kind, _, _, channel, *_ in batch.events if kind == "timeouts"), seen
        )
        for number, kind, date, _, channel, user, text in batch.events:
            if kind == "deletions":
                self.deletions.append((number, channel, user, text))
            else:
                self.rows.append((channel, user.lower(), date, number, firsts.get(number, 0), kind))
        for channel, numbers in entries.items():
            self.head[channel] = np.concatenate([self.head.get(channel, numbers[:0]), numbers[: self.num_entries]])
            self.head[channel] = self.head[channel][: self.num_entries]
        self.tail |= {channel: numbers[-self.num_entries :] for channel, numbers in seen.items()}

    def extend(self, part: Events, offset: int) -> None:
        """Add the events of the next part, whose entries are numbered from `offset` on."""
        seen = self.after_tail({channel: numbers + offset for channel, numbers in part.head.items()})
        firsts = self.find_firsts(
            ((number + offset, channel) for channel, _, _, number, first, _ in part.rows if first is None), seen
        )
        for channel, user, date, number, first, kind in part.rows:
            first = firsts[number + offset] if first is None else first + offset * (kind == "timeouts")
            self.rows.append((channel, user, date, number + offset, first, kind))
        self.deletions += [(number + offset, *row) for number, *row in part.deletions]
        seen = self.after_tail({channel: numbers + offset for channel, numbers in part.tail.items()})
        self.tail |= {channel: numbers[-self.num_entries :] for channel, numbers in seen.items()}

    def after_tail(self, entries: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return entries of channels, behind the last ones that were seen before."""
        return {
            channel: np.concatenate([self.tail.get(channel, numbers[:0]), numbers])
            for channel, numbers in entries.items()
        }

    def find_firsts(self, timeouts: Iterable[tuple[int, str]], seen: Mapping[str, np.ndarray]) -> dict[int, int | None]:
        """Return the first entry that each timeout applies to, or None if it is not among the entries of its channel.

        `timeouts` has their entries and channels.
        """
        of_channels = defaultdict(list)
        for number, channel in timeouts:
            of_channels[channel].append(number)
        firsts = {}
        for channel, numbers in of_channels.items():
            places = np.searchsorted(seen[channel], np.array(numbers, np.uint32)) - self.num_entries
            found = np.where(places < 0, None, seen[channel][np.maximum(places, 0)])
            firsts.update(zip(numbers, found.tolist(), strict=True))
        return firsts

    def moderation(self, deleted: pl.Series) -> Moderation:
        """Return what all events of a log apply to. `deleted` has the entries of deleted messages."""
        timeouts = [
            (number, channel, user, first or 0)
            for channel, user, _, number, first, kind in self.rows
            if kind == "timeouts"
        ]
        last_bans = {row[:3]: row[3] for row in self.rows if row[-1] == "bans"}
        bans = [(*key, number) for key, number in last_bans.items()]
        return Moderation(
            pl.DataFrame(timeouts, TIMEOUTS, orient="row"), pl.DataFrame(bans, BANS, orient="row"), deleted
        )


def entries_of_channels(batch: Batch) -> dict[str, np.ndarray]:
    """Return the numbers of the messages and events of each channel, in order."""
    table = batch.messages.group_by("channel").agg("entry")
    entries = {channel: numbers.to_numpy() for channel, numbers in zip(*table, strict=True)}
    of_events = defaultdict(set)
    for number, _, _, _, channel, *_ in batch.events:
        of_events[channel].add(number)
    for channel, numbers in of_events.items():
        numbers = np.sort(np.array([*numbers], np.uint32))
        entries[channel] = np.sort(np.concatenate([entries.get(channel, numbers[:0]), numbers]), kind="stable")
    return entries


def find_deleted(
    log_path: Path,
    open_reader: Callable[[Path], Reader],
    deletions: list[tuple[int, str, str, str]],
    progress: Callable[[int], None] = report,
) -> pl.Series:
    """Read a log again, and return the entry of the message that each deletion removed.

    It is the last message before the deletion with the same id or text. `deletions` is as in `Events`, and `progress`
    as in `read_chunks`.
    """
    reader = open_reader(log_path)
    schema = {"deletion": pl.UInt32} | dict.fromkeys(["channel", "username", "message"], pl.String)
    table = pl.DataFrame(deletions, schema, orient="row")
    table = table.select("deletion", id=pl.col("message") if reader.deletes_by_id else TEXT_ID).sort("deletion")
    if reader.deletes_by_id:
        tables = reader.read_ids(log_path)
    else:
        tables = (batch.messages.select("entry", id=TEXT_ID) for batch in reader.read(log_path, progress))
    found = [each.filter(pl.col("id").is_in(table["id"].implode())) for each in tables]
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
