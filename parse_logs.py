"""Stage 1: Twitch chat logs -> one CSV per log.

Reads   every .txt and .log file below --logs-dir, also gzipped (.gz), in any of these forms, told apart line by line:
            [2024-03-7 21:05:09] #channel user: message                             justlog (logs.ivr.fi until 2024)
            [2024-03-07 21:05:09] #channel user: message                            rustlog (logs.ivr.fi now)
            @tmi-sent-ts=1709845509000;... :user!... PRIVMSG #channel :message      raw IRC
Writes  <output-dir>/<same folder and name>.csv in UTF-8, with a header and one row per message:
            date,time,channel,username,message
            2024-03-07,21:05:09,channel,user,message
        Timeouts, bans and everything else that nobody typed is counted but not written, and so are the messages that
        the options leave out. The counts are printed on stderr, and add up to the lines of the logs.

    python parse_logs.py
    python parse_logs.py --logs-dir ~/logs --output-dir data/raw --jobs 4
    python parse_logs.py --exclude-bots --exclude-users somebody optouts.txt --drop-moderated --mask-mentions
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw --verbose
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.command import InputError, make_parser, one_line, positive_int
from chatter.dialects import FIELDS, KINDS, parse_lines
from chatter.exits import plain_errors
from chatter.files import LOCK, locked, staged_files
from chatter.filters import LogFacts, add_filter_options, chosen_filters, filter_messages, mask_mentions
from chatter.moderation import find_moderation
from chatter.reading import map_logs, read_chunks, split_lines
from chatter.tables import find_stale, is_ours, read_sources, write_sources

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

LOG_NAME = re.compile(r"(?P<stem>.+)\.(?:txt|log)(?:\.gz)?", re.IGNORECASE | re.DOTALL)
SUFFIXES = "\U000e0000\u034f"  # invisible; clients append one, and a blank, so that a message can be sent twice
MAX_BYTES = 1 << 16  # of a message: Twitch's limit is 500 characters, so a longer one is damage
SHOWN = 5  # lines, files or names that the summary lists


@dataclass
class LogResult:
    """What became of one log."""

    counts: Counter = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))  # of lines and messages, by kind
    unreadable: list[str] = field(default_factory=list)  # places of the first unreadable lines
    cut: list[str] = field(default_factory=list)  # places of the first messages that were cut
    users: set[str] = field(default_factory=set)  # of those that --exclude-users names


def find_logs(logs_dir: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return the logs below a folder, sorted, and why each other file or folder was skipped.

    Links are followed, after everything else, so that nothing is read twice.
    """
    if not logs_dir.is_dir():
        raise InputError(f"{logs_dir} is not a folder. Put your logs there, or pass their folder with --logs-dir.")
    logs, skipped, seen, links = [], {}, set(), []

    def skip(error: OSError) -> None:
        skipped[Path(error.filename)] = error.strerror

    def visit(path: Path) -> None:
        real = os.path.realpath(path)
        if path.name[0] == ".":
            skipped[path] = "hidden"
        elif not path.exists():
            skipped[path] = "a broken link"
        elif real in seen:
            skipped[path] = "a link to what is read already"
        elif path.is_dir():
            walk(path)
        elif not path.is_file():
            skipped[path] = "not a regular file"
        elif not LOG_NAME.fullmatch(path.name):
            skipped[path] = "not a .txt or .log file"
        else:
            seen.add(real)
            logs.append(path)

    def walk(top: Path) -> None:
        for folder, subfolders, names in os.walk(top, onerror=skip):
            seen.add(os.path.realpath(folder))
            for path in (Path(folder, name) for name in sorted(subfolders + names)):
                if path.is_symlink():
                    links.append(path)
                elif path.name in names or path.name[0] == ".":
                    visit(path)
            subfolders[:] = [name for name in subfolders if name[0] != "."]

    walk(logs_dir)
    while links:
        visit(links.pop(0))
    if not logs:
        reasons = "".join(f" {path}: {reason}." for path, reason in [*skipped.items()][:SHOWN])
        raise InputError(f"no .txt or .log file (or .txt.gz, .log.gz) in {logs_dir}. Put your logs there.{reasons}")
    return sorted(logs), dict(sorted(skipped.items()))


