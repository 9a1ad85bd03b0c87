"""Parse the time at which a message was sent into a date and a time of day, or an offset into a video."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])"  # in stamps and in names of files; see `padded_date`
STAMP = re.compile(  # ISO 8601 and close variants
    r"(?P<date>\d{4}-\d{2}-\d{2})[T ](?P<clock>\d{1,2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r"(?: ?(?:Z|UTC)|(?P<zone>[+-]\d{2}:?\d{2}))?"
)
ISO = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?Z")
# Stamps that are taken apart by the column. Others are parsed one by one.
PLAIN_STAMP = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| UTC|[+]00:?00)?$"
CLOCK = re.compile(r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?(?: (?P<half>[AP])M)?")
OFFSET = re.compile(
    r"(?:(?P<days>\d+) days?, )?-?(?:(?P<hours>\d+):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{2})(?:[.,]\d+)?"
)


def padded_date(date: str) -> str:
    """Return a date whose day has two digits; justlog writes days without a leading zero.

    >>> padded_date("2024-03-7")
    '2024-03-07'
    """
    return date if len(date) != 9 else f"{date[:8]}0{date[8:]}"


def iso_time(text: str) -> list[str]:
    """Return the date and the time of day of an ISO 8601 stamp, in UTC if it has an offset; ["", ""] if it is invalid.

    >>> iso_time("2024-03-07T23:05:09.48745067+02:00")
    ['2024-03-07', '21:05:09']
    """
    if ISO.fullmatch(text):  # nearly all of them
        return [text[:10], text[11:19]]
    found = STAMP.fullmatch(text)
    if not found:
        return ["", ""]
    time = clock_time(found["clock"])
    return shift_zone(found["date"], time, found["zone"]) if found["zone"] else [found["date"], time]


def shift_zone(date: str, time: str, zone: str) -> list[str]:
    """Convert date and time at an offset such as +0200 or -03:30 to UTC; return them unchanged if invalid."""
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    try:
        utc = datetime.fromisoformat(f"{date} {time}") - timedelta(minutes=int(f"{zone[0]}{minutes}"))
    except (ValueError, OverflowError):  # not a date of the calendar
        return [date, time]
    return f"{utc:%Y-%m-%d %H:%M:%S}".split()


def epoch_time(number: float) -> list[str]:
    """Return date and time (UTC) of a number of seconds, milliseconds or microseconds since 1970.

    >>> epoch_time(1709845509000)
    ['2024-03-07', '21:05:09']
    """
    if not number < 1e18:
        raise OverflowError(number)
    while number > 1e11:  # in seconds, 1e11 is the year 5138
        number /= 1000
    return f"{datetime.fromtimestamp(number, UTC):%Y-%m-%d %H:%M:%S}".split()


def clock_time(text: str) -> str:
    """Return a time of day as hh:mm:ss.

    >>> clock_time("9:05 PM"), clock_time("21:05:09.123")
    ('21:05:00', '21:05:09')
    """
    found = CLOCK.fullmatch(text)
    if not found:
        return text
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + 12 * (found["half"] == "P")
    return f"{hour:02}:{found['minute']}:{found['second'] or '00'}"


def offset_seconds(text: str) -> int:
    """Return the seconds of an offset into a video, 0 if negative: m:ss, h:mm:ss, or a timedelta as Python prints it.

    >>> offset_seconds("5:07"), offset_seconds("1 day, 1:02:03")
    (307, 90123)
    """
    found = OFFSET.fullmatch(text)
    parts = {name: int(value or 0) for name, value in found.groupdict().items()}
    return 0 if "-" in text else timedelta(**parts) // timedelta(seconds=1)


def offset_time(seconds: float, start: datetime | None) -> list[str]:
    """Return date and time of a moment in a video that began at `start`, or "" and the offset if `start` is None.

    >>> offset_time(90123, None)
    ['', '25:02:03']
    """
    if start:
        return f"{start + timedelta(seconds=int(seconds)):%Y-%m-%d %H:%M:%S}".split()
    minutes, seconds = divmod(max(int(seconds), 0), 60)
    return ["", f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"]


# When Twitch sent a line and when a logger received it, in milliseconds since 1970.
SENT, RECEIVED = r"(?:^@?|;)tmi-sent-ts=([0-9]{1,13})(?:;|$)", r"(?:^|;)rm-received-ts=([0-9]{1,13})(?:;|$)"


def irc_time(tags: str) -> list[str] | None:
    """Return date and time (UTC) from IRC tags: when Twitch sent the line, else when the logger received it; or None.

    >>> irc_time("id=1;tmi-sent-ts=1709845509000")
    ['2024-03-07', '21:05:09']
    """
    stamp = re.search(SENT, tags) or re.search(RECEIVED, tags)
    return stamp and f"{datetime.fromtimestamp(int(stamp[1]) / 1000, UTC):%Y-%m-%d %H:%M:%S}".split()
