"""chatter.logs.table_times: dates and times as spreadsheets and other programs write them."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatter.logs.file_names import NO_NAME, NameFacts
from chatter.logs.sessions import NO_DAY, OFFSETS
from chatter.logs.table_times import NO_ORDER, UNREAD, TableTimes, find_order

START = NameFacts("c", "", datetime(2024, 3, 7, 21, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" 2021-06-15 18:55:59,873 ", ["2021-06-15", "18:55:59"]),
        ("2021-06-15T18:55:59-02:00", ["2021-06-15", "20:55:59"]),
        ("2021-06-15 18:55:59.123456789Z", ["2021-06-15", "18:55:59"]),
        ("2021-06-15 18:55:59+02", ["2021-06-15", "16:55:59"]),
        ("2021-06-15 18:55 UTC", ["2021-06-15", "18:55:00"]),
        ("2021/6/5 8:55", ["2021-06-05", "08:55:00"]),
        ("6/15/2021 18:55:59", ["2021-06-15", "18:55:59"]),
        ("06/15/2021, 6:55:59 PM", ["2021-06-15", "18:55:59"]),
        ("06/15/2021 12:05 a.m.", ["2021-06-15", "00:05:00"]),
        ("6/15/21 12:05pm", ["2021-06-15", "12:05:00"]),
        ("15 Jun 2021 18:55", ["2021-06-15", "18:55:00"]),
        ("Tue, 15 Jun 2021 18:55:59 GMT", ["2021-06-15", "18:55:59"]),
        ("June 15, 2021 6:55 PM", ["2021-06-15", "18:55:00"]),
        ("20210615", ["2021-06-15", ""]),
        ("20210615T185559Z", ["2021-06-15", "18:55:59"]),
        ("2021-06-15", ["2021-06-15", ""]),
        ("1562541137", ["2019-07-07", "23:12:17"]),
        ("1562541137129", ["2019-07-07", "23:12:17"]),
        ("1562541137129857", ["2019-07-07", "23:12:17"]),
        ("1562541137129857123", ["2019-07-07", "23:12:17"]),
        ("1.62e9", ["2021-05-03", "00:00:00"]),
        ("1.562541137E+09", ["2019-07-07", "23:12:17"]),
        ("307.0", ["", "00:05:07"]),
        ("90123", ["", "25:02:03"]),
        ("25:02:03", ["", "25:02:03"]),
        ("0", ["", "00:00:00"]),
        ("22:43", ["", "22:43:00"]),
        ("9:05:07 PM", ["", "21:05:07"]),
        ("", ["", ""]),
    ],
)
def test_a_time_is_read(text, expected):
    times = TableTimes(NO_NAME, "mdy")
    assert times.read("", text) == expected and times.notes <= {NO_DAY, OFFSETS}


@pytest.mark.parametrize(
    "text",
    ["never", "1" * 400, "2021-02-30 10:00", "13:05 PM", "10:75", "15/06/2021", "2021-06/15", "9e99", "x" * 80_000],
)
def test_what_is_not_a_time_is_noted(text):
    times = TableTimes(NO_NAME, "mdy")
    assert times.read("", text)[0] == "" and UNREAD in times.notes


@pytest.mark.parametrize(
    ("day", "time", "expected"),
    [
        ("2024-03-07", "2024-03-07 21:05:09", ["2024-03-07", "21:05:09"]),
        ("06/15/2021", "6:55:59 PM", ["2021-06-15", "18:55:59"]),
        ("06/15/2021 00:00:00", "22:43", ["2021-06-15", "22:43:00"]),
        ("2024-03-07", "23:30:00+0100", ["2024-03-07", "22:30:00"]),
        ("2024-03-07 21:05:09", "", ["2024-03-07", "21:05:09"]),
        ("2024-03-07T21:05:09Z", "307", ["2024-03-07", "21:05:09"]),
        ("2024-03-07", "307", ["2024-03-07", "00:05:07"]),
        ("", "22:43", ["2020-01-02", "22:43:00"]),
        ("", "", ["2020-01-02", ""]),
        ("yesterday", "22:43", ["", "22:43:00"]),
    ],
)
def test_two_columns_and_the_name_of_the_file(day, time, expected):
    """The day in the name is not put in the place of one that the row tells but that cannot be read."""
    assert TableTimes(NameFacts("c", "2020-01-02"), "mdy").read(day, time) == expected


def test_offsets_count_from_the_start_of_the_video():
    times = TableTimes(START)
    assert times.read("", "3723.5") == ["2024-03-07", "22:02:03"] and times.notes == set()
    assert times.read("", "-62135596800000") == ["", ""] and UNREAD in times.notes


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["06/07/2021", "06/15/2021"], "mdy"),
        (["06/07/2021", "15/06/2021 10:00"], "dmy"),
        (["06/07/2021"], ""),
        (["06/15/2021", "15/06/2021"], ""),
        (["06-07-2021", "06-15-2021"], "mdy"),
        (["07.03.2024 21:05"], "dmy"),
        (["03.07.2024", "03.15.2024"], "mdy"),
        (["6/15/21"], "mdy"),
        (["21/06/15"], ""),
        (["31/12/21"], "dmy"),
        (["13/13/2021", "06/15/2021", "never"], "mdy"),
        (["2021-06-15", ""], ""),
    ],
)
def test_the_whole_column_decides_between_day_and_month_first(cells, order):
    assert find_order(cells) == order


def test_without_a_decision_the_date_stays_empty():
    times = TableTimes(NameFacts("c", "2024-03-07"), "")
    assert times.read("", "06/07/2021 18:55:59") == ["", "18:55:59"] and times.notes == {NO_ORDER}


@given(st.lists(st.dates(date(2012, 1, 1), date(2024, 12, 31)), min_size=1), st.sampled_from(["mdy", "dmy"]))
def test_any_dates_come_back_or_stay_empty(days, order):
    form = {"mdy": "%m/%d/%Y", "dmy": "%d/%m/%Y"}[order]
    cells = [f"{day:{form}}" for day in days]
    found = find_order(cells)
    assert found in ("", order) and (found == order) == any(day.day > 12 for day in days)
    times = TableTimes(NO_NAME, found)
    assert [times.read(cell, "")[0] for cell in cells] == [f"{day}" if found else "" for day in days]
