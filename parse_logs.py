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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.command import InputError, make_parser, plain_errors, positive_int
from chatter.dialects import FIELDS, KINDS, parse_lines
from chatter.files import atomic_output, delete, locked
from chatter.filters import FILTERS, LogFacts, add_filter_options, filter_messages, mask_mentions
from chatter.moderation import find_moderation
from chatter.reading import map_logs, read_chunks, split_lines

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

LOG_NAME = re.compile(r"(?P<stem>.+)\.(?:txt|log)(?:\.gz)?")
SUFFIX = "\U000e0000"  # invisible; clients append it, and a blank, so that the same message can be sent twice
SHOWN_UNREADABLE = 5  # lines named in the summary


def find_logs(logs_dir: Path, output_dir: Path) -> dict[Path, Path]:
    """Map each log below `logs_dir`, sorted by name, to the CSV to write."""
    if not logs_dir.is_dir():
        raise InputError(f"{logs_dir} is not a folder. Put your logs there, or pass their folder with --logs-dir.")
    csv_paths = {}
    for log in sorted(path for path in logs_dir.rglob("*") if path.is_file()):
        name = LOG_NAME.fullmatch(log.name)
        if name is None:
            continue
        csv_path = output_dir / log.relative_to(logs_dir).with_name(f"{name['stem']}.csv")
        if csv_path in csv_paths:
            raise InputError(f"{csv_paths[csv_path]} and {log} would both become {csv_path}. Rename one of them.")
        csv_paths[csv_path] = log
    if not csv_paths:
        raise InputError(f"no .txt or .log file (or .txt.gz, .log.gz) in {logs_dir}. Put your logs there.")
    return {log: csv_path for csv_path, log in csv_paths.items()}


def parse_logs(
    logs_dir: Path, output_dir: Path, jobs: int, filters: Mapping[str, Any] | None = None, mask: bool = False
) -> tuple[dict[Path, Counter], list[str]]:
    """Write one CSV per log in `jobs` threads.

    `filters` maps names of FILTERS to the values of their options; `mask` hides mentions. Return each log's counts, and
    the places of the first unreadable lines.
    """
    filters = filters or {}
    csv_paths = find_logs(logs_dir, output_dir)
    rare_users = dict.fromkeys(csv_paths, ())
    if fewest := filters.get("min_user_messages"):
        users = map_logs("counting users", count_users, dict.fromkeys(csv_paths, ()), jobs)
        total = sum(users.values(), Counter())
        rare_users = {log: [user for user in counts if total[user] < fewest] for log, counts in users.items()}
    with locked(output_dir / ".lock", output_dir):
        calls = {log: (csv_path, filters, rare_users[log], mask) for log, csv_path in csv_paths.items()}
        results = map_logs("parsing", parse_file, calls, jobs, num_reads=2 if filters.get("drop_moderated") else 1)
        counts = {log: log_counts for log, (log_counts, _) in results.items()}
        if not any(log_counts["messages written"] for log_counts in counts.values()):
            for csv_path in csv_paths.values():
                delete(csv_path)
            raise InputError(
                f"the options leave out all chat messages in {logs_dir}. Pass fewer of them."
                if any(log_counts["messages"] for log_counts in counts.values())
                else f"no chat messages in {logs_dir}. Lines must look like [2024-03-7 21:05:09] #channel user: message"
            )
    unreadable = [place for _, places in results.values() for place in places]
    return counts, unreadable[:SHOWN_UNREADABLE]


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
    rare_users: list[str],
    mask: bool,
    progress: Callable[[int], None],
) -> tuple[Counter, list[str]]:
    """Write one log's messages as CSV; return how many lines of each kind it had, and the first unreadable ones."""
    counts, unreadable, num_lines = Counter(dict.fromkeys(KINDS, 0), files=1), [], 0
    facts = LogFacts(rare_users, find_moderation(log_path, progress) if filters.get("drop_moderated") else {})
    with atomic_output(csv_path) as partial, partial.open("wb") as output:
        output.write((",".join(FIELDS) + "\n").encode())
        for chunk in read_chunks(log_path, progress):
            lines, num_invalid = split_lines(chunk)
            messages, kinds, numbers = parse_lines(lines, num_lines)
            messages, num_suffixes = strip_suffixes(messages)
            messages, left_out = filter_messages(messages, filters, facts)
            if mask:
                messages = mask_mentions(messages)
            messages.select(FIELDS).write_csv(output, include_header=False)
            counts.update(kinds)
            counts.update(left_out)
            counts["messages written"] += len(messages)
            counts["lines with invalid UTF-8"] += num_invalid
            counts["invisible suffixes removed"] += num_suffixes
            unreadable += [f"{log_path}:{number + 1}" for number in numbers[:SHOWN_UNREADABLE]]
            num_lines += len(lines)
    return counts, unreadable[:SHOWN_UNREADABLE]


def strip_suffixes(messages: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Remove the invisible suffix of messages, and the blank before it; count the messages that had one."""
    import polars as pl

    message = pl.col("message")
    suffixed = message.str.ends_with(SUFFIX)
    stripped = message.str.strip_suffix(SUFFIX).str.strip_suffix(" ")
    messages = messages.with_columns(pl.when(suffixed).then(stripped).otherwise(message), suffixed=suffixed)
    return messages, messages["suffixed"].sum()


def print_summary(logs: dict[Path, Counter], unreadable: list[str], verbose: bool) -> None:
    """Print on stderr what the lines were: in total and, if `verbose`, one line per log."""
    total = Counter(files=0)
    for log, counts in logs.items():
        total.update(counts)
        if verbose:
            listed = [f"{number:,} {what}" for what, number in counts.items() if number and what != "files"]
            print(f"{log}: {', '.join(listed)}", file=sys.stderr)
    for what, number in total.items():
        print(f"{what:26} {number:>12,}", file=sys.stderr)
    if unreadable:
        more = " ..." if total["unreadable lines"] > len(unreadable) else ""
        print(f"unreadable: {', '.join(unreadable)}{more}", file=sys.stderr)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs")
    add("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs")
    add("--jobs", type=positive_int, default=(os.cpu_count() or 1) + 1, help="threads")
    add("--mask-mentions", action="store_true", help="write @user in place of each @name")
    add("--verbose", action="store_true", help="print the counts of each log too")
    add_filter_options(parser)
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        filters = {name: getattr(args, name) for name in FILTERS if getattr(args, name)}
        logs, unreadable = parse_logs(args.logs_dir, args.output_dir, args.jobs, filters, args.mask_mentions)
        print_summary(logs, unreadable, args.verbose)


if __name__ == "__main__":
    main()
