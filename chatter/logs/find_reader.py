"""The reader of a file, from its name and its first bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from chatter.logs.batch import Reader
from chatter.logs.csv_reader import find_csv_reader
from chatter.logs.entries import find_json_format, gather_facts, load_json
from chatter.logs.file_names import is_columnar, is_table, parse_file_name
from chatter.logs.format import LineFormat
from chatter.logs.formats import AUTOMATIC_FORMATS, LINE_FORMATS, STAND_ALONE
from chatter.logs.headers import no_messages
from chatter.logs.json_lines import SplitReader
from chatter.logs.json_reader import find_json_reader
from chatter.logs.object_reader import find_object_reader
from chatter.logs.reading import UnreadableLog, read_head
from chatter.logs.text_reader import TextReader
from chatter.logs.times import DATE

JSON_BEGIN = re.compile(r"\s*(?:\{|\[\s*(?:\{|\]))")  # does not match text that begins with a stamp: [2024-...
# What other programs write before a message: a stamp, the name of a user, a channel; and in place of a user, a level.
STRUCTURE = re.compile(rf"\W{{0,3}}(?:{DATE}|[0-9]{{1,2}}:[0-5][0-9]\b|<[^<>\s]+>|\[#\w+\])")
LEVELS = frozenset("trace debug info warn warning error fatal critical".split())
FIRST_LINES = 100  # of a file, from which its format is detected


def find_reader(path: Path, format_name: str = "auto", columns: Mapping[str, str] | None = None) -> Reader:
    """Return the reader of a file. If its format is unknown, `is_known` of the reader is False.

    `format_name` is a key of LINE_FORMATS for lines in no other format, or "auto"; `columns` maps fields to names of
    columns of tables.
    """
    names, columns = parse_file_name(path), columns or {}
    if is_columnar(path):
        from chatter.logs.columnar_reader import find_columnar_reader

        if reader := find_columnar_reader(path, names, columns):
            return reader
        raise UnreadableLog(no_messages(path))
    text = read_head(path).decode(errors="replace")
    if is_table(path) and (reader := find_csv_reader(path, names, columns)):
        return reader
    may_have_json = not text.lstrip().startswith("[") and ("\n{" in text or text.startswith("{"))
    objects = [load_json(line) for line in text.split("\n") if line.startswith("{")] if may_have_json else []
    entries = [entry for entry in objects if find_json_format(entry)]
    if JSON_BEGIN.match(text) and not entries:
        if reader := find_object_reader(objects, names, columns, in_lines=True):
            return reader
        reader = find_json_reader(path, names)
        others = next((each.others for each in reader.documents.values() if each.others), [])
        return (not reader.is_known and find_object_reader(others, names, columns, in_lines=False)) or reader
    facts = gather_facts({}, entries, names.channel)
    if entries and (json_format := find_json_format(entries[0])).split:
        return SplitReader(json_format, facts)
    formats = choose_formats((line.rstrip("\r") for line in text.split("\n")), LINE_FORMATS.get(format_name))
    return TextReader(formats or STAND_ALONE, names, facts, bool(formats or entries), entries)


def choose_formats(lines: Iterable[str], requested: LineFormat | None = None) -> Sequence[LineFormat]:
    """Return the formats to try for a file: the one that its first lines match, then all others that stand alone.

    If no format matches the first lines, or several match them equally well, later ones decide, as far as `lines` go.
    A format that is only used on request is `requested`. Return an empty list if the lines are in no known format.
    """
    lines = filter(str.strip, lines)
    first = [*islice(lines, FIRST_LINES)]
    if not first:
        return STAND_ALONE
    formats = [*AUTOMATIC_FORMATS.values(), *([requested] if requested else [])]
    best = find_best(first, formats)
    if len(best) != 1 and (later := [*lines]):
        best = find_best(first + later, best or formats)
    return order_formats(best[0]) if best else []


def find_best(lines: Sequence[str], formats: Iterable[LineFormat]) -> list[LineFormat]:
    """Return the formats that match the most lines without leaving STRUCTURE in their messages or, of these, the most
    lines; several on a tie, in order, and none if no line matches.
    """
    fits = {}  # format -> how many lines it matches without leaving structure, and how many in all
    for line_format in formats:
        if line_format.session_start and any(map(line_format.match_start, lines)):
            return [line_format]
        matches = [found for line in lines if (found := match_first(line, line_format))]
        fits[line_format] = len(matches) - sum(map(has_structure, matches)), len(matches)
        if line_format.stands_alone and fits[line_format][0] == len(lines):
            return [line_format]
    best = max(fits.values())
    return [each for each in fits if fits[each] == best] if best[1] else []


def match_first(line: str, line_format: LineFormat) -> re.Match | None:
    """Match a line with the first pattern of a format that matches."""
    return next((found for _, pattern in line_format.compiled if (found := pattern.fullmatch(line))), None)


def has_structure(found: re.Match) -> bool:
    """Return whether a matched line has a message that begins like a line of a log, or a user who is a level."""
    user, message = (found[name] or "" if name in found.re.groupindex else "" for name in ("username", "message"))
    return user.lower() in LEVELS or bool(STRUCTURE.match(message))


def order_formats(first: LineFormat) -> list[LineFormat]:
    """Return a format, then all others that stand alone."""
    return [first, *(each for each in STAND_ALONE if each is not first)]
