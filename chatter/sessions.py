"""The days and times that lines do not say: from the head line of their session, or from the name of the file."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from chatter.dialects import Dialect
from chatter.names import NameFacts
from chatter.times import clock_time, offset_seconds, offset_time, shift_zone

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

# What the user should know of the times of a file.
LOCAL = "local times, as the log does not say their offset from UTC"
OFFSETS = "times are offsets into the video, as nothing says when it began"
NO_DAY = "no days, as neither the lines nor the name of the file say them"
MIDNIGHT = 12 * 3600  # seconds: times that fall by more have passed midnight; smaller steps back are disorder

Head = tuple[int, str, str]  # the number of a head line, the day, and the offset from UTC, such as +0100, or ""


def normal_time(time: str, dialect: Dialect, date: str = "") -> str:
    """Return a time as hh:mm:ss, which an offset into a video may be, too."""
    if dialect.stands_alone or not time:
        return time
    return offset_time(offset_seconds(time), None)[1] if dialect.clock == "offset" and not date else clock_time(time)


class Sessions:
    """Completes the times of one file, part after part."""

    def __init__(self, names: NameFacts):
        self.names, self.notes = names, set()
        self.day, self.zone = names.date, ""
        self.time, self.days = 0, 0  # of the last line, in seconds; midnights since the session began

    def complete(self, dialect: Dialect, table: pl.DataFrame, heads: list[Head]) -> pl.DataFrame:
        """Return `table` with complete dates and times. It has the columns `number`, `date` and `time`, in order."""
        import polars as pl

        ends = [*(number for number, _, _ in heads), 2**32]
        tables = [self.with_days(dialect, table.filter(pl.col("number") < ends[0]))]
        for (begin, day, zone), end in zip(heads, ends[1:], strict=True):
            self.day, self.zone, self.time, self.days = day, zone, 0, 0
            tables.append(self.with_days(dialect, table.filter(pl.col("number").is_between(begin, end, "none"))))
        return pl.concat(tables)

    def with_days(self, dialect: Dialect, table: pl.DataFrame) -> pl.DataFrame:
        """Give the lines of one session their dates and times, in UTC if their offset from it is known."""
        import polars as pl

        if table.is_empty():
            return table
        dates, times = table["date"].to_list(), table["time"].to_list()
        stamps, seen = [], {}
        for date, time in zip(dates, times, strict=True):
            if dialect.rolls_over and not date:
                seconds = offset_seconds(time)
                self.days += self.time - seconds > MIDNIGHT
                self.time = seconds
            key = date, time, self.days
            if key not in seen:
                seen[key] = self.stamp(dialect, date, time)
            stamps.append(seen[key])
        dates, times = zip(*stamps, strict=True)
        return table.with_columns(pl.Series("date", dates), pl.Series("time", times))

    def stamp(self, dialect: Dialect, date: str, time: str) -> list[str]:
        """Return the date and the time of a line that says these."""
        time = normal_time(time, dialect, date)
        if dialect.clock == "offset" and not date:
            if not self.names.start:
                self.notes.add(OFFSETS)
                return [self.names.date, time]
            return offset_time(offset_seconds(time), self.names.start)
        if not date and not self.day:
            self.notes.add(NO_DAY)
        date = date or self.day
        if self.days and date == self.day:
            date = f"{datetime.date.fromisoformat(date) + datetime.timedelta(days=self.days)}"
        if dialect.clock != "UTC" and not self.zone:
            self.notes.add(LOCAL)
        return shift_zone(date, time, self.zone) if date and self.zone else [date, time]