def name_csvs(logs: list[Path], logs_dir: Path, output_dir: Path) -> dict[Path, Path]:
    """Map each log to the path of its CSV below `output_dir`. Raises InputError if something else is there."""
    csv_paths = {}
    for log in logs:
        name = LOG_NAME.fullmatch(log.name)["stem"]
        csv_path = log.relative_to(logs_dir).with_name(f"{name}.csv")
        if csv_path in csv_paths:
            raise InputError(
                f"{csv_paths[csv_path]} and {log} would both become {output_dir / csv_path}. Rename one of them."
            )
        csv_paths[csv_path] = log
        existing = output_dir / csv_path
        if existing.exists() and not (existing.is_file() and (is_ours(existing) or not existing.stat().st_size)):
            raise InputError(
                f"{existing} was not written by parse_logs.py and would be replaced. Move it away, or choose another "
                "--output-dir."
            )
    for csv_path, log in csv_paths.items():
        for parent in csv_path.parents:
            if parent in csv_paths:
                raise InputError(f"{csv_paths[parent]} would become {parent}, the folder of {log}. Rename one of them.")
    return {log: csv_path for csv_path, log in csv_paths.items()}


def parse_logs(
    logs_dir: Path,
    output_dir: Path,
    jobs: int,
    filters: Mapping[str, Any] | None = None,
    mask: bool = False,
    prune: bool = False,
) -> tuple[dict[Path, LogResult], dict[Path, str], list[Path]]:
    """Write one CSV per log in `jobs` threads, or none at all.

    `filters` maps names of FILTERS to the values of their options, and `mask` hides mentions. Return what became of
    each log, why other files were skipped, and the CSVs in `output_dir` without a log any more; `prune` deletes those.
    """
    filters = filters or {}
    logs, skipped = find_logs(logs_dir)
    output_dir = output_dir.resolve() if output_dir.is_symlink() else output_dir
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file, not a folder. Choose another --output-dir.")
    with locked(output_dir / LOCK, output_dir):
        csv_paths = name_csvs(logs, logs_dir, output_dir)
        rare_users = find_rare_users(logs, filters.get("min_user_messages", 1), jobs)
        with staged_files(output_dir) as staging:
            calls = {log: (staging / csv_paths[log], filters, rare_users[log], mask) for log in logs}
            results = map_logs("parsing", parse_file, calls, jobs, num_reads=2 if filters.get("drop_moderated") else 1)
            total = sum((result.counts for result in results.values()), Counter())
            if not total["messages"]:
                raise InputError(
                    f"no chat messages in {logs_dir}. Lines must look like [2024-03-7 21:05:09] #channel user: message"
                )
            if not total["messages written"]:
                raise InputError(f"the options leave out all chat messages in {logs_dir}. Pass fewer of them.")
        sources = read_sources(output_dir) | {name.as_posix(): str(log.absolute()) for log, name in csv_paths.items()}
        stale = find_stale(output_dir, sources, skipped)
        if prune:
            for path in stale:
                path.unlink()
        write_sources(output_dir, sources)
    return results, skipped, stale


def find_rare_users(logs: list[Path], fewest: int, jobs: int) -> dict[Path, Collection[str]]:
    """Return, for each log, its users with fewer than `fewest` messages in all logs."""
    if fewest == 1:
        return dict.fromkeys(logs, ())
    users = map_logs("counting users", count_users, dict.fromkeys(logs, ()), jobs)
    total = sum(users.values(), Counter())
    return {log: [user for user in counts if total[user] < fewest] for log, counts in users.items()}


def count_users(log_path: Path, progress: Callable[[int], None]) -> Counter:
    """Count the messages of each user, in lower case, in one log."""
    counts = Counter()
    for chunk in read_chunks(log_path, progress):
        messages, _, _ = parse_lines(split_lines(chunk)[0])
        for name, count in messages["username"].value_counts().iter_rows():
            counts[name.lower()] += count
    return counts


