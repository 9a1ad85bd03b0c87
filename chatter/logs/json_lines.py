"""Lines of JSON objects with several entries each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chatter.logs.batch import Batch, Reader
from chatter.logs.entries import load_json, split_entry
from chatter.logs.format import DocumentFacts, JsonFormat
from chatter.logs.json_reader import parse_entries
from chatter.logs.reading import read_chunks
from chatter.logs.text_reader import split_lines


@dataclass
class SplitReader(Reader):
    """Reads such lines. An entry is a part of an object; a line in another format is one entry."""

    format: JsonFormat
    facts: DocumentFacts

    def __post_init__(self) -> None:
        self.has_moderation, self.has_logins = self.format.has_moderation, self.format.has_login({})

    def read(self, path: Path, progress: Callable[[int], None]) -> Iterator[Batch]:
        first = 0
        for chunk in read_chunks(path, progress):
            lines, num_invalid = split_lines(chunk)
            entries, num_blank = [], 0
            for line in lines:
                num_blank += not line.strip()
                entries += split_entry(self.format, load_json(line)) if line.strip() else []
            batch = parse_entries(enumerate(entries, first), self.facts)
            batch.num_entries += num_blank
            batch.counts["blank lines"] += num_blank
            batch.num_invalid = num_invalid
            first += len(entries)
            yield batch
