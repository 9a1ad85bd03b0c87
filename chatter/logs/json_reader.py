"""JSON documents: an array of entries, alone or below a key of an object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import ijson
import polars as pl

from chatter.logs.batch import FIELDS, MODERATION, Batch, Reader
from chatter.logs.entries import find_json_format, gather_facts, parse_json
from chatter.logs.file_names import NameFacts
from chatter.logs.format import NO_FACTS, DocumentFacts
from chatter.logs.reading import BlockFile, read_blocks
from chatter.logs.sessions import OFFSETS

CONTAINERS = ("comments", "messages")  # keys whose value may be the array of entries
FIRST_ENTRIES = 1000  # of a document, from which its facts are gathered
BATCH_ENTRIES = 5000
SCHEMA = {"entry": pl.UInt32} | dict.fromkeys(FIELDS, pl.String)  # of the messages in a batch


@dataclass
class JsonReader(Reader):
    """Reads a JSON document. A document without chat counts as one unreadable entry."""

    prefix: str = ""  # of the entries, as ijson names them; "" if the document contains no chat
    facts: DocumentFacts = NO_FACTS
    has_moderation: bool = True
    has_logins: bool = True

    def __post_init__(self) -> None:
        self.is_known = bool(self.prefix)

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        if not self.is_known:
            yield parse_entries([(0, None)], self.facts)
            progress(path.stat().st_size)
            return
        file = BlockFile(path, progress)
        entries = enumerate(read_entries(file, self.prefix))
        while True:
            some = [*islice(entries, BATCH_ENTRIES)]
            batch = parse_entries(some, self.facts)
            batch.num_invalid, file.num_invalid = file.num_invalid, 0
            yield batch
            if len(some) < BATCH_ENTRIES:
                return


def read_entries(file: BlockFile, prefix: str) -> Iterator[Any]:
    """Yield the entries of a document. Yield None for the rest if it is damaged or cut short."""
    try:
        yield from ijson.items(file, prefix, use_float=True)
    except ijson.JSONError:
        yield None


def parse_entries(entries: Iterable[tuple[int, Any]], facts: DocumentFacts) -> Batch:
    """Return a batch of JSON values, each with its number in the file."""
    counts, rows, events, unreadable = Counter(), [], [], {}
    for number, entry in entries:
        kind, row = parse_json(entry, facts)
        counts[kind] += 1
        if kind == "messages":
            rows.append((number, *row))
        elif kind == "unreadable lines":
            unreadable[number] = ""
        elif kind in MODERATION and row:
            events.append((number, kind, *row))
    messages = pl.DataFrame(rows, SCHEMA, orient="row")
    notes = {OFFSETS} if rows and facts.by_offset and not facts.start else set()
    return Batch(messages, counts.total(), counts, events, unreadable, notes=notes)


def moderation_and_logins(entries: Iterable[Any]) -> tuple[bool, bool]:
    """Return whether the formats of entries have timeouts and bans, and whether all users are named by login."""
    known = [(entry, json_format) for entry in entries if (json_format := find_json_format(entry))]
    has_moderation = any(json_format.has_moderation for _, json_format in known)
    return has_moderation, all(json_format.has_login(entry) for entry, json_format in known)


def find_json_reader(path: Path, names: NameFacts) -> JsonReader:
    """Return the reader of a JSON document, from its first entries and the keys around them."""
    keys = ("streamer", "video")
    found = {prefix: ijson.sendable_list() for prefix in (*keys, "item", *(f"{key}.item" for key in CONTAINERS))}
    parsers = {prefix: ijson.items_coro(items, prefix, use_float=True) for prefix, items in found.items()}

    prefix = ""

    def prefix_with_entries() -> str:
        return next((each for each in found if each not in keys and found[each]), "")

    try:
        for block, _ in read_blocks(path, lambda num_bytes: None):
            for parser in parsers.values():
                parser.send(block)
            prefix = prefix or prefix_with_entries()
            if prefix and len(found[prefix]) >= FIRST_ENTRIES:
                if prefix != "comments.item" or found["streamer"] or found["video"]:
                    break
                parsers = {key: parser for key, parser in parsers.items() if key in keys}
    except ijson.JSONError:
        pass
    prefix = prefix or prefix_with_entries()
    document = {key: found[key][0] for key in keys if found[key]}
    first = found[prefix][:FIRST_ENTRIES] if prefix else []
    if not any(map(find_json_format, first)):
        return JsonReader()
    return JsonReader(prefix, gather_facts(document, first, names.channel), *moderation_and_logins(first))
