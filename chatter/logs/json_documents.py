"""JSON documents in a file, one after the other: where each begins, which entries it has, and the facts about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import ijson

from chatter.logs.entries import AROUND, find_json_format, gather_facts, load_json
from chatter.logs.format import NO_FACTS, DocumentFacts

CONTAINERS = ("comments", "messages", "data", "data.messages", "chat")  # keys whose value may be the array of entries
EXPORT_KEYS = {*CONTAINERS, *AROUND, "FileInfo", "clipper", "embeddedData", "emotes", "video_comments"}
EXPORT_KEYS |= {"guild", "dateRange", "exportedAt", "messageCount", "error", "error_code"}
FIRST_ENTRIES = 1000  # of a document, from which its facts are gathered
MAX_HEAD = 1 << 26  # bytes in which these are looked for: bounds memory
MAX_EMPTY = 1 << 20  # bytes of an export without entries
# In valid JSON, a bracket that opens follows one that closes only in a string, or where another document begins,
# perhaps with a byte order mark.
BLANKS = b" \t\r\n\xef\xbb\xbf"
BEGIN = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*[{\[]")
BOUNDARY = re.compile(rb"[}\]]" + BEGIN.pattern)
AS_BRACES = bytes.maketrans(b"[]", b"{}")  # for a fast test that most blocks fail, before the slow BOUNDARY
ESCAPED = re.compile(rb"\\.", re.DOTALL)

Block = tuple[bytes, int]  # a part of a file in UTF-8, and the number of places in it that were not UTF-8


@dataclass
class Document:
    """What the first entries of a JSON document and the keys around them tell about it."""

    prefix: str = ""  # of the entries in a known format, as ijson names them; "" if the document has none
    is_known: bool = False  # whether it has entries in a known format, or is an export without entries
    facts: DocumentFacts = NO_FACTS
    has_moderation: bool = True
    has_logins: bool = True
    other_prefix: str = ""  # of the entries in no known format, and the first of them
    others: Sequence[Any] = ()


def split_documents(blocks: Iterable[Block]) -> Iterator[Iterator[Block]]:
    """Yield the blocks of each JSON document in a file."""
    for _, parts in groupby(number_blocks(blocks), key=lambda part: part[0]):
        yield (block for _, block in parts)


def number_blocks(blocks: Iterable[Block]) -> Iterator[tuple[int, Block]]:
    """Yield blocks with the number of their document, split where a document ends."""
    document, is_closed, is_quoted, is_escaped = 0, False, False, False
    for block, num_invalid in blocks:
        start = checked = 0
        compact = block.translate(AS_BRACES, BLANKS)
        places = []
        if b"}{" in compact:
            places = [(found.start() + 1, found.end() - 1) for found in BOUNDARY.finditer(block)]
        if is_closed and (found := BEGIN.match(block)):
            places.insert(0, (0, found.end() - 1))
        for end, begin in places:
            is_quoted, is_escaped = scan_string(block[checked:end], is_quoted, is_escaped)
            checked = end
            if not is_quoted:
                yield document, (block[start:end], num_invalid)
                document, start, num_invalid = document + 1, begin, 0
        is_quoted, is_escaped = scan_string(block[checked:], is_quoted, is_escaped)
        is_closed = compact.endswith(b"}") or (is_closed and not compact)
        yield document, (block[start:], num_invalid)


def scan_string(part: bytes, is_quoted: bool, is_escaped: bool) -> tuple[bool, bool]:
    """Return whether a string is open after a part of JSON, and whether a backslash escapes what follows."""
    if not part:
        return is_quoted, is_escaped
    part = part[is_escaped:]
    if b"\\\\" in part or part.endswith(b"\\"):
        part = ESCAPED.sub(b"", part)
    num_quotes = part.count(b'"') - (part.count(b'\\"') if b"\\" in part else 0)
    return is_quoted ^ bool(num_quotes % 2), part.endswith(b"\\")


def read_document(blocks: Iterator[Block], channel: str) -> tuple[Document, list[Block]]:
    """Return a document, and the blocks that were read to find what is in it.

    `channel` is used if neither its keys nor its entries name one.
    """
    found = {prefix: ijson.sendable_list() for prefix in (*AROUND, "item", *(f"{key}.item" for key in CONTAINERS))}
    parsers = {prefix: ijson.items_coro(items, prefix, use_float=True) for prefix, items in found.items()}
    head, size, prefix, is_damaged = [], 0, "", False
    for block in blocks:
        head.append(block)
        size += len(block[0])
        for parser in parsers.values():
            try:
                parser.send(block[0])
            except ijson.JSONError:
                is_damaged = True
        prefix = prefix or next((each for each in found if each not in AROUND and found[each]), "")
        if is_damaged or size > MAX_HEAD:
            break
        if prefix and len(found[prefix]) >= FIRST_ENTRIES:
            if prefix != "comments.item" or found["streamer"] or found["video"]:
                break
            parsers = {key: parser for key, parser in parsers.items() if key in AROUND}
    entries = found[prefix][:FIRST_ENTRIES] if prefix else []
    if not any(map(find_json_format, entries)):
        is_empty = size <= MAX_EMPTY and is_empty_export(load_json(b"".join(part for part, _ in head)))
        return Document(is_known=is_empty, other_prefix=prefix, others=entries), head
    around = {key: found[key][0] for key in AROUND if found[key]}
    return Document(prefix, True, gather_facts(around, entries, channel), *moderation_and_logins(entries)), head


def moderation_and_logins(entries: Iterable[Any]) -> tuple[bool, bool]:
    """Return whether the formats of entries have timeouts and bans, and whether all users are named by login."""
    known = [(entry, json_format) for entry in entries if (json_format := find_json_format(entry))]
    has_moderation = any(json_format.has_moderation for _, json_format in known)
    return has_moderation, all(json_format.has_login(entry) for entry, json_format in known)


def is_empty_export(document: Any) -> bool:
    """Return whether a JSON value is an export without entries: an empty array, or such an array with its keys."""
    if isinstance(document, dict):
        return document.keys() <= EXPORT_KEYS and any(document.get(key) == [] for key in CONTAINERS)
    return document == []
