"""What every reader of logs reads and yields: parts of files, and batches of rows with the same columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

FIELDS = ["date", "time", "channel", "username", "message"]  # the columns of the CSVs
# A sixth column, if a log says where a stream ends: the number of the stream that a message belongs to.
SESSION = "session"
HEADERS = (FIELDS, [*FIELDS, SESSION])
# A column that is not written: the other name of a user, by which filters find them as well.
NICKNAME = "nickname"
# Clients append a blank and one of these invisible characters, as Twitch rejects repetitions.
INVISIBLE_SUFFIXES = "\U000e0000\u034f"
MAX_MESSAGE_BYTES = 1 << 16  # Twitch's limit is 500 characters, so a longer message is damaged
# Kinds of entries that are not written to the CSVs.
UNNAMED = "entries without a user"
EMPTY = "entries without text"
SHARED = "from shared chats"  # sent in another channel of a shared chat, whose own log has them
BOTS = "written by bots"
MODERATION = ("timeouts", "bans", "deletions")
ROW_KINDS = ("messages", SHARED, *MODERATION)  # kinds of entries that have a row
# The number of an entry in its file, its kind, and its FIELDS.
Row = tuple[int, str, str, str, str, str, str]


@dataclass(frozen=True)
class Part:
    """Whole lines of a log: the bytes from `begin` to `end`, or to the end of the file. Mostly the whole log."""

    log: Path
    begin: int = 0
    end: int | None = None


@dataclass
class Batch:
    """Consecutive entries of a file, numbered from 0. In most files an entry is a line."""

    messages: pl.DataFrame  # columns `entry` (UInt32) and FIELDS, in order, and perhaps SESSION and NICKNAME
    num_entries: int
    counts: Counter[str] = field(default_factory=Counter)  # of entries of each kind
    # Timeouts, bans and deletions whose user is known. The message of a deletion is the deleted text or, if the reader
    # `deletes_by_id`, the id of the deleted message.
    events: list[Row] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)  # entry -> line
    num_invalid: int = 0  # entries, or places in a JSON document, that are not UTF-8
    notes: set[str] = field(default_factory=set)  # warnings about times


class Reader(ABC):
    """Reads the files of one format."""

    has_moderation: bool  # whether the format has timeouts and bans
    has_users: bool = True  # whether entries name their users
    has_logins: bool  # whether users are named by their logins, not by display names
    has_sessions: bool = False  # whether messages have a SESSION
    is_known: bool = True  # whether the file is in a known format
    deletes_by_id: bool = False  # whether deletions name the id of a message, not its text

    @abstractmethod
    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        """Yield all entries of a file; call `progress` with the bytes that each batch took."""

    def divide(self, path: Path) -> list[Part]:
        """Return the parts of a file that can be read on their own, in order."""
        return [Part(path)]

    def read_part(self, part: Part, progress: Callable[[int], None]) -> Iterator[Batch]:
        """Yield the entries of a part, numbered from 0, as `read` does those of a file."""
        return self.read(part.log, progress)

    def read_ids(self, path: Path) -> Iterator[pl.DataFrame]:
        """Yield the ids of messages, columns `entry` and `id`, if this reader `deletes_by_id`."""
        raise NotImplementedError


def channel_name(channel: str) -> str:
    """Return a channel's name in lower case, without blanks and a leading #.

    >>> channel_name(" #SomeChannel")
    'somechannel'
    """
    return "".join(channel.split()).removeprefix("#").lower()
