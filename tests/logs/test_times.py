"""chatter.logs.times: whatever programs write for a time is the same date and time of day."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatter.logs.times import (
    clock_time,
    epoch_time,
    irc_time,
    iso_time,
    offset_seconds,
    offset_time,
    shift_zone,
)

moments = st.datetimes(datetime(1980, 1, 1), datetime(2999, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def split(moment):
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}".split()


@given(moments, zones)
def test_stamps_of_any_zone(moment, zone):
    """In ISO 8601, as Python writes it, and shortened."""
    local = moment.astimezone(zone)
    assert iso_time(local.isoformat()) == iso_time(local.isoformat(" ")) == split(moment)
    assert iso_time(f"{local:%Y-%m-%dT%H:%M:%S%z}") == split(moment)
    assert shift_zone(f"{local:%Y-%m-%d}", f"{local:%H:%M:%S}", f"{local:%z}") == split(moment)


@given(moments)
def test_numbers_since_1970(moment):
    """In seconds, milliseconds or microseconds."""
    seconds = int(moment.replace(microsecond=0).timestamp())  # a float has no room for both in far years
    assert epoch_time(seconds) == epoch_time(seconds * 1000) == epoch_time(seconds * 1_000_000) == split(moment)


@given(st.integers(0, 400_000))
def test_offsets_into_a_video(seconds):
    """As Python, TwitchDownloader and chat-downloader write them; with a start, they are dates."""
    python, hours = str(timedelta(seconds=seconds)), f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    short = hours if seconds >= 3600 else f"{seconds // 60}:{seconds % 60:02}"
    assert [offset_seconds(text) for text in (python, hours, short, f"{hours},123")] == [seconds] * 4
    assert offset_time(seconds, None) == ["", f"{hours:0>8}"]
    start = datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert offset_time(seconds + 0.999, start) == split(start + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-07T21:05:09Z", ["2024-03-07", "21:05:09"]),
        ("2024-03-07T21:05:09.48745067Z", ["2024-03-07", "21:05:09"]),
        ("2024-03-07T21:05:09.123456789+00:00", ["2024-03-07", "21:05:09"]),
        ("2024-03-07 21:05:09 UTC", ["2024-03-07", "21:05:09"]),
        ("2024-03-07 21:05:09", ["2024-03-07", "21:05:09"]),
        ("2024-03-07 21:05", ["2024-03-07", "21:05:00"]),
        ("2024-01-01T00:30:00+01:00", ["2023-12-31", "23:30:00"]),
        ("0001-01-01T00:00:00+01:00", ["0001-01-01", "00:00:00"]),
        ("2024-02-30T21:05:09+01:00", ["2024-02-30", "21:05:09"]),
        ("2024-03-07T5:05:09.1Z", ["2024-03-07", "05:05:09"]),
        ("yesterday", ["", ""]),
        ("", ["", ""]),
    ],
)
def test_stamps(text, expected):
    assert iso_time(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("9:05", "09:05:00"), ("21:05:09.123", "21:05:09"), ("21:05:09,5", "21:05:09"), ("12:00 AM", "00:00:00")),
        *(("12:00 PM", "12:00:00"), ("11:59:59 PM", "23:59:59"), ("noon", "noon"), ("", "")),
    ],
)
def test_times_of_day(text, expected):
    assert clock_time(text) == expected


def test_what_was_sent_before_the_video_began():
    assert offset_seconds("-0:05") == 0
    assert offset_time(-5, None) == ["", "00:00:00"]


@pytest.mark.parametrize(
    ("tags", "time"),
    [
        ("tmi-sent-ts=1709845509999;rm-received-ts=0", ["2024-03-07", "21:05:09"]),
        ("rm-received-ts=1709845509000", ["2024-03-07", "21:05:09"]),
        ("x-tmi-sent-ts=1709845509000", None),
        ("tmi-sent-ts=", None),
        ("", None),
    ],
)
def test_the_time_of_an_irc_line(tags, time):
    assert irc_time(tags) == time
