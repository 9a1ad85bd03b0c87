"""Stage 1: Twitch chat logs -> one CSV per log.

Reads   every log below --logs-dir, also gzipped (.gz), in any of these forms, which it tells apart:
            .txt, .log, .tcd         lines of justlog and rustlog (logs.ivr.fi), raw IRC, OverRustle, Chatterino,
                                     Chatty, TwitchDownloader, tcd, chat-downloader
            .json, .jsonl, .ndjson   exports of TwitchDownloader, justlog, rustlog and chat-downloader
            .csv, .tsv               tables with a header that names a column of messages
Writes  <output-dir>/<same folder and name>.csv in UTF-8, with a header and one row per message:
            date,time,channel,username,message
            2024-03-07,21:05:09,channel,user,message
        Timeouts, bans and everything else that nobody typed is counted but not written, and so are the messages that
        the options leave out. The counts are printed on stderr, and add up to the entries of the logs: lines, elements
        of a JSON array, or rows.

    python parse_logs.py
    python parse_logs.py --logs-dir ~/logs --output-dir data/raw --jobs 4
    python parse_logs.py --exclude-bots --exclude-users somebody optouts.txt --drop-moderated --mask-mentions
    python parse_logs.py --only-users agreed.txt
    python parse_logs.py --form bare --columns message=Text,username=Who
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw --verbose
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError, make_parser, one_line, plain_errors, positive_int
from chatter.dialects import DIALECTS, FIELDS
from chatter.files import LOCK, locked, staged_files
from chatter.filters import LogFacts, add_filter_options, chosen_filters, filter_messages, mask_mentions
from chatter.folders import find_logs, name_csvs
from chatter.forms import FORMS, KINDS, Form, find_form
from chatter.moderation import find_moderation
from chatter.reading import map_logs, read_head
from chatter.tables import find_stale, read_names, read_sources, write_sources

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

USER_FILTERS = {"exclude_users": "--exclude-users", "only_users": "--only-users"}  # FILTERS that name users
SUFFIXES = "\U000e0000\u034f"  # invisible; clients append one, and a blank, so that a message can be sent twice
MAX_BYTES = 1 << 16  # of a message: Twitch's limit is 500 characters, so a longer one is damage
SHOWN, MAX_SHOWN = 5, 80  # lines, files or names that the summary lists; characters of a line that it shows


@dataclass
class LogResult:
    """What became of one log."""

    counts: Counter = field(default_factory=lambda: Counter(dict.fromkeys(KINDS, 0)))  # of lines and messages, by kind
    unreadable: list[str] = field(default_factory=list)  # places of the first unreadable lines
    cut: list[str] = field(default_factory=list)  # places of the first messages that were cut
    users: set[str] = field(default_factory=set)  # of those that USER_FILTERS name
    notes: set[str] = field(default_factory=set)  # what the user should know
    unknown: str = ""  # its first line, if it is in no form that is read


def parse_logs(
    logs_dir: Path,
    output_dir: Path,
    jobs: int,
    filters: Mapping[str, Any] | None = None,
    mask: bool = False,
    prune: bool = False,
    choose_form: Callable[[Path], Form] = find_form,
) -> tuple[dict[Path, LogResult], dict[Path, str], list[Path]]:
    """Write one CSV per log in `jobs` threads, or none at all.

    `filters` maps names of FILTERS to the values of their options, and `mask` hides mentions. Return what became of
    each log, why other files were skipped, and the CSVs in `output_dir` whose logs are gone; `prune` deletes those.
    """
    filters = filters or {}
    logs, skipped = find_logs(logs_dir, output_dir)
    output_dir = output_dir.resolve() if output_dir.is_symlink() else output_dir
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file, not a folder. Choose another --output-dir.")
    with locked(output_dir / LOCK, output_dir):
        csv_paths = name_csvs(logs, logs_dir, output_dir)
        forms = {log: choose_form(log) for log in logs}
        rare_users = find_rare_users(forms, filters.get("min_user_messages", 1), jobs)
        with staged_files(output_dir) as staging:
            calls = {log: (forms[log], staging / csv_paths[log], filters, rare_users[log], mask) for log in logs}
            results = map_logs("parsing", parse_file, calls, jobs, num_reads=2 if filters.get("drop_moderated") else 1)
            total = sum((result.counts for result in results.values()), Counter())
            if not total["messages"]:
                begin = "".join(f" {log} begins {first_line(log)}." for log in logs[:1])
                raise InputError(f"no chat messages in {logs_dir}.{begin} Forms that are read: {', '.join(FORMS)}.")
            if not total["messages written"]:
                raise InputError(f"the options leave out all chat messages in {logs_dir}. Pass fewer of them.")
        sources = read_sources(output_dir) | {name.as_posix(): str(log.absolute()) for log, name in csv_paths.items()}
        stale = find_stale(output_dir, sources, skipped)
        if prune:
            for path in stale:
                path.unlink()
        write_sources(output_dir, sources)
    return results, skipped, stale


def first_line(log: Path) -> str:
    """Return how a log begins, in quotes."""
    return repr(read_head(log).decode(errors="replace").strip().split("\n", 1)[0][:MAX_SHOWN].strip())


def find_rare_users(forms: Mapping[Path, Form], fewest: int, jobs: int) -> dict[Path, Collection[str]]:
    """Return, for each log, its users with fewer than `fewest` messages in all logs."""
    if fewest == 1:
        return dict.fromkeys(forms, ())
    users = map_logs("counting users", count_users, {log: (form,) for log, form in forms.items()}, jobs)
    total = sum(users.values(), Counter())
    return {log: [user for user in counts if total[user] < fewest] for log, counts in users.items()}


def count_users(log_path: Path, form: Form, progress: Callable[[int], None]) -> Counter:
    """Count the messages of each user, in lower case, in one log."""
    counts = Counter()
    for batch in form.read(log_path, progress):
        for name, count in batch.messages["username"].value_counts().iter_rows():
            counts[name.lower()] += count
    return counts


def parse_file(
    log_path: Path,
    form: Form,
    csv_path: Path,
    filters: Mapping[str, Any],
    rare_users: Collection[str],
    mask: bool,
    progress: Callable[[int], None],
) -> LogResult:
    """Write one log's messages as CSV."""
    result = LogResult()
    facts = LogFacts(rare_users, find_moderation(log_path, form, progress) if filters.get("drop_moderated") else {})
    csv_path.parent.mkdir(parents=True, exist_ok=True)
    with csv_path.open("wb") as output:
        output.write((",".join(FIELDS) + "\n").encode())
        for batch in form.read(log_path, progress):
            messages, num_suffixes = strip_suffixes(batch.messages)
            messages, cut = cut_long(messages)
            if named := frozenset().union(*(filters.get(name, ()) for name in USER_FILTERS)):
                result.users |= named & {name.lower() for name in messages["username"].unique()}
            messages, left_out = filter_messages(messages, filters, facts)
            if mask:
                messages = mask_mentions(messages)
            messages.select(FIELDS).write_csv(output, include_header=False)
            result.counts.update(batch.counts)
            result.counts.update(left_out)
            result.counts["messages written"] += len(messages)
            result.counts["lines with invalid UTF-8"] += batch.num_invalid
            result.counts["invisible suffixes removed"] += num_suffixes
            result.counts["messages cut"] += len(cut)
            result.unreadable += [f"{log_path}:{number + 1}" for number in [*batch.unreadable][:SHOWN]]
            result.cut += [f"{log_path}:{number + 1}" for number in cut[:SHOWN]]
            result.notes |= batch.notes
    if not form.is_known and result.counts["unreadable lines"]:
        result.unknown = first_line(log_path)
    if filters.get("drop_moderated") and not form.has_moderation:
        result.notes.add("--drop-moderated finds no timeouts and bans, which this form does not have")
    for name, option in USER_FILTERS.items():
        if filters.get(name) and not form.has_logins:
            result.notes.add(f"{option} compares display names, as this form has no logins")
    return result


