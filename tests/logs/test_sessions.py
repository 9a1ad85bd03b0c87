"""chatter.logs.sessions: days and times that lines do not say."""

from datetime import UTC, datetime

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from writers import CHAT, WRITERS

from chatter.logs.file_names import NO_NAME, NameFacts
from chatter.logs.find_reader import find_reader
from chatter.logs.formats import LINE_FORMATS
from chatter.logs.sessions import LOCAL, NO_DAY, OFFSETS, WRONG_DAYS
from chatter.logs.text_reader import LineParser


def times_of(format_name, lines, names=NO_NAME):
    """Return the dates and times of the messages, each as one text, and the notes."""
    batch = LineParser([LINE_FORMATS[format_name]], names).parse(polars.Series("line", lines))
    return [" ".join(row[1:3]) for row in batch.messages.iter_rows()], batch.notes


def chatty(*times, head="# Log started: 2024-03-07 21:00:00 +0000"):
    return [head, *(f"[{time}] <u> hi" for time in times)]


def test_a_session_goes_on_after_midnight():
    times, notes = times_of("Chatty", chatty("21:05:09", "23:59:59", "00:00:00", "21:00:00", "20:59:59", "01:00:00"))
    days = ["07 21:05:09", "07 23:59:59", "08 00:00:00", "08 21:00:00", "08 20:59:59", "09 01:00:00"]
    assert times == [f"2024-03-{day}" for day in days] and notes == set()


def days_of(*times, closed=None, started="2024-03-07 09:00:00"):
    """Return the day of the month of each message in a session of Chatty, and the notes."""
    lines = chatty(*times, head=f"# Log started: {started} +0000")
    times, notes = times_of("Chatty", lines + [f"# Log closed: {closed} +0000"] * bool(closed))
    return [int(time[8:10]) for time in times], notes


@pytest.mark.parametrize(
    ("times", "days"),
    [
        (["15:00:05", "09:00:05"], [7, 8]),
        (["15:00:05", "14:00:04"], [7, 8]),
        (["15:00:05", "14:00:05"], [7, 7]),  # a clock that is set back in autumn
        (["15:00:05", "15:00:04", "15:00:05"], [7, 7, 7]),
        (["15:00:05", "09:00:05", "23:00:00", "12:00:00", "10:00:00"], [7, 8, 8, 9, 10]),
    ],
)
def test_a_step_back_by_more_than_an_hour_is_midnight(times, days):
    assert days_of(*times) == (days, set())


@pytest.mark.parametrize(
    ("times", "closed", "days"),
    [
        (["15:00:05", "14:30:00"], "2024-03-07 15:00:00", [7, 7]),
        (["15:00:05", "14:30:00"], "2024-03-08 15:00:00", [7, 8]),
        (["15:00:05", "14:30:00", "14:20:00"], "2024-03-08 15:00:00", [7, 8, 8]),  # the longer step is the likelier
        (["15:00:05", "14:30:00", "09:00:00"], "2024-03-09 15:00:00", [7, 8, 9]),
        (["15:00:05", "14:30:00"], "2024-03-08 01:00:00", [7, 7]),  # closed after midnight
        (["15:00:05", "16:00:00"], "2024-03-08 15:30:00", [7, 7]),
    ],
)
def test_the_day_on_which_a_log_was_closed_tells_smaller_steps_from_midnights(times, closed, days):
    assert days_of(*times, closed=closed) == (days, set())


@pytest.mark.parametrize(
    ("times", "closed", "days"),
    [
        (["15:00:05", "16:00:00"], "2024-03-09 17:00:00", [7, 7]),  # a day without a line
        (["15:00:05", "09:00:00"], "2024-03-07 17:00:00", [7, 8]),  # a clock that was set
        (["15:00:05", "14:30:00"], "2024-03-10 17:00:00", [7, 8]),
    ],
)
def test_a_log_that_was_closed_on_another_day_than_its_times_lead_to_is_noted(times, closed, days):
    assert days_of(*times, closed=closed) == (days, {WRONG_DAYS})


def test_lines_with_a_day_of_their_own_keep_it_after_midnight():
    lines = [*chatty("23:00:00", "01:00:00"), "[2024-03-07 02:00:00] <u> hi"]
    assert times_of("Chatty", lines)[0][-1] == "2024-03-07 02:00:00"


