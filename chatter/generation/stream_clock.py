"""When the lines of a stream were sent: the times in a log, or else the clock."""

from __future__ import annotations

import datetime
import re
import time
from typing import NamedTuple

from chatter.logs.times import SENT, offset_seconds

HOUR, DAY = 3600, 86400


class Moment(NamedTuple):
    """When a line was sent: seconds from the year 1 if it has a day, or else from midnight or the video's start."""

    seconds: float
    has_day: bool


def read_moment(date: str, clock: str, tags: str = "") -> Moment | None:
    """Return the moment of a line from its date, its time and its IRC tags; None if it has no time.

    >>> read_moment("", "21:05:09")
    Moment(seconds=75909, has_day=False)
    """
    if sent := re.search(SENT, tags):  # in milliseconds
        return Moment(EPOCH + int(sent[1]) / 1000, True)
    try:
        day = datetime.date.fromisoformat(date).toordinal() * DAY if date else 0
        return Moment(day + offset_seconds(clock), bool(date)) if clock else None
    except (ValueError, AttributeError, OverflowError):  # a day that the calendar lacks, or some other text
        return None


EPOCH = datetime.date(1970, 1, 1).toordinal() * DAY


class StreamClock:
    """The seconds since a stream began, as its lines tell the time. It never runs backwards.

    Times of day begin anew after midnight. Lines may be out of order by less than an hour. Lines without a time take
    the time of the system's clock.
    """

    def __init__(self) -> None:
        self.now, self.last, self.system = 0.0, None, time.monotonic()

    def advance(self, moment: Moment | None) -> None:
        """Move on to the moment of the next line."""
        before, self.system = self.system, time.monotonic()
        step = self.system - before
        if moment and self.last and moment.has_day == self.last.has_day:
            step = moment.seconds - self.last.seconds
            if not moment.has_day:  # midnight may have passed, forwards or, for a line that is late, backwards
                step = (step + HOUR) % DAY - HOUR
            if -HOUR <= step < 0:
                return
        self.now += max(step, 0)  # if another log begins, it may be earlier
        self.last = moment
