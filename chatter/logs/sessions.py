"""Dates and times that lines lack, from the line that begins their session or from the name of the file."""

from __future__ import annotations

import contextlib
import datetime

import polars as pl

from chatter.logs.file_names import NameFacts
from chatter.logs.format import LineFormat, clock_or_offset
from chatter.logs.times import offset_seconds, offset_time, shift_zone

# Warnings about the times of a file.
LOCAL = "local times, as the log does not say their offset from UTC"
OFFSETS = "times are offsets into the video, as its start is unknown"
NO_DAY = "no dates, as neither the lines nor the name of the file have them"
MIDNIGHT = 12 * 3600  # seconds: a larger step back in time means midnight has passed; a smaller one is disorder

# The number of the line that begins a session, its day, and its offset from UTC, such as +0100, or "".
SessionStart = tuple[int, str, str]


class Sessions:
    """Completes the times of one file, part after part."""

    def __init__(self, names: NameFacts) -> None:
        self.names, self.notes = names, set()
        self.day, self.zone = names.date, ""
        self.time, self.midnights = 0, 0  # time of the last line, in seconds; midnights since the session began

    def complete(self, line_format: LineFormat, table: pl.DataFrame, starts: list[SessionStart]) -> pl.DataFrame:
        """Return `table` with complete dates and times. It is in order, with columns `entry`, `date`, `time`."""
        entry, ends = pl.col("entry"), [*(number for number, _, _ in starts), 2**32]
        tables = [self.with_days(line_format, table.filter(entry < ends[0]))]
        for (begin, day, zone), end in zip(starts, ends[1:], strict=True):
            self.day, self.zone, self.time, self.midnights = day, zone, 0, 0
            tables.append(self.with_days(line_format, table.filter(entry.is_between(begin, end, "none"))))
        return pl.concat(tables)

    def with_days(self, line_format: LineFormat, table: pl.DataFrame) -> pl.DataFrame:
        """Return the lines of one session with dates and times, in UTC if their offset from it is known."""
        if table.is_empty():
            return table
        stamps, seen = [], {}
        for date, time in zip(table["date"].to_list(), table["time"].to_list(), strict=True):
            if line_format.rolls_over and not date:
                seconds = offset_seconds(time)
                self.midnights += self.time - seconds > MIDNIGHT
                self.time = seconds
            key = date, time, self.midnights
            if key not in seen:
                seen[key] = self.stamp(line_format, date, time)
            stamps.append(seen[key])
        dates, times = zip(*stamps, strict=True)
        return table.with_columns(pl.Series("date", dates), pl.Series("time", times))

    def stamp(self, line_format: LineFormat, date: str, time: str) -> list[str]:
        """Return the complete date and time of a line."""
        time = clock_or_offset(time, line_format, date)
        if line_format.clock == "offset" and not date:
            if not self.names.start:
                self.notes.add(OFFSETS)
                return [self.names.date, time]
            return offset_time(offset_seconds(time), self.names.start)
        if not date and not self.day:
            self.notes.add(NO_DAY)
        date = date or self.day
        if self.midnights and date == self.day:
            with contextlib.suppress(ValueError, OverflowError):  # not a date of the calendar
                date = f"{datetime.date.fromisoformat(date) + datetime.timedelta(days=self.midnights)}"
        if line_format.clock != "UTC" and not self.zone:
            self.notes.add(LOCAL)
        return shift_zone(date, time, self.zone) if date and self.zone else [date, time]