def test_every_line_with_a_time_tells_of_midnight():
    lines = [*chatty("21:00:00"), "[05:00:00] JOIN: x", "[21:30:00] <u> hi", "[21:20:00] DELETED: x (y)"]
    assert [time[8:10] for time in times_of("Chatty", lines)[0]] == ["07", "08"]


@pytest.mark.parametrize("size", [1, 40, 100, 1000])
def test_a_session_is_read_as_a_whole_whatever_the_size_of_chunks(size, tmp_path, monkeypatch):
    """The line that ends it may tell which of its lines is after midnight."""
    monkeypatch.setattr("chatter.logs.reading.CHUNK_BYTES", size)
    session = "\n".join(
        [*chatty("22:05:00", "22:00:00", "22:30:00"), "# Log closed: 2024-03-08 23:00:00 +0000", "-", ""]
    )
    (tmp_path / "log.txt").write_text(session * 3)
    batches = [*find_reader(tmp_path / "log.txt").read(tmp_path / "log.txt", lambda num_bytes: None)]
    rows = [row for batch in batches for row in batch.messages.iter_rows()]
    assert [row[1] for row in rows] == ["2024-03-07", "2024-03-08", "2024-03-08"] * 3
    assert [row[0] for row in rows] == [1, 2, 3, 7, 8, 9, 13, 14, 15]


def test_midnight_is_seen_in_lines_that_are_no_messages(tmp_path):
    """Only messages and events have times, so a ban between two nights counts."""
    lines = [*chatty("23:00:00"), "[01:00:00] BAN: x (600s)", "[23:30:00] <u> hi", "[00:30:00] <u> hi"]
    times, _ = times_of("Chatty", lines)
    assert times == ["2024-03-07 23:00:00", "2024-03-08 23:30:00", "2024-03-09 00:30:00"]


@pytest.mark.parametrize(
    ("zone", "first", "last"),
    [
        ("+0800", "2024-03-07 15:59:59", "2024-03-07 16:00:01"),
        ("-0330", "2024-03-08 03:29:59", "2024-03-08 03:30:01"),
        ("+0000", "2024-03-07 23:59:59", "2024-03-08 00:00:01"),
    ],
)
def test_an_offset_from_utc_is_taken_away(zone, first, last):
    lines = chatty("23:59:59", "00:00:01", head=f"# Log started: 2024-03-07 21:00:00 {zone}")
    assert times_of("Chatty", lines) == ([first, last], set())


def test_each_head_line_begins_a_session():
    lines = [*chatty("23:59:59", "00:00:01"), "# Log closed: 2024-03-08 00:01:00 +0000", "-"]
    lines += chatty("10:00:00", "09:00:00", "00:00:00", head="# Log started: 2024-07-01 10:00:00 +0200")
    lines += ["[2024-12-31 10:00:00] <u> with a day of its own"]
    lines += chatty(head="# Log started: 2025-01-01 10:00:00 +0200")
    assert times_of("Chatty", lines)[0] == [
        *("2024-03-07 23:59:59", "2024-03-08 00:00:01"),
        *("2024-07-01 08:00:00", "2024-07-01 07:00:00", "2024-07-01 22:00:00"),
        "2024-12-31 08:00:00",
    ]


def test_head_lines_that_are_typed_begin_nothing():
    lines = [*chatty("21:05:09"), "[21:05:10] <u> # Log started: 2020-01-01 00:00:00 +0000", *chatty("21:05:11")[1:]]
    assert {time[:10] for time in times_of("Chatty", lines)[0]} == {"2024-03-07"}


def test_chatterino_has_a_head_line_for_each_day():
    """The names of zones are words, so its times stay local; what was sent before the first head has the file's day."""
    lines = [
        "[23:59:59] u: a",
        "# Start logging at 2024-03-08 00:00:00 Central Europe Standard Time",
        "[00:00:01] u: b",
    ]
    lines += ["[23:00:00] u: c", "[9:05 PM] u: d", "# Start logging at 2024-03-09 00:00:00 CET", "[00:00:01] u: e"]
    times, notes = times_of("Chatterino", lines, NameFacts("c", "2024-03-07"))
    assert times == [
        *("2024-03-07 23:59:59", "2024-03-08 00:00:01", "2024-03-08 23:00:00", "2024-03-08 21:05:00"),
        "2024-03-09 00:00:01",
    ]
    assert notes == {LOCAL}


