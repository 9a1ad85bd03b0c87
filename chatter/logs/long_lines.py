"""Lines that contain a whole chat, because the program that wrote it left the line breaks out.

TwitchDownloader did so once: github.com/lay295/TwitchDownloader/issues/460.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

import polars as pl

from chatter.logs.batch import MAX_MESSAGE_BYTES
from chatter.logs.format import LineFormat, clock_or_offset
from chatter.logs.times import offset_seconds, padded_date

Time = tuple[str, int]  # a date, or "", and the seconds since its beginning or since the beginning of a video


def split_long_lines(lines: pl.Series, line_format: LineFormat) -> pl.Series:
    """Return lines, of which those with more than MAX_MESSAGE_BYTES bytes are split at the stamps of their format."""
    if not line_format.stamp or (lines.str.len_bytes().max() or 0) <= MAX_MESSAGE_BYTES:
        return lines
    is_long = (lines.str.len_bytes() > MAX_MESSAGE_BYTES).to_list()
    parts = [split_at_stamps(line, line_format) if long else [line] for line, long in zip(lines, is_long, strict=True)]
    return pl.Series(lines.name, [part for each in parts for part in each], pl.String)


def split_at_stamps(line: str, line_format: LineFormat) -> list[str]:
    """Split a line at the stamps in it, if it begins with one. Stamps that users quote are mostly out of order."""
    stamps = [*re.compile(line_format.stamp, re.ASCII).finditer(line)]
    if not stamps or stamps[0].start():
        return [line]
    times = [read_stamp(found, line_format) for found in stamps]
    later = [place for place, time in enumerate(times) if time >= times[0]]
    rising = [later[each] for each in longest_rise([times[place] for place in later])]
    starts = sorted({0, *(stamps[place].start() for place in rising)})
    return [line[start:end] for start, end in zip(starts, [*starts[1:], len(line)], strict=True)]


def read_stamp(found: re.Match, line_format: LineFormat) -> Time:
    groups = found.groupdict("")
    date = padded_date(groups.get("date", ""))
    return date, offset_seconds(clock_or_offset(groups["time"], line_format, date))


def longest_rise(times: Sequence[Time]) -> list[int]:
    """Return the places of a longest subsequence that never falls.

    >>> longest_rise([("", 1), ("", 9), ("", 2), ("", 2), ("", 3)])
    [0, 2, 3, 4]
    """
    ends, places, before = [], [], []  # for each length: the earliest last time of such a subsequence, and its place
    for place, time in enumerate(times):
        length = bisect_right(ends, time)
        before.append(places[length - 1] if length else None)
        ends[length : length + 1], places[length : length + 1] = [time], [place]
    rise, place = [], places[-1] if places else None
    while place is not None:
        rise.append(place)
        place = before[place]
    return rise[::-1]
