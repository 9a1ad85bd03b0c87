"""Which messages are left out, and how the others are changed.

A new filter is a new entry in FILTERS and a row in the tests.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError, option_of, positive_int
from chatter.logs.batch import INVISIBLE_SUFFIXES, MAX_MESSAGE_BYTES, NICKNAME
from chatter.text_files import read_text

if TYPE_CHECKING:
    import polars as pl

    from chatter.logs.batch import Reader
    from chatter.logs.moderation import Moderation

BOT_NAMES = frozenset(
    "ankhbot botisimo buttsbot coebot commanderroot deepbot fossabot kofistreambot lolrankbot moobot nightbot ohbot "
    "own3d phantombot playwithviewersbot pokemoncommunitygame pretzelrocks restreambot songlistbot soundalerts "
    "stay_hydrated_bot streamelements streamlabs streamlootsbot supibot titlechange_bot vivbot wizebot".split()
)
TIMEOUT_LINES = 100  # lines of the channel before a timeout that probably contain its reason
COMMAND = r"^!\w"
# Ends of web addresses that are not words of English, as some people type "nice.so" for "nice. so".
DOMAINS = (
    "com net org tv gg edu gov mil biz xyz eu ae ar au bg bo br ca cc ch cl cn cr cz de dk ec ee es fi fm fr gr "
    "hk hr hu ie il io ir jp ke kr kz lt lu lv ly md mx ng nl nz pk pl pt qa ro rs ru sa se sg sk th tk tr tw ua "
    "uk uy ve vn za"
)
LINK = rf"(?i)\b(?:https?://|www\.)\S|\b[\w-]+\.(?:{DOMAINS.replace(' ', '|')})\b|\b[\w-]+\.[a-z]{{2,}}/\S"
HANDLE = r"@\w+(?:[-.·]\w+)*"  # YouTube's have such marks
MENTION, MENTIONS = rf"\B{HANDLE}", re.compile(rf"(?<!\w)(?:{HANDLE})+")  # the latter for @several@users
BEFORE_COMMENT, NAME = re.compile(r'(?:"[^"]*"|[^"#])*'), re.compile(r'(?:"[^"]*"|[^,"])+')  # in a list of users


@dataclass(frozen=True)
class LogFacts:
    """Facts about a whole log that filters need."""

    rare_users: Collection[str]  # in lower case
    moderation: Moderation


@dataclass(frozen=True, eq=False)
class Filter:
    """A reason to leave messages out, with its command-line option."""

    count: str  # what the summary calls the messages that it leaves out
    help: str
    # (value of the option, messages, facts) -> for each message, whether it is left out. Messages have the columns
    # `entry`, FIELDS and `user`, the name in lower case.
    condition: Callable[[Any, pl.DataFrame, LogFacts | None], pl.Series]
    argument: Mapping[str, Any] = field(default_factory=lambda: {"action": "store_true"})  # for add_argument
    # Whether it needs the facts. Messages then lack the columns `time`, `username` and `message`.
    of_whole_logs: bool = False


class UnionAction(argparse.Action):
    """Stores the union of the sets that the values of an option are parsed to."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, (getattr(namespace, self.dest) or frozenset()).union(*values))


def read_users(name_or_file: str) -> frozenset[str]:
    """Return the user names, in lower case, in an argument: names separated by commas, or a file of names.

    A file has names on separate lines or between commas; # begins a comment. A name with blanks or punctuation, as
    other places than Twitch allow, is in double quotes. Raises InputError for an invalid name.
    """
    path = Path(name_or_file)
    refuse_ambiguous(name_or_file)
    if os.path.isfile(path):  # False for a name that is too long
        lines = {f"{path}:{number}": line for number, line in enumerate(read_text(path).splitlines(), 1)}
    elif re.fullmatch(r'(?:[@\w,]|"[^"]+")+', name_or_file):
        lines = {"the option": name_or_file}
    else:
        raise InputError(f"{name_or_file} is neither a file nor a user name. Check the spelling.")
    users = set()
    for place, line in lines.items():
        names = BEFORE_COMMENT.match(line)[0]
        rest = line[len(names) :]  # begins with a comment, or with a quote that is never closed
        for item in [*NAME.findall(names), *([rest] if rest.startswith('"') else [])]:
            quoted = re.fullmatch(r'"([^"]+)"', item.strip())
            name = (quoted[1] if quoted else item).strip().removeprefix("@")
            if name and not quoted and not re.fullmatch(r"\w+", name):
                raise InputError(
                    f"{name!r} in {place} is not a user name. Write one name a line, and double quotes around a name "
                    "with blanks or punctuation."
                )
            users |= {name.lower()} if name else set()
    if not users:
        raise InputError(f"{name_or_file!r} contains no user name. Write one name a line; a # begins a comment.")
    return frozenset(users)


def refuse_ambiguous(names: str) -> None:
    """Raise InputError if one of the names, separated by commas, may also mean a file in the working directory."""
    for name in names.split(","):
        if re.fullmatch(r"\w+", name) and (file := next(filter(os.path.isfile, (name, f"{name}.txt")), None)):
            raise InputError(f"{name} may be a user or a file. Write @{name} for the user, or ./{file} for the file.")


def are_named(messages: pl.DataFrame, names: Collection[str]) -> pl.Series:
    """Return for each message whether its user has one of these names, or has one of them as the nickname."""
    is_named = messages["user"].is_in(names)
    if NICKNAME in messages.columns:
        is_named |= messages[NICKNAME].fill_null("").str.to_lowercase().is_in(names)
    return is_named


