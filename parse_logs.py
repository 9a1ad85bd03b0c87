"""Stage 1: Twitch chat logs -> one CSV per log.

Reads   every log below --logs-dir, also compressed (.gz, .zst) or in archives (.zip, .tar.gz). The format is detected:
            .txt, .log, .tcd         lines of justlog and rustlog (logs.ivr.fi), raw IRC, OverRustle, Chatterino,
                                     Chatty, TwitchDownloader, tcd, tmi.js, ZNC, irssi, WeeChat, chat-downloader
            .json, .jsonl, .ndjson   exports of TwitchDownloader, justlog, rustlog, chat-downloader, recent-messages,
                                     DiscordChatExporter, yt-dlp and Kick; objects with message, username, ...
            .csv, .tsv               tables with a header that names a column of messages
            .parquet, .arrow         the same columns, or a stream a row in lists
Writes  <output-dir>/<same folder and name>.csv in UTF-8, with a header and one row per message:
            date,time,channel,username,message
            2024-03-07,21:05:09,channel,user,message
        Timeouts, bans and all other entries that nobody typed are counted but not written, and so are messages of
        other channels in a shared chat, and those that the options leave out. The counts are printed on stderr, and
        add up to the entries of the logs: lines, elements of a JSON array, or rows.

    python parse_logs.py
    python parse_logs.py --logs-dir ~/logs --output-dir data/raw --jobs 4
    python parse_logs.py --exclude-bots --exclude-users somebody optouts.txt --drop-moderated --mask-mentions
    python parse_logs.py --only-users agreed.txt
    python parse_logs.py --format bare --columns message=Text,username=Who
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw --verbose
"""

from __future__ import annotations

if __name__ == "__main__":
    import chatter.interrupt  # noqa: F401 (from here on, Ctrl-C prints one line)

import argparse
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from chatter.cli import InputError, make_parser, option_of, plain_errors, positive_int
from chatter.files import LOCK, locked, staged_files
from chatter.logs.batch import FIELDS, SESSION, Reader
from chatter.logs.columns import parse_names
from chatter.logs.copies import find_copies
from chatter.logs.filters import (
    TIMEOUT_LINES,
    LogFacts,
    add_filter_options,
    chosen_filters,
    cut_long,
    filter_messages,
    mask_mentions,
    names_of_users,
    strip_suffixes,
)
from chatter.logs.folders import (
    find_logs,
    find_repeated,
    find_stale,
    name_csvs,
    read_log_of_csv,
    settle_earlier,
    write_log_of_csv,
)
from chatter.logs.formats import ON_REQUEST
from chatter.logs.reading import map_logs
from chatter.logs.summary import SHOWN, LogResult, print_some, print_summary

USER_FILTERS = {name: option_of(name) for name in ("exclude_users", "only_users")}  # FILTERS that name users


def parse_logs(
    logs_dir: Path,
    output_dir: Path,
    jobs: int,
    filters: Mapping[str, Any] | None = None,
    mask: bool = False,
    prune: bool = False,
    format_name: str = "auto",
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
) -> tuple[dict[Path, LogResult], dict[Path, str], list[Path]]:
    """Write one CSV per log, in `jobs` threads. On an error, no CSV is written or changed.

    `filters` maps names of FILTERS to the values of their options, and `mask` hides mentions. `format_name` and
    `columns` are as in `find_reader`. Return what became of each log, why other files were skipped, and the CSVs in
    `output_dir` whose logs are gone; `prune` deletes them, and CSVs that repeat the messages of others. Raises
    InputError if no message is left to write, or if `strict` and a log cannot be read; otherwise such a log is skipped,
    and its CSV of an earlier run stays.
    """
    from chatter.logs.readers import find_missing_columns, find_readers

    filters, columns = filters or {}, columns or {}
    user_option = next((option for name, option in USER_FILTERS.items() if filters.get(name)), "")
    logs, skipped = find_logs(logs_dir, output_dir, strict)
    copies = find_copies(logs)
    skipped = dict(sorted((skipped | {copy: f"the same as {log}" for copy, log in copies.items()}).items()))
    logs = [log for log in logs if log not in copies]
    output_dir = output_dir.resolve() if output_dir.is_symlink() else output_dir
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file, not a folder. Choose another --output-dir.")
    with locked(output_dir / LOCK, output_dir):
        csv_paths = name_csvs(logs, logs_dir, output_dir)
        missing = find_missing_columns(logs, columns)
        readers, unreadable, nameless = find_readers(logs, format_name, columns, user_option)
        rare_users, errors = find_rare_users(readers, filters.get("min_user_messages", 1), jobs)
        unreadable |= errors
        with staged_files(output_dir) as staging:
            calls = {
                log: (readers[log], staging / csv_paths[log], filters, users, mask) for log, users in rare_users.items()
            }
            num_reads = 2 if filters.get("drop_moderated") else 1
            results, errors = map_logs("parsing", parse_file, calls, jobs, num_reads)
            for log in errors:
                (staging / csv_paths[log]).unlink(missing_ok=True)
            unreadable |= errors
            total = sum((result.counts for result in results.values()), Counter())
            if unreadable and (strict or not total["messages"]):
                raise InputError(unreadable[min(unreadable)])
            if not total["messages"]:
                unknown = [result.unknown for result in results.values() if result.unknown][:1]
                raise InputError(" ".join([f"no chat messages in {logs_dir}.", *unknown]))
            if not total["messages written"]:
                raise InputError(f"the options leave out all chat messages in {logs_dir}. Pass fewer of them.")
        for log, reason in sorted(unreadable.items()):
            skipped[log] = reason + settle_earlier(output_dir / csv_paths[log], delete=log in nameless)
        for log, names in missing.items():
            if log in results:
                results[log].notes |= {f"no column {name}, which --columns names" for name in names}
        log_of_csv = read_log_of_csv(output_dir)
        log_of_csv |= {name.as_posix(): str(log.absolute()) for log, name in csv_paths.items()}
        stale = find_stale(output_dir, log_of_csv, skipped)
        repeated = find_repeated(output_dir, log_of_csv, csv_paths, copies)
        if prune:
            stale = sorted([*stale, *repeated])
            for path in stale:
                path.unlink()
        else:
            for path, log in repeated.items():
                results[log].notes.add(f"also in {path}, which tokenize_logs.py reads and --prune deletes")
        write_log_of_csv(output_dir, log_of_csv)
    return results, skipped, stale


