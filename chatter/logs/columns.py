"""Which columns of a table hold the messages, their users, channels, dates and times."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence

MESSAGES = ("message", "text", "body", "contents", "content", "msg")
USERS = ("login", "username", "user", "user_name", "author", "author_name")
SHORT_USERS = ("name", "nick", "display_name")
# Field -> the names of columns that contain it, in lower case. The first that a table has is taken. `author.name` is a
# value in a nested object or column.
COLUMNS = {
    "message": (*MESSAGES, *(f"message.{name}" for name in MESSAGES)),
    "username": (
        *USERS,
        *(f"{parent}.{name}" for name in (*USERS, *SHORT_USERS) for parent in ("user", "author", "sender", "chatter")),
        *SHORT_USERS,
    ),
    "channel": (
        *("channel", "channel_name", "streamer", "streamer_name", "broadcaster", "streamer_id"),
        *(f"{parent}.{name}" for parent in ("channel", "streamer", "broadcaster") for name in ("login", "name")),
    ),
    "date": ("date", "day"),
    "time": ("timestamp", "created_at", "datetime", "time", "time_in_seconds", "time_text"),
}
# Endings of other column names for users, without punctuation. Logins are preferred to display names.
USER_ENDINGS = ("login", "username", "author", "sender", "chatter", "authorname", "sendername", "nick", "displayname")
NAMED_LOGIN = re.compile(r".*\((\w+)\)")  # name (login)
NAME = re.compile(r"@?(?!\d+$)\w+")
LOGIN = re.compile("[a-z0-9_]+")


def parse_names(text: str) -> dict[str, str]:
    """Parse an option such as message=Text,username=Who: field -> column. Raises argparse.ArgumentTypeError."""
    names = dict(pair.split("=", 1) if "=" in pair else (pair, "") for pair in text.split(","))
    if not all(names.values()) or not names.keys() <= COLUMNS.keys():
        raise argparse.ArgumentTypeError(f"must be like message=Text,username=Who; fields: {', '.join(COLUMNS)}")
    return names


def plain_name(name: str) -> str:
    return name.strip().lower()


def find_columns(header: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Map each key of `wanted` to the place of the first of its names in the header; leave out keys without any."""
    places = {plain_name(name): place for place, name in reversed([*enumerate(header)])}
    found = {
        key: next((name for name in map(plain_name, names) if name in places), None) for key, names in wanted.items()
    }
    return {key: places[name] for key, name in found.items() if name is not None}


def find_fields(header: Sequence[str], rows: Sequence[Sequence[str]], names: Mapping[str, str]) -> dict[str, int]:
    """Map each field of a message to its place in the rows of a table; leave out fields without a column.

    `names` maps fields to the names of columns that the user gave. Otherwise, a column of users is one whose values in
    the first `rows` are names.
    """
    wanted = {field: [names[field], *known] if field in names else known for field, known in COLUMNS.items()}
    found = find_columns(header, wanted)
    if "username" in names and find_columns(header, {"username": [names["username"]]}):
        return found
    places = [found.pop("username")] if "username" in found else []
    bare_names = ["".join(filter(str.isalnum, name.lower())) for name in header]
    by_ending = [place for end in USER_ENDINGS for place, name in enumerate(bare_names) if name.endswith(end)]
    logins = [place for place in by_ending if bare_names[place].endswith("login")]
    others = [place for place, name in enumerate(header) if plain_name(name) in COLUMNS["username"]]
    for place in dict.fromkeys([*logins, *places, *others, *by_ending]):
        if place not in found.values() and are_names([row[place] for row in rows]):
            return found | {"username": place}
    for place, name in enumerate(header):
        values = [row[place].strip() for row in rows]
        if plain_name(name) == "id" and any(map(NAMED_LOGIN.fullmatch, values)) and are_names(values):
            return found | {"username": place}
    return found


def are_names(values: Sequence[str]) -> bool:
    """Return whether most of the values that are not empty are names of users, or there are no values at all."""
    filled = [value.strip() for value in values if value.strip()]
    names = [value for value in filled if NAME.fullmatch(value) or NAMED_LOGIN.fullmatch(value)]
    return not values or len(names) > len(filled) / 2


def login_of(value: str) -> str:
    """Return the login in a cell such as `name (login)`, or else its text without blanks and a leading @.

    >>> login_of("Somebody (some_body)"), login_of(" @ann ")
    ('some_body', 'ann')
    """
    found = NAMED_LOGIN.fullmatch(value)
    return found[1] if found else value.strip().removeprefix("@")
