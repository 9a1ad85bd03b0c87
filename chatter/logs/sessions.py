"""Dates and times that lines lack, from the line that begins their session or from the name of the file."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import polars as pl

from chatter.logs.file_names import NameFacts
from chatter.logs.format import LineFormat, clock_or_offset
from chatter.logs.times import offset_seconds, offset_time, shift_zone

# Warnings about the times of a file.
LOCAL = "local times, as the log does not say their offset from UTC"
OFFSETS = "times are offsets into the video, as its start is unknown"
NO_DAY = "no dates, as neither the lines nor the name of the file have them"
WRONG_DAYS = "days may be wrong, as the log was closed on a day that does not match its times"
HOUR = 3600  # seconds: a larger step back in time means that midnight has passed, a smaller one is a clock set back
MAX_SESSION = 1 << 26  # bytes of a session that are read at once: bounds memory

# The number of the line that begins a session, its day, and its offset from UTC, such as +0100, or "".
SessionStart = tuple[int, str, str]
SessionEnd = tuple[int, str, str]  # the number of the line that ends a session, the day and the time


def read_sessions(chunks: Iterable[bytes], line_format: LineFormat) -> Iterator[bytes]:
    """Yield chunks of whole lines; if the format has lines that end a session, cut them where sessions begin."""
    if not line_format.session_end:
        yield from chunks
        return
    start, session = re.compile(f"^{line_format.session_start}".encode(), re.MULTILINE), b""
    for chunk in chunks:
        starts = [found.start() for found in start.finditer(chunk)]
        cut = starts[-1] if starts else 0
        if cut or (starts and session) or len(session) > MAX_SESSION:
            yield session + chunk[:cut]
            session = b""
        session += chunk[cut:]
    if session:
        yield session


def find_midnights(seconds: Sequence[int], days: int | None) -> list[int]:
    """Return the places in a list of times of day before which midnight has passed.

    A step back by more than an hour is always midnight. If these are fewer than `days`, the longest others count too.
    """
    steps = sorted((after - before, place) for place, (before, after) in enumerate(itertools.pairwise(seconds), 1))
    back = [(step, place) for step, place in steps if step < 0]  # the longest first
    large = sum(step < -HOUR for step, _ in back)
    return sorted(place for _, place in back[: max(large, days or 0)])


class Sessions:
    """Completes the times of one file, part after part."""

    def __init__(self, names: NameFacts) -> None:
        self.names, self.notes = names, set()
        self.day, self.zone = names.date, ""
        self.time, self.midnights = None, 0  # time of the last line, in seconds; midnights since the session began

    def complete(
        self, line_format: LineFormat, table: pl.DataFrame, starts: list[SessionStart], ends: list[SessionEnd]
    ) -> pl.DataFrame:
        """Return `table` with complete dates and times. It is in order, with columns `entry`, `date`, `time`."""
        entry, limits = pl.col("entry"), [*(number for number, _, _ in starts), 2**32]
        tables = [self.with_days(line_format, table.filter(entry < limits[0]), ends, limits[0])]
        for (begin, day, zone), limit in zip(starts, limits[1:], strict=True):
            self.day, self.zone, self.time, self.midnights = day, zone, None, 0
            lines = table.filter(entry.is_between(begin, limit, "none"))
            tables.append(self.with_days(line_format, lines, [end for end in ends if end[0] > begin], limit))
        return pl.concat(tables)

    def with_days(
        self, line_format: LineFormat, table: pl.DataFrame, ends: list[SessionEnd], limit: int
    ) -> pl.DataFrame:
        """Return the lines of one session with dates and times, in UTC if their offset from it is known.

        The session ends at the first of `ends`, unless that is behind the line `limit`.
        """
        if table.is_empty():
            return table
        dates, times = table["date"].to_list(), table["time"].to_list()
        end = ends[0] if ends and ends[0][0] < limit else None
        midnights = self.count_midnights(line_format, dates, times, end) if line_format.rolls_over else [0] * len(times)
        keys = [*zip(dates, times, midnights, strict=True)]
        stamps = {key: self.stamp(line_format, *key) for key in {*keys}}
        self.midnights = midnights[-1]
        dates, times = zip(*(stamps[key] for key in keys), strict=True)
        return table.with_columns(pl.Series("date", dates), pl.Series("time", times))

    def count_midnights(
        self, line_format: LineFormat, dates: list[str], times: list[str], end: SessionEnd | None
    ) -> list[int]:
        """Return how many midnights have passed since the session began, for each line."""
        undated = [place for place, date in enumerate(dates) if not date]
        seconds = [offset_seconds(clock_or_offset(times[place], line_format)) for place in undated]
        before = seconds[:1] if self.time is None else [self.time]
        days, closed = None, []
        if end and undated and self.day:
            with contextlib.suppress(ValueError):  # not a date of the calendar
                days = (datetime.date.fromisoformat(end[1]) - datetime.date.fromisoformat(self.day)).days
                days, closed = days - self.midnights, [offset_seconds(end[2])]
        found = find_midnights([*before, *seconds, *closed], days)
        if closed and len(found) != days:
            self.notes.add(WRONG_DAYS)
        after_midnight = {undated[place - 1] for place in found if place <= len(undated)}
        if undated:
            self.time = seconds[-1]
        passed = (place in after_midnight for place in range(len(dates)))
        return [*itertools.accumulate(passed, initial=self.midnights)][1:]

    def stamp(self, line_format: LineFormat, date: str, time: str, midnights: int) -> list[str]:
        """Return the complete date and time of a line after a number of midnights since the session began."""
        time = clock_or_offset(time, line_format, date)
        if line_format.clock == "offset" and not date:
            if not self.names.start:
                self.notes.add(OFFSETS)
                return [self.names.date, time]
            return offset_time(offset_seconds(time), self.names.start)
        if not date and not self.day:
            self.notes.add(NO_DAY)
        if not date:
            date = self.day
            with contextlib.suppress(ValueError, OverflowError):  # not a date of the calendar
                date = f"{datetime.date.fromisoformat(self.day) + datetime.timedelta(days=midnights)}"
        if line_format.clock != "UTC" and not self.zone:
            self.notes.add(LOCAL)
        return shift_zone(date, time, self.zone) if date and self.zone else [date, time]