def parse_file(
    log_path: Path,
    csv_path: Path,
    filters: Mapping[str, Any],
    rare_users: Collection[str],
    mask: bool,
    progress: Callable[[int], None],
) -> LogResult:
    """Write one log's messages as CSV."""
    result, num_lines = LogResult(), 0
    facts = LogFacts(rare_users, find_moderation(log_path, progress) if filters.get("drop_moderated") else {})
    csv_path.parent.mkdir(parents=True, exist_ok=True)
    with csv_path.open("wb") as output:
        output.write((",".join(FIELDS) + "\n").encode())
        for chunk in read_chunks(log_path, progress):
            lines, num_invalid = split_lines(chunk)
            messages, kinds, unreadable = parse_lines(lines, num_lines)
            messages, num_suffixes = strip_suffixes(messages)
            messages, cut = cut_long(messages)
            if wanted := filters.get("exclude_users"):
                result.users |= wanted & {name.lower() for name in messages["username"].unique()}
            messages, left_out = filter_messages(messages, filters, facts)
            if mask:
                messages = mask_mentions(messages)
            messages.select(FIELDS).write_csv(output, include_header=False)
            result.counts.update(kinds)
            result.counts.update(left_out)
            result.counts["messages written"] += len(messages)
            result.counts["lines with invalid UTF-8"] += num_invalid
            result.counts["invisible suffixes removed"] += num_suffixes
            result.counts["messages cut"] += len(cut)
            result.unreadable += [f"{log_path}:{number + 1}" for number in unreadable[:SHOWN]]
            result.cut += [f"{log_path}:{number + 1}" for number in cut[:SHOWN]]
            num_lines += len(lines)
    return result


def strip_suffixes(messages: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Remove the invisible suffix of messages, and the blank before it; count the messages that had one."""
    import polars as pl

    message = pl.col("message")
    suffixed = pl.any_horizontal(message.str.ends_with(suffix) for suffix in SUFFIXES)
    stripped = message.str.replace(f" ?[{SUFFIXES}]$", "")
    messages = messages.with_columns(pl.when(suffixed).then(stripped).otherwise(message), suffixed=suffixed)
    return messages, messages["suffixed"].sum()


def cut_long(messages: pl.DataFrame) -> tuple[pl.DataFrame, list[int]]:
    """Cut messages of more than MAX_BYTES bytes; return the numbers of their lines."""
    import polars as pl

    long = messages.filter(pl.col("message").str.len_bytes() > MAX_BYTES)
    if long.is_empty():
        return messages, []
    cut = {text: text.encode()[:MAX_BYTES].decode(errors="ignore") for text in long["message"]}
    return messages.with_columns(pl.col("message").replace(cut)), long["number"].to_list()


def print_summary(results: dict[Path, LogResult], skipped: dict[Path, str], verbose: bool) -> None:
    """Print on stderr what the files and lines were: in total and, if `verbose`, one line per log."""
    total = Counter(
        {"files found": len(results) + len(skipped), "files skipped": len(skipped), "files read": len(results)}
    )
    for log, result in results.items():
        total.update(result.counts)
        if verbose:
            listed = [f"{count:,} {what}" for what, count in result.counts.items() if count]
            print(f"{log}: {', '.join(listed)}", file=sys.stderr)
    for what, count in total.items():
        print(f"{what:26} {count:>12,}", file=sys.stderr)
    print_some("skipped", [f"{path} ({reason})" for path, reason in skipped.items()], len(skipped), verbose)
    unreadable = [place for result in results.values() for place in result.unreadable]
    print_some("unreadable", unreadable, total["unreadable lines"], verbose)
    cut = [place for result in results.values() for place in result.cut]
    print_some(f"cut to {MAX_BYTES:,} bytes", cut, total["messages cut"], verbose)


def print_some(what: str, names: list[str], number: int, verbose: bool) -> None:
    """Print some names of the `number` there are on one line; all that are known if `verbose`."""
    shown = names if verbose else names[:SHOWN]
    if shown:
        print(f"{what}: {', '.join(map(one_line, shown))}{' ...' if number > len(shown) else ''}", file=sys.stderr)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs")
    add("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs")
    add("--jobs", type=positive_int, default=(os.cpu_count() or 1) + 1, help="threads")
    add("--mask-mentions", action="store_true", help="write @user in place of each @name")
    add("--prune", action="store_true", help="delete the CSVs in --output-dir whose logs are gone")
    add("--verbose", action="store_true", help="print the counts of each log, and all names")
    add_filter_options(parser)
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        filters = chosen_filters(args)
        results, skipped, stale = parse_logs(
            args.logs_dir, args.output_dir, args.jobs, filters, args.mask_mentions, args.prune
        )
        print_summary(results, skipped, args.verbose)
        unknown = filters.get("exclude_users", frozenset()).difference(*(result.users for result in results.values()))
        print_some("--exclude-users without messages", sorted(unknown), len(unknown), args.verbose)
        print_some(
            "deleted" if args.prune else "CSVs whose logs are gone (tokenize_logs.py reads them, --prune deletes them)",
            [*map(str, stale)],
            len(stale),
            verbose=True,
        )


if __name__ == "__main__":
    main()
