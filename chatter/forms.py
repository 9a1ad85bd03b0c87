"""The forms of files: lines, JSON exports and tables. Each gives its entries in batches with the same columns."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatter.dialects import DIALECTS, FIELDS, Dialect
from chatter.exports import (
    CONTAINERS,
    EMPTY,
    EXPORTS,
    NO_FACTS,
    UNNAMED,
    ExportFacts,
    find_export,
    gather_facts,
    load_json,
    parse_entry,
)
from chatter.lines import STAND_ALONE, UNTIMED, Batch, LineParser, choose_dialects, order_dialects
from chatter.names import NO_NAME, NameFacts, read_name
from chatter.reading import BlockReader, read_blocks, read_chunks, read_head, split_lines
from chatter.sessions import OFFSETS
from chatter.tables import COLUMNS, TableForm, find_columns, read_header

FIRST_ENTRIES = 1000  # of an export, from which its facts are gathered
BATCH_ROWS = 5000  # of an export at a time
EXPORT = re.compile(r"\s*(?:\{|\[\s*(?:\{|\]))")  # how JSON begins; text has a stamp: [2024-...
FORMS = [*(name for name in DIALECTS if not DIALECTS[name].on_request), *EXPORTS, "CSV"]
LAST = (UNNAMED, EMPTY, UNTIMED, "blank lines", "unreadable lines")
KNOWN = [kind for dialect in DIALECTS.values() for kind, _ in (*dialect.patterns, dialect.others or ("", ""))]
KINDS = (*dict.fromkeys(kind for kind in KNOWN if kind and kind not in LAST), *LAST)


class EntryBatch:
    """Collects the entries of an export until they are a batch."""

    def __init__(self, facts: ExportFacts, number: int = 0):
        self.facts, self.number, self.num_invalid = facts, number, 0
        self.counts, self.rows, self.events, self.unreadable = Counter(), [], [], {}

    def add(self, entry: Any) -> None:
        kind, row = parse_entry(entry, self.facts)
        self.counts[kind] += 1
        if kind == "messages":
            self.rows.append((self.number, *row))
        elif kind == "unreadable lines":
            self.unreadable[self.number] = ""
        elif row and kind != UNTIMED:
            self.events.append((self.number, kind, *row))
        self.number += 1

    def finish(self) -> Batch:
        """Return the batch, and begin another."""
        import polars as pl

        schema = {"number": pl.UInt32} | dict.fromkeys(FIELDS, pl.String)
        messages = pl.DataFrame(self.rows, schema, orient="row")
        notes = {OFFSETS} if self.rows and self.facts.by_offset and not self.facts.start else set()
        size = self.counts.total()
        batch = Batch(messages, size, self.counts, self.events, self.unreadable, self.num_invalid, notes)
        self.__init__(self.facts, self.number)
        return batch


@dataclass
class LineForm:
    """Lines of text, or of JSON, one entry each."""

    dialects: Sequence[Dialect] = STAND_ALONE
    names: NameFacts = NO_NAME
    facts: ExportFacts = NO_FACTS  # of lines of JSON
    is_known: bool = True  # whether the first lines are in one of the forms
    entries: Sequence[Any] = ()  # of the first lines, if they are JSON

    def __post_init__(self):
        first = self.dialects[0]
        self.has_moderation, self.has_logins = first.has_moderation, not first.display_names
        if self.entries:
            self.has_moderation, self.has_logins = moderation_and_logins(self.entries)

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        parser, first = LineParser(self.dialects, self.names), 0
        for chunk in read_chunks(path, progress):
            text, num_invalid = split_lines(chunk)
            batch = parser.parse(text, first)
            batch.num_invalid = num_invalid
            yield add_json_lines(batch, self.facts)
            first += batch.num_entries


@dataclass
class ExportForm:
    """A JSON document with an array of entries."""

    prefix: str  # of the entries, as ijson names them
    facts: ExportFacts
    has_moderation: bool
    has_logins: bool
    is_known = True

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        import ijson

        file, batch = BlockReader(path, progress), EntryBatch(self.facts)
        try:
            for entry in ijson.items(file, self.prefix, use_float=True):
                batch.add(entry)
                if len(batch.rows) == BATCH_ROWS:
                    yield batch.finish()
        except ijson.JSONError:  # damaged or cut short: what follows is one unreadable entry
            batch.add(None)
        batch.num_invalid = file.num_invalid
        yield batch.finish()


@dataclass
class UnknownForm:
    """A JSON document that is no export of chat, as one unreadable entry."""

    has_moderation = has_logins = True
    is_known = False

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        batch = EntryBatch(NO_FACTS)
        batch.add(None)
        yield batch.finish()
        progress(path.stat().st_size)


Form = LineForm | ExportForm | TableForm | UnknownForm


def find_form(path: Path, dialect: str = "auto", columns: Mapping[str, str] | None = None) -> Form:
    """Return the form of a file, from its first bytes; that of unknown lines if it has none.

    `dialect` is the name of the one that text is in, or "auto"; `columns` maps fields to names of columns of tables.
    """
    names, head = read_name(path), read_head(path)
    text = head.removeprefix(codecs.BOM_UTF8).decode(errors="replace")
    if re.search(r"\.[ct]sv(?:\.gz)?$", path.name, re.IGNORECASE):
        wanted = {key: [name, *COLUMNS[key]] if (name := (columns or {}).get(key)) else COLUMNS[key] for key in COLUMNS}
        found = find_columns(read_header(path)[0], wanted)
        if "message" in found:
            return TableForm(wanted, names, "username" in found)
    first_lines = [line.rstrip("\r") for line in text.split("\n")]
    entries = [] if text.lstrip().startswith("[") else [load_json(line) for line in first_lines if line.startswith("{")]
    entries = [entry for entry in entries if find_export(entry)]
    if EXPORT.match(text) and not entries:
        return find_export_form(path, names)
    if dialect != "auto":
        return LineForm(order_dialects(DIALECTS[dialect]), names)
    facts = gather_facts({}, entries, names.channel)
    try:
        return LineForm(choose_dialects(first_lines), names, facts, entries=entries)
    except ValueError:
        return LineForm(STAND_ALONE, names, facts, is_known=bool(entries), entries=entries)


def moderation_and_logins(entries: Iterable[Any]) -> tuple[bool, bool]:
    """Return whether entries of exports are of forms with timeouts and bans, and name all users by login."""
    exports = [(entry, export) for entry in entries if (export := find_export(entry))]
    return any(export.has_moderation for _, export in exports), all(
        export.has_login(entry) for entry, export in exports
    )


def find_export_form(path: Path, names: NameFacts) -> ExportForm | UnknownForm:
    """Return the form of a JSON document, from what is around its entries and the first of them."""
    import ijson

    keys = ("streamer", "video")
    found = {prefix: ijson.sendable_list() for prefix in (*keys, "item", *(f"{key}.item" for key in CONTAINERS))}
    readers = {prefix: ijson.items_coro(items, prefix, use_float=True) for prefix, items in found.items()}
    first = []
    try:
        for block, _ in read_blocks(path, lambda num_bytes: None):
            for reader in readers.values():
                reader.send(block)
            if not first and (prefix := next((each for each in found if each not in keys and found[each]), None)):
                first = found[prefix]
            if len(first) >= FIRST_ENTRIES and (prefix != "comments.item" or found["streamer"] or found["video"]):
                break
            for each in [each for each in readers if each not in keys and len(first) >= FIRST_ENTRIES]:
                del readers[each]
    except ijson.JSONError:
        pass
    prefix = next((each for each in found if each not in keys and found[each]), "")
    document = {key: found[key][0] for key in keys if found[key]}
    first = found[prefix][:FIRST_ENTRIES] if prefix else []
    if not any(map(find_export, first)):
        return UnknownForm()
    return ExportForm(prefix, gather_facts(document, first, names.channel), *moderation_and_logins(first))


def add_json_lines(batch: Batch, facts: ExportFacts) -> Batch:
    """Read the lines of a batch that are unreadable as text, but are JSON."""
    found, unreadable = EntryBatch(facts), dict(batch.unreadable)
    for number, line in batch.unreadable.items():
        if line.startswith("{") and (entry := load_json(line)) is not None:
            found.number = number
            found.add(entry)
            del unreadable[number]
    if not found.counts:
        return batch
    found = found.finish()
    batch.messages = batch.messages.vstack(found.messages).sort("number")
    batch.counts["unreadable lines"] -= found.num_entries
    batch.counts += found.counts
    batch.events = sorted(batch.events + found.events)
    batch.unreadable = dict(sorted((unreadable | found.unreadable).items()))
    batch.notes |= found.notes
    return batch