def strip_suffixes(messages: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Remove the invisible suffix of messages, and the blank before it; count the messages that had one."""
    import polars as pl

    message = pl.col("message")
    suffixed = messages.select(pl.any_horizontal(message.str.ends_with(suffix) for suffix in SUFFIXES)).to_series()
    if suffixed.any():
        stripped = message.str.replace(f" ?[{SUFFIXES}]$", "")
        messages = messages.with_columns(pl.when(suffixed).then(stripped).otherwise(message))
    return messages, suffixed.sum()


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
    unknown = [f"{log} ({result.unknown})" for log, result in results.items() if result.unknown]
    print_some(f"in none of the forms that are read ({', '.join(FORMS)})", unknown, len(unknown), verbose)
    for note in sorted({note for result in results.values() for note in result.notes}):
        noted = [str(log) for log, result in results.items() if note in result.notes]
        print_some(note, noted, len(noted), verbose)


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
    forms = [name for name, dialect in DIALECTS.items() if dialect.on_request]
    add("--form", choices=["auto", *forms], default="auto", help="bare: read lines without a stamp, `user: message`")
    add("--columns", type=read_names, metavar="FIELD=NAME,...", help="names of the columns of tables")
    add("--prune", action="store_true", help="delete the CSVs in --output-dir whose logs are gone")
    add("--verbose", action="store_true", help="print the counts of each log, and all names")
    add_filter_options(parser)
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        filters = chosen_filters(args)
        choose_form = partial(find_form, dialect=args.form, columns=args.columns)
        results, skipped, stale = parse_logs(
            args.logs_dir, args.output_dir, args.jobs, filters, args.mask_mentions, args.prune, choose_form
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