def find_rare_users(
    readers: Mapping[Path, Reader], fewest: int, jobs: int
) -> tuple[dict[Path, Collection[str]], dict[Path, str]]:
    """Return the users of each log with fewer than `fewest` messages in all logs, and why other logs are unreadable."""
    if fewest == 1:
        return dict.fromkeys(readers, ()), {}
    calls = {log: (reader,) for log, reader in readers.items()}
    users, unreadable = map_logs("counting users", count_users, calls, jobs)
    total = sum(users.values(), Counter())
    return {log: [user for user in counts if total[user] < fewest] for log, counts in users.items()}, unreadable


def count_users(log_path: Path, reader: Reader, progress: Callable[[int], None]) -> Counter:
    """Count the messages of each user, in lower case, in one log."""
    counts = Counter()
    for batch in reader.read(log_path, progress):
        for name, count in batch.messages["username"].value_counts().iter_rows():
            counts[name.lower()] += count
    return counts


def parse_file(
    log_path: Path,
    reader: Reader,
    csv_path: Path,
    filters: Mapping[str, Any],
    rare_users: Collection[str],
    mask: bool,
    progress: Callable[[int], None],
) -> LogResult:
    """Write one log's messages as CSV."""
    from chatter.logs.moderation import find_moderation
    from chatter.logs.unknown import describe_unknown

    result = LogResult()
    moderation = find_moderation(log_path, reader, TIMEOUT_LINES, progress) if filters.get("drop_moderated") else None
    named_users = frozenset().union(*(filters.get(name, ()) for name in USER_FILTERS))
    csv_path.parent.mkdir(parents=True, exist_ok=True)
    with csv_path.open("wb") as output:
        columns = [*FIELDS, SESSION] if reader.has_sessions else FIELDS
        output.write((",".join(columns) + "\n").encode())
        for batch in reader.read(log_path, progress):
            messages, num_suffixes = strip_suffixes(batch.messages)
            messages, cut = cut_long(messages)
            if named_users:
                result.users |= named_users & names_of_users(messages)
            messages, left_out = filter_messages(messages, filters, LogFacts(rare_users, moderation))
            if mask:
                messages = mask_mentions(messages)
            messages.select(columns).write_csv(output, include_header=False)
            result.counts.update(batch.counts)
            result.counts.update(left_out)
            result.counts["messages written"] += len(messages)
            result.counts["lines with invalid UTF-8"] += batch.num_invalid
            result.counts["invisible suffixes removed"] += num_suffixes
            result.counts["messages cut"] += len(cut)
            result.unreadable += [f"{log_path}:{number + 1}" for number in [*batch.unreadable][:SHOWN]]
            result.cut += [f"{log_path}:{number + 1}" for number in cut[:SHOWN]]
            result.notes |= batch.notes
    if not reader.is_known and result.counts["unreadable lines"]:
        result.unknown = describe_unknown(log_path)
    if filters.get("drop_moderated") and not reader.has_moderation:
        result.notes.add("--drop-moderated has no effect, as this format has no timeouts and bans")
    for name, option in USER_FILTERS.items():
        if filters.get(name) and not reader.has_logins:
            result.notes.add(f"{option} compares display names, as this format has no logins")
    return result


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs")
    add("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs")
    add("--jobs", type=positive_int, default=(os.cpu_count() or 1) + 1, help="threads")
    add("--mask-mentions", action="store_true", help="write @user in place of each @name")
    add("--format", choices=["auto", *ON_REQUEST], default="auto", help="bare: lines without a time, `user: message`")
    add("--columns", type=parse_names, metavar="FIELD=NAME,...", help="names of columns, as in message=Text")
    add("--strict", action="store_true", help="stop without writing a CSV if a log cannot be read")
    add("--prune", action="store_true", help="delete the CSVs in --output-dir whose logs are gone or are copies")
    add("--verbose", action="store_true", help="print the counts of each log, and all names")
    add_filter_options(parser)
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        filters = chosen_filters(args)
        results, skipped, stale = parse_logs(
            args.logs_dir,
            args.output_dir,
            args.jobs,
            filters,
            mask=args.mask_mentions,
            prune=args.prune,
            format_name=args.format,
            columns=args.columns,
            strict=args.strict,
        )
        print_summary(results, skipped, args.verbose)
        for name, option in USER_FILTERS.items():
            unknown = filters.get(name, frozenset()).difference(*(result.users for result in results.values()))
            print_some(f"{option} without messages", sorted(unknown), len(unknown), args.verbose)
        print_some(
            "deleted" if args.prune else "CSVs whose logs are gone (tokenize_logs.py reads them, --prune deletes them)",
            [*map(str, stale)],
            len(stale),
            verbose=True,
        )


if __name__ == "__main__":
    main()
