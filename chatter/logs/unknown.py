"""What a file in no known format begins with, which formats are the nearest, and what to do about it."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from pathlib import Path

from chatter.logs.columns import COLUMNS, find_columns
from chatter.logs.entries import parse_line
from chatter.logs.file_names import is_table
from chatter.logs.formats import AUTOMATIC_FORMATS, JSON_FORMATS, LINE_FORMATS, TABLE_FORMATS
from chatter.logs.headers import read_header
from chatter.logs.reading import read_head

NEAREST, MAX_SHOWN = 3, 80  # formats, and characters of a line
JSON_BEGIN = re.compile(r'\{|\[\s*[\[{"\]]')
FORMATS = AUTOMATIC_FORMATS | JSON_FORMATS | TABLE_FORMATS
EXAMPLES = {name: each.example for name, each in FORMATS.items()} | {
    "JSON objects": '{"timestamp": "2024-03-07T21:05:09Z", "username": "user", "message": "message"}',
    "CSV": "timestamp,username,message",
}


def describe_unknown(path: Path) -> str:
    """Return a sentence about a file in no known format, with the formats that its first line resembles."""
    line = first_line(path)
    nearest = "; ".join(f"{name}: {EXAMPLES[name]}" for name in find_nearest(line))
    return f"{path} begins {line[:MAX_SHOWN]!r}. The nearest formats are {nearest}. {advise(path, line)}"


def first_line(path: Path) -> str:
    """Return the first line of a file that is not blank."""
    return read_head(path).decode(errors="replace").strip().split("\n", 1)[0].rstrip("\r")


def find_nearest(line: str) -> list[str]:
    """Return the names of the formats whose examples a line resembles most, the nearest first."""
    keys = keys_of(line)
    is_json = JSON_BEGIN.match(line) is not None
    scores = {}
    for name, example in EXAMPLES.items():
        if is_json and keys and example.startswith("{"):
            others = keys_of(example)
            scores[name] = len(keys & others) / len(keys | others)
        else:
            scores[name] = SequenceMatcher(None, shape_of(line), shape_of(example), autojunk=False).ratio()
            scores[name] -= is_json != example.startswith("{")
    return sorted(scores, key=scores.get, reverse=True)[:NEAREST]


def shape_of(line: str) -> str:
    """Return the beginning of a line with a letter for each word, and a digit for each number.

    >>> shape_of("[21:05:09] <ann_1> hello chat")
    '[0:0:0] <a> a a'
    """
    return re.sub(r"[0-9]+", "0", re.sub(r"[^\W\d]\w*", "a", line[:MAX_SHOWN]))


def keys_of(line: str) -> set[str]:
    """Return the keys in the beginning of a JSON document, which may be cut short."""
    return set(re.findall(r'"(\w+)"\s*:', line[: 100 * MAX_SHOWN]))


def advise(path: Path, line: str) -> str:
    """Return what to do with a file."""
    names = read_header(path)
    if is_table(path) and (not names or names[0].startswith("sep=")):
        return "Make its first line a header, such as username,message."
    columns = [each for each in map(line.split, ",;\t") if len(each) > 1]
    if not is_table(path) and any("message" in find_columns(each, COLUMNS) for each in columns):
        return f"If it is a table, rename it to {path.stem}.csv."
    if is_table(path) or names:
        return f"If one of {', '.join(names[:20])} contains messages, pass its name with --columns message=NAME."
    if parse_line(line, [LINE_FORMATS["bare"]])[0] == "messages":
        return "If its lines are `user: message`, pass --format bare."
    return "Convert it to one of these, or to a CSV with the columns time, username and message."
