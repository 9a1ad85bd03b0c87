"""Readers of JSON documents: arrays of entries, alone or below a key of an object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import ijson
import polars as pl

from chatter.logs.batch import FIELDS, MODERATION, NICKNAME, Batch, Reader
from chatter.logs.entries import parse_json
from chatter.logs.file_names import NameFacts
from chatter.logs.format import DocumentFacts
from chatter.logs.json_documents import Document, read_document, split_documents
from chatter.logs.reading import BlockFile, read_blocks
from chatter.logs.sessions import OFFSETS

BATCH_ENTRIES = 5000
SCHEMA = {"entry": pl.UInt32} | dict.fromkeys(FIELDS, pl.String)  # of the messages in a batch


@dataclass
class JsonReader(Reader):
    """Reads JSON documents, one after the other. One that contains no chat counts as one unreadable entry."""

    channel: str = ""  # of documents that do not name their channel
    documents: dict[int, Document] = field(default_factory=dict)  # of the file, as far as it was read before
    is_known: bool = False
    has_moderation: bool = True
    has_logins: bool = True

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        first, was_known = 0, True  # the number of the next entry
        for number, blocks in enumerate(split_documents(read_blocks(path, progress))):
            document, head = self.documents.get(number), []
            if not document:
                document, head = read_document(blocks, self.channel)
            self.has_moderation &= document.has_moderation
            self.has_logins &= document.has_logins
            if document.prefix:
                for batch in read_batches(BlockFile(chain(head, blocks)), document, first):
                    first += batch.num_entries
                    yield batch
            elif was_known and not document.is_known:  # what follows may be more of the same document
                yield parse_entries([(first, None)], document.facts)
                first += 1
            was_known = document.is_known


def read_batches(file: BlockFile, document: Document, first: int) -> Iterator[Batch]:
    """Yield the entries of a document, numbered from `first` on."""
    entries = enumerate(read_entries(file, document.prefix), first)
    num_entries = BATCH_ENTRIES
    while num_entries == BATCH_ENTRIES:
        # One entry at a time is in memory: Python's garbage collector goes through all that are, again and again.
        batch = parse_entries(islice(entries, BATCH_ENTRIES), document.facts)
        batch.num_invalid, file.num_invalid = file.num_invalid, 0
        num_entries = batch.num_entries
        yield batch


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
    messages = pl.DataFrame([row[: len(SCHEMA)] for row in rows], SCHEMA, orient="row")
    if any(len(row) > len(SCHEMA) for row in rows):
        nicknames = [row[len(SCHEMA)] if len(row) > len(SCHEMA) else "" for row in rows]
        messages = messages.with_columns(pl.Series(NICKNAME, nicknames, pl.String))
    notes = {OFFSETS} if rows and facts.by_offset and not facts.start else set()
    return Batch(messages, counts.total(), counts, events, unreadable, notes=notes)


def find_json_reader(path: Path, names: NameFacts) -> JsonReader:
    """Return the reader of JSON documents, from the first that has entries."""
    reader = JsonReader(names.channel)
    for number, blocks in enumerate(split_documents(read_blocks(path, lambda num_bytes: None))):
        document, _ = read_document(blocks, names.channel)
        reader.documents[number] = document
        reader.is_known |= document.is_known
        reader.has_moderation &= document.has_moderation
        reader.has_logins &= document.has_logins
        if document.prefix:
            break
    return reader