def names_of_users(messages: pl.DataFrame) -> set[str]:
    """Return the names and the nicknames of all users, in lower case."""
    columns = [messages[name].unique() for name in ("username", NICKNAME) if name in messages.columns]
    return {name.lower() for column in columns for name in column if name}


# Option (with _ for -) -> filter. A message that several filters leave out is counted by the first of them.
FILTERS = {
    "exclude_users": Filter(
        "from excluded users",
        "messages of these users, or of the users in a file: one a line or separated by commas, with # comments; if a "
        "name is also the name of a file, write @name or ./name",
        lambda users, messages, _facts: are_named(messages, users),
        {"nargs": "+", "action": UnionAction, "type": read_users, "metavar": "NAME|FILE"},
    ),
    "only_users": Filter(
        "from other users",
        "messages of all but these users, given in the same way",
        lambda users, messages, _facts: ~are_named(messages, users),
        {"nargs": "+", "action": UnionAction, "type": read_users, "metavar": "NAME|FILE"},
    ),
    "exclude_bots": Filter(
        "from bots",
        "messages of well-known bots: nightbot, streamelements, moobot, ...",
        lambda _, messages, _facts: are_named(messages, BOT_NAMES),
    ),
    "drop_commands": Filter(
        "commands",
        "messages that begin with a command such as !discord",
        lambda _, messages, _facts: messages["message"].str.contains(COMMAND),
    ),
    "drop_links": Filter(
        "with links",
        "messages with a link",
        lambda _, messages, _facts: messages["message"].str.contains(LINK),
    ),
    "drop_moderated": Filter(
        "moderated",
        f"deleted messages, a user's messages in the {TIMEOUT_LINES} lines of the channel before their timeout, and "
        "those before their ban on the same day; looks only in the same log",
        lambda _, messages, facts: facts.moderation.covers(messages),
        of_whole_logs=True,
    ),
    "min_user_messages": Filter(
        "from rare users",
        "messages of users with fewer than N messages in all logs",
        lambda _, messages, facts: messages["user"].is_in(facts.rare_users),
        {"type": positive_int, "metavar": "N"},
        of_whole_logs=True,
    ),
}


USER_FILTERS = {name: option_of(name) for name in ("exclude_users", "only_users")}  # FILTERS that name users


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Add the option of each filter."""
    group = parser.add_argument_group("which messages to leave out")
    for name, entry in FILTERS.items():
        group.add_argument(option_of(name), help=entry.help, **entry.argument)


def chosen_filters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the filter options that were given, by name in FILTERS."""
    return {name: getattr(args, name) for name in FILTERS if getattr(args, name)}


def limits_of_filters(filters: Mapping[str, Any], reader: Reader, has_unknown: bool) -> set[str]:
    """Return notes about filters that lack something in a log, such as deletions of an unknown message."""
    notes, drops = set(), filters.get("drop_moderated")
    if drops and not reader.has_moderation:
        notes.add("--drop-moderated has no effect, as this format does not tell whose messages were moderated")
    elif drops and has_unknown:
        notes.add("--drop-moderated leaves deleted messages in where the log does not tell which they are")
    for name, option in USER_FILTERS.items():
        if filters.get(name) and not reader.has_logins:
            notes.add(f"{option} compares display names, as this format has no logins")
    return notes


def filter_messages(
    messages: pl.DataFrame, filters: Mapping[str, Any], facts: LogFacts | None = None
) -> tuple[pl.DataFrame, Counter[str]]:
    """Apply `filters`, a map from names in FILTERS to the values of their options: with `facts`, those of whole logs.

    Return the messages that are kept, and how many each filter left out, by its `count`.
    """
    of_kind = {name: entry for name, entry in FILTERS.items() if entry.of_whole_logs == bool(facts)}
    chosen = {entry: filters[name] for name, entry in of_kind.items() if filters.get(name)}
    if chosen and not facts:
        lower = {name: name.lower() for name in messages["username"].unique() if not name.islower()}  # each name once
        messages = messages.with_columns(user=messages["username"].replace(lower))
    counts = Counter()
    for entry, value in chosen.items():
        kept = messages.filter(~entry.condition(value, messages, facts))
        counts[entry.count] += len(messages) - len(kept)
        messages = kept
    return messages, counts


def mask_mentions(messages: pl.DataFrame) -> pl.DataFrame:
    """Write @user in place of each @name."""
    text = messages["message"]
    several = text.filter(text.str.contains(rf"{MENTION}@"))
    several = {each: MENTIONS.sub(lambda found: "@user" * found[0].count("@"), each) for each in several}
    return messages.with_columns(text.replace(several).str.replace_all(MENTION, "@user"))


def strip_suffixes(messages: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Remove the invisible suffixes of messages, and the blanks before them; count the messages that had any."""
    import polars as pl

    text = pl.col("message")
    first, second = (text.str.ends_with(suffix) for suffix in INVISIBLE_SUFFIXES)
    if num_suffixed := messages.select((first | second).sum()).item():
        messages = messages.with_columns(text.str.replace(f"(?: ?[{INVISIBLE_SUFFIXES}])+$", ""))
    return messages, num_suffixed


def cut_long(messages: pl.DataFrame) -> tuple[pl.DataFrame, list[int]]:
    """Cut messages of more than MAX_MESSAGE_BYTES bytes; return the numbers of their entries."""
    sizes = messages["message"].str.len_bytes()
    if (sizes.max() or 0) <= MAX_MESSAGE_BYTES:
        return messages, []
    long = messages.filter(sizes > MAX_MESSAGE_BYTES)
    cut = {text: text.encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore") for text in long["message"]}
    return messages.with_columns(messages["message"].replace(cut)), long["entry"].to_list()
