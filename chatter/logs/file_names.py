"""What the name of a log says: its kind, and facts that its lines may lack, such as the channel and the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chatter.logs.times import DATE, padded_date

TABLES, COLUMNAR = ("csv", "tsv"), ("parquet", "arrow", "feather")
SUFFIXES = ("txt", "log", "tcd", "weechatlog", "json", "jsonl", "ndjson", *TABLES, *COLUMNAR)
LOG_NAME = re.compile(rf"(?P<stem>.+)\.(?P<suffix>{'|'.join(SUFFIXES)})(?:\.gz|\.zst)?", re.IGNORECASE | re.DOTALL)
DAY = rf"(?P<date>{DATE})(?![0-9])"
FILE_NAMES = [
    # TwitchDownloader; its day may be local or UTC
    r"\[(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})-(?P<year>[0-9]{2})\] (?P<channel>\w+) - .*",
    # tcd: the number of the video, its title, and when it began; or the latter alone, perhaps with a channel
    rf"[0-9]+ - .*\({DAY}T(?P<start>[0-9]{{6}})Z\).*",
    rf"(?:#?(?P<channel>\w+)-)?{DAY}T(?P<start>[0-9]{{6}})Z.*",
    # WeeChat: irc.twitch.#channel, perhaps with a date
    rf"irc\.[^.#]+\.#(?P<channel>\w+)(?:[-_.]{DAY})?(?:\.[a-z]+)?",
    # Chatty: #channel, or 2021-03-05_#channel
    rf"(?:{DAY}_)?#(?P<channel>\w+).*",
    # Chatterino, and names that people choose: channel-2021-03-05
    rf"#?(?P<channel>\w+?)[-_. ]{DAY}.*",
    rf"{DAY}.*",
]
FOLDERS = [
    r"(?P<channel>\w+) chatlog",  # OverRustle: Channel chatlog/January 2018/2018-01-05.txt
    r"#(?P<channel>\w+)",  # ZNC: #channel/2018-01-05.log
]


@dataclass(frozen=True)
class NameFacts:
    """Facts from the name of a file; "" or None if unknown."""

    channel: str = ""
    date: str = ""  # yyyy-mm-dd, or "" if `start` is known
    start: datetime | None = None  # of the video, UTC


NO_NAME = NameFacts()


def suffix_of(path: Path) -> str:
    """Return the suffix of a log in lower case, without .gz or .zst; "" if it is not named like a log."""
    found = LOG_NAME.fullmatch(path.name)
    return found["suffix"].lower() if found else ""


def is_table(path: Path) -> bool:
    """Return whether a file is a CSV or TSV by its name."""
    return suffix_of(path) in TABLES


def is_columnar(path: Path) -> bool:
    """Return whether a file is a Parquet, Arrow or Feather file by its name."""
    return suffix_of(path) in COLUMNAR


def parse_file_name(path: Path) -> NameFacts:
    """Return the facts in the name of a log and in the names of its folders.

    >>> parse_file_name(Path("forsen-2021-03-05.log"))
    NameFacts(channel='forsen', date='2021-03-05', start=None)
    """
    facts = {}
    for pattern in FILE_NAMES:
        if found := re.fullmatch(pattern, path.name.rsplit(".", 1)[0], re.ASCII | re.DOTALL):
            facts = {name: text for name, text in found.groupdict().items() if text}
            break
    for folder in path.parts[-3:-1]:
        for pattern in FOLDERS:
            if "channel" not in facts and (found := re.fullmatch(pattern, folder, re.ASCII)):
                facts["channel"] = found["channel"]
    date = padded_date(facts.get("date", ""))
    if "year" in facts:
        date = f"20{facts['year']}-{int(facts['month']):02}-{int(facts['day']):02}"
    start = None
    try:
        day = datetime.fromisoformat(date).replace(tzinfo=UTC) if date else None
        if "start" in facts:
            start = datetime.strptime(f"{date} {facts['start']}", "%Y-%m-%d %H%M%S").replace(tzinfo=UTC)
    except ValueError:  # not a date of the calendar
        day = None
    return NameFacts(facts.get("channel", "").lower(), date if day and not start else "", start)
