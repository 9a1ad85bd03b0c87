"""Dates and times in the cells of tables, as spreadsheets and other programs write them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime

from chatter.logs.file_names import NameFacts
from chatter.logs.sessions import NO_DAY, OFFSETS
from chatter.logs.times import epoch_time, offset_time, shift_zone

# Warnings about the times of a table.
NO_ORDER = "no dates, as it is unclear whether the day or the month comes first"
UNREAD = "some dates or times are in no known format"
MAX_LENGTH = 64  # characters of a cell
# 2021-06-15, 06/15/2021, 15.6.21
NUMBERS = r"(?P<first>\d{1,4})(?P<separator>[-/.])(?P<second>\d{1,2})(?P=separator)(?P<third>\d{1,4})"
# 15 Jun 2021, June 15, 2021
NAMED = (
    r"(?:[A-Za-z]{3,9},? )?(?:(?P<day>\d{1,2})[ -](?P<month>[A-Za-z]{3,9})\.?,?[ -](?P<year>\d{4}|\d{2})"
    r"|(?P<month_first>[A-Za-z]{3,9})\.? (?P<day_second>\d{1,2}),? (?P<year_last>\d{4}))"
)
CLOCK = r"(?P<hour>\d{1,4}):(?P<minute>[0-5]\d)(?::(?P<seconds>[0-5]\d)(?:[.,]\d+)?)?(?:\s?(?P<half>[AaPp])\.?[Mm]\.?)?"
ZONE = r"(?:\s?(?:Z|UTC|GMT))?(?:\s?(?P<zone>[+-]\d{2}(?::?\d{2})?))?"
MOMENT = re.compile(rf"(?P<date>{NUMBERS}|{NAMED})?(?:(?(date)(?:T|,?\s+))(?P<clock>{CLOCK}){ZONE})?", re.ASCII)
NUMBER = re.compile(r"-?\d{1,20}(?:\.\d*)?(?:[eE]\+?\d{1,2})?", re.ASCII)
COMPACT = re.compile(r"(20\d\d)(\d\d)(\d\d)(?:T?(\d\d)([0-5]\d)([0-5]\d)Z?)?", re.ASCII)  # 20210615185559
FIRST_YEAR = 2007  # of Justin.tv, which became Twitch


class TableTimes:
    """Reads the dates and times of one table. `order` is "mdy", "dmy" or "ymd", or "" if it is unknown."""

    def __init__(self, names: NameFacts, order: str = "") -> None:
        self.names, self.order, self.notes = names, order, set()

    def read(self, day: str, time: str) -> list[str]:
        """Return the date and the time of day of a row from its cells; "" for what they do not tell.

        >>> TableTimes(NameFacts(), "mdy").read("6/5/2021", "6:55:59 PM")
        ['2021-06-05', '18:55:59']
        """
        day, time = day.strip(), time.strip()
        moment = self.parse(time) if time else ["", ""]
        if day and not all(moment):
            given = self.parse(day)
            clock = MOMENT.fullmatch(time)
            if clock and moment[1]:
                is_clock = given[0] and int(clock["hour"]) < 24
                moment = self.parse(f"{given[0]} {time}") if is_clock else [given[0], moment[1]]
            else:
                moment = [given[0], given[1] or moment[1]]
        elif not moment[0] and lacks_date(time):
            if not self.names.date:
                self.notes.add(NO_DAY)
            moment = [self.names.date, moment[1]]
        return moment

    def parse(self, text: str) -> list[str]:
        """Return the date and the time of day in a cell."""
        if len(text) > MAX_LENGTH:
            self.notes.add(UNREAD)
            return ["", ""]
        try:
            if text[4:5] == "-" == text[7:8] and len(text) > 15:  # most of them
                moment = datetime.fromisoformat(text.removesuffix(" UTC"))
                return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d %H:%M:%S}".split()
            if found := COMPACT.fullmatch(text):
                numbers = [int(each) for each in found.groups("0")]
                moment = f"{datetime(*numbers):%Y-%m-%d %H:%M:%S}".split()
                return moment if found[4] else [moment[0], ""]
        except (ValueError, OverflowError):
            pass
        if NUMBER.fullmatch(text):
            return self.parse_number(float(text))
        found = MOMENT.fullmatch(text)
        if not found or (found["half"] and not 1 <= int(found["hour"]) <= 12):
            self.notes.add(UNREAD)
            return ["", ""]
        day = self.parse_date(found) if found["date"] else ""
        if not found["clock"]:
            return [day, ""]
        hour = int(found["hour"])
        if found["half"]:
            hour = hour % 12 + 12 * (found["half"] in "Pp")
        if hour > 23:
            return self.offset(hour * 3600 + int(found["minute"]) * 60 + int(found["seconds"] or 0))
        time = f"{hour:02}:{found['minute']}:{found['seconds'] or '00'}"
        zone = found["zone"] and found["zone"].ljust(5, "0")
        return shift_zone(day, time, zone) if day and zone else [day, time]

    def parse_number(self, number: float) -> list[str]:
        """Return the date and the time of a number: seconds or fractions of them since 1970, or into the video."""
        try:
            if number <= 1e8:
                return self.offset(number)
            return epoch_time(number / 1e6 if number > 1e17 else number)  # nanoseconds
        except (OverflowError, ValueError, OSError):
            self.notes.add(UNREAD)
            return ["", ""]

    def offset(self, seconds: float) -> list[str]:
        if not self.names.start:
            self.notes.add(OFFSETS)
        return offset_time(seconds, self.names.start)

    def parse_date(self, found: re.Match) -> str:
        """Return a date as yyyy-mm-dd, or "" if it is none or the order of its numbers is unknown."""
        if not found["first"]:
            name, day = found["month"] or found["month_first"], found["day"] or found["day_second"]
            months = [number for number in range(1, 13) if calendar.month_name[number].lower().startswith(name.lower())]
            year = int(found["year"] or found["year_last"])
            parts = [year + 2000 * (year < 100), months[0] if months else 0, int(day)]
        else:
            order = "ymd" if len(found["first"]) == 4 else self.order
            if not order:
                self.notes.add(NO_ORDER)
                return ""
            parts = in_order(found, order)
        try:
            return f"{date(*parts)}"
        except ValueError:
            self.notes.add(UNREAD)
            return ""


def in_order(found: re.Match, order: str) -> list[int]:
    """Return year, month and day of a date in numbers whose order is "ymd", "mdy" or "dmy"."""
    numbers = dict(zip(order, (found["first"], found["second"], found["third"]), strict=True))
    year = int(numbers["y"]) + (2000 if len(numbers["y"]) == 2 else 0)
    return [year, int(numbers["m"]), int(numbers["d"])]


def possible_orders(found: re.Match) -> set[str]:
    """Return the orders in which the numbers of a date are a day since the beginning of Twitch."""
    orders = set()
    for order in ("mdy", "dmy") if len(found["third"]) == 4 else ("mdy", "dmy", "ymd"):
        parts = in_order(found, order)
        try:
            if FIRST_YEAR <= date(*parts).year <= datetime.now(UTC).year + 1:
                orders.add(order)
        except ValueError:
            pass
    return orders


def lacks_date(cell: str) -> bool:
    """Return whether a cell is empty, a time of day or an offset, so that the name of the file may tell the day."""
    found = MOMENT.fullmatch(cell) if len(cell) <= MAX_LENGTH else None
    return not found["date"] if found else bool(NUMBER.fullmatch(cell))


def order_of(cell: str) -> re.Match | None:
    """Match a cell with a date in numbers whose order is unclear, as it does not begin with a year of four digits."""
    found = MOMENT.fullmatch(cell.strip()) if len(cell) <= MAX_LENGTH else None
    return found if found and found["first"] and len(found["first"]) < 4 else None


def find_order(cells: Iterable[str]) -> str:
    """Return the one order, "mdy", "dmy" or "ymd", in which all cells of a column are dates; "" if they do not show it.

    Dots are only used where the day comes first. A cell that is not a date in any order does not count.

    >>> find_order(["06/07/2021", "06/15/2021"]), find_order(["06/07/2021"]), find_order(["07.03.2024 21:05"])
    ('mdy', '', 'dmy')
    """
    possible, separators = {"mdy", "dmy", "ymd"}, set()
    for cell in cells:
        if (found := order_of(cell)) and (orders := possible_orders(found)):
            possible &= orders
            separators.add(found["separator"])
    if separators == {"."} and "dmy" in possible:
        return "dmy"
    return possible.pop() if separators and len(possible) == 1 else ""
