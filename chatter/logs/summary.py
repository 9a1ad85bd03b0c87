"""What became of the logs: counts and warnings, printed on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chatter.cli import one_line
from chatter.logs.batch import MAX_MESSAGE_BYTES, Batch
from chatter.logs.formats import KINDS

LAST = ("messages written", "lines with invalid UTF-8", "invisible suffixes removed", "messages cut")
SHOWN = 5  # lines, files or names that are listed


@dataclass
class LogResult:
    """The counts of one log, or of its parts so far, and the lines, users and warnings to report about it."""

    counts: Counter = field(
        default_factory=lambda: Counter(dict.fromkeys(KINDS, 0))
    )  # of entries and messages, by kind
    num_entries: int = 0
    unreadable: list[int] = field(default_factory=list)  # the first unreadable lines, from 0
    cut: list[int] = field(default_factory=list)  # the first entries with messages that were cut
    users: set[str] = field(default_factory=set)  # users of the log whom USER_FILTERS name
    notes: set[str] = field(default_factory=set)  # warnings for the summary
    is_known: bool = True  # whether the log is in a known format
    unknown: str = ""  # a sentence about a log in an unknown format

    def add_batch(self, batch: Batch, cut: list[int], num_suffixes: int) -> None:
        """Add a batch, the entries whose messages were cut, and the number of invisible suffixes that were removed."""
        self.counts.update(batch.counts)
        self.counts["lines with invalid UTF-8"] += batch.num_invalid
        self.counts["invisible suffixes removed"] += num_suffixes
        self.counts["messages cut"] += len(cut)
        self.num_entries += batch.num_entries
        self.unreadable = [*self.unreadable, *batch.unreadable][:SHOWN]
        self.cut = [*self.cut, *cut][:SHOWN]
        self.notes |= batch.notes

    def add(self, part: LogResult) -> None:
        """Add what became of the next part."""
        self.counts.update(part.counts)
        self.unreadable = [*self.unreadable, *(number + self.num_entries for number in part.unreadable)][:SHOWN]
        self.cut = [*self.cut, *(number + self.num_entries for number in part.cut)][:SHOWN]
        self.num_entries += part.num_entries
        self.users |= part.users
        self.notes |= part.notes
        self.is_known &= part.is_known


def in_order(counts: Counter) -> list[tuple[str, int]]:
    """Return the items of counts in the order of the summary."""
    return sorted(counts.items(), key=lambda item: LAST.index(item[0]) if item[0] in LAST else -1)


def print_summary(results: dict[Path, LogResult], skipped: dict[Path, str], verbose: bool) -> None:
    """Print the counts of files and entries on stderr: the totals and, if `verbose`, one line per log."""
    total = Counter(
        {"files found": len(results) + len(skipped), "files skipped": len(skipped), "files read": len(results)}
    )
    for log, result in results.items():
        total.update(result.counts)
        if verbose:
            listed = [f"{count:,} {what}" for what, count in in_order(result.counts) if count]
            print(one_line(f"{log}: {', '.join(listed)}"), file=sys.stderr)
    for what, count in in_order(total):
        print(f"{what:26} {count:>12,}", file=sys.stderr)
    errors = {path: reason for path, reason in skipped.items() if reason.startswith((f"{path} ", f"{path}:"))}
    others = [f"{path} ({reason})" for path, reason in skipped.items() if path not in errors]
    print_some("skipped", others, verbose)
    for reason in errors.values():
        print(f"skipped: {one_line(reason)}", file=sys.stderr)
    unreadable = [f"{log}:{number + 1}" for log, result in results.items() for number in result.unreadable]
    print_some("unreadable", unreadable, verbose, total["unreadable lines"])
    cut = [f"{log}:{number + 1}" for log, result in results.items() for number in result.cut]
    print_some(f"cut to {MAX_MESSAGE_BYTES:,} bytes", cut, verbose, total["messages cut"])
    unknown = [result.unknown for result in results.values() if result.unknown]
    for sentence in unknown if verbose else unknown[:SHOWN]:
        print(f"in no known format: {one_line(sentence)}", file=sys.stderr)
    if len(unknown) > SHOWN and not verbose:
        print(f"in no known format: {len(unknown) - SHOWN} more, which --verbose lists", file=sys.stderr)
    for note in sorted({note for result in results.values() for note in result.notes}):
        noted = [str(log) for log, result in results.items() if note in result.notes]
        print_some(note, noted, verbose)


def print_some(what: str, names: list[str], verbose: bool, number: int = 0) -> None:
    """Print the first names on one line, or all if `verbose`. There are `number` in all, if they are not all given."""
    shown = names if verbose else names[:SHOWN]
    dots = " ..." if max(number, len(names)) > len(shown) else ""
    if shown:
        print(f"{what}: {', '.join(map(one_line, shown))}{dots}", file=sys.stderr)