@pytest.mark.parametrize(
    ("format_name", "line", "names", "time", "notes"),
    [
        ("tcd", "[1 day, 1:02:03] <u> hi", NO_NAME, " 25:02:03", {OFFSETS}),
        ("tcd", "[0:00:01] <u> hi", NameFacts("c", "2024-03-07"), "2024-03-07 00:00:01", {OFFSETS}),
        (
            "tcd",
            "[1 day, 1:02:03] <u> hi",
            NameFacts(start=datetime(2024, 12, 31, tzinfo=UTC)),
            "2025-01-01 01:02:03",
            set(),
        ),
        ("chat-downloader", "2024-03-07 21:05:09 | u: hi", NO_NAME, "2024-03-07 21:05:09", {LOCAL}),
        (
            "chat-downloader",
            "5:07 | u: hi",
            NameFacts(start=datetime(2024, 3, 7, tzinfo=UTC)),
            "2024-03-07 00:05:07",
            set(),
        ),
        ("Chatty", "[21:05:09] <u> hi", NO_NAME, " 21:05:09", {LOCAL, NO_DAY}),
        ("Chatty", "[21:05:09] <u> hi", NameFacts("c", "2024-03-07"), "2024-03-07 21:05:09", {LOCAL}),
        ("Chatty", "[2024-03-07 21:05:09] <u> hi", NO_NAME, "2024-03-07 21:05:09", {LOCAL}),
        ("Chatterino", "[9:05 AM] u: hi", NO_NAME, " 09:05:00", {LOCAL, NO_DAY}),
        ("bare", "u: hi", NO_NAME, " ", {NO_DAY}),
        ("bare", "u: hi", NameFacts("c", "2024-03-07"), "2024-03-07 ", set()),
        ("OverRustle", "[2024-03-07 21:05:09 UTC] u: hi", NameFacts("c", "2020-01-01"), "2024-03-07 21:05:09", set()),
    ],
)
def test_what_the_name_of_the_file_says_helps(format_name, line, names, time, notes):
    assert times_of(format_name, [line], names) == ([time], notes)


@pytest.mark.parametrize("name", [name for name in WRITERS if WRITERS[name].format_name in LINE_FORMATS])
@given(st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=10)
def test_parts_of_a_file_are_as_the_whole(name, cuts):
    """Days and zones are carried from one part to the next."""
    lines = WRITERS[name].write(CHAT).removeprefix("\ufeff").replace("\r", "").splitlines()
    names, formats = NameFacts("c", "2024-03-07"), [LINE_FORMATS[WRITERS[name].format_name]]
    whole = LineParser(formats, names).parse(polars.Series("line", lines))
    parser, ends = LineParser(formats, names), sorted(min(cut, len(lines)) for cut in cuts)
    parts = [
        parser.parse(polars.Series("line", lines[begin:end], dtype=polars.String), begin)
        for begin, end in zip([0, *ends], [*ends, len(lines)], strict=True)
    ]
    assert [row for part in parts for row in part.messages.iter_rows()] == whole.messages.rows()
    assert [row for part in parts for row in part.events] == whole.events
    assert sum((part.counts for part in parts), start=whole.counts - whole.counts) == +whole.counts


@pytest.mark.parametrize("day", ["2024-02-30", "9999-12-31"])
def test_a_session_may_begin_on_a_day_that_is_not_in_the_calendar(day):
    lines = chatty("23:59:59", "00:00:01", head=f"# Log started: {day} 23:00:00 +0000")
    assert times_of("Chatty", lines)[0] == [f"{day} 23:59:59", f"{day} 00:00:01"]


def test_the_day_of_a_session_is_padded():
    times, _ = times_of("Chatty", chatty("23:59:59", head="# Log started: 2024-03-7 23:00:00"))
    assert times == ["2024-03-07 23:59:59"]
