"""Stage 1: Twitch chat logs -> one CSV per log.

Reads   every log below --logs-dir, also compressed (.gz, .zst) or in archives (.zip, .tar.gz). The format is detected:
            .txt, .log, .tcd,        lines of justlog and rustlog (logs.ivr.fi), raw IRC, OverRustle, Chatterino,
            .weechatlog              Chatty, TwitchDownloader, tcd, tmi.js, ZNC, irssi, WeeChat, bots' consoles and
                                     chat-downloader
            .json, .jsonl, .ndjson   exports of TwitchDownloader, justlog, rustlog, chat-downloader, recent-messages,
                                     DiscordChatExporter, yt-dlp and Kick; objects with message, username, ...
            .csv, .tsv               tables with a header that names a column of messages
            .parquet, .arrow,        the same columns, or a stream a row in lists
            .feather
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
    python parse_logs.py --format bare
    python parse_logs.py --columns message=Text,username=Who
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw --verbose
"""

from __future__ import annotations

if __name__ == "__main__":
    import chatter.interrupt  # noqa: F401 (from here on, Ctrl-C prints one line)

import argparse
import contextlib
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError, make_parser, plain_errors, positive_int
from chatter.files import LOCK, append, locked, staged_files
from chatter.logs.archives import largest_first, log_size
from chatter.logs.batch import FIELDS, SESSION, Part, Reader
from chatter.logs.columns import parse_names
from chatter.logs.copies import find_copies
from chatter.logs.earlier import keep_or_delete_csvs, update_earlier_csvs
from chatter.logs.filters import (
    USER_FILTERS,
    add_filter_options,
    chosen_filters,
    cut_long,
    filter_messages,
    limits_of_filters,
    mask_mentions,
    names_of_users,
    strip_suffixes,
)
from chatter.logs.folders import find_logs, name_csvs
from chatter.logs.formats import ON_REQUEST
from chatter.logs.reading import PART_BYTES, UnreadableLog
from chatter.logs.summary import LogResult, print_some, print_summary
from chatter.workers import Workers, open_workers, prepare_workers, report, usable_cores

if TYPE_CHECKING:
    from chatter.logs.whole_logs import Authors

PRELOADED = ("chatter.logs.readers",)


@dataclass(frozen=True)
class Options:
    """How to read logs and which messages to write: arguments of `parse_logs` and `open_reader`."""

    filters: Mapping[str, Any]
    mask: bool = False
    format_name: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    user_option: str = ""

    def open_reader(self, log: Path) -> Reader:
        from chatter.logs.readers import open_reader

        return open_reader(log, self.format_name, self.columns, self.user_option)


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
    """Write one CSV per log, with `jobs` workers. On an error, no CSV is written or changed.

    `filters` maps names of FILTERS to the values of their options, and `mask` hides mentions. `format_name` and
    `columns` are as in `find_reader`. Return what became of each log, why other files were skipped, and the CSVs in
    `output_dir` whose logs are gone; `prune` deletes them, and CSVs that repeat the messages of others. Raises
    InputError if no message is left to write, or if `strict` and a log cannot be read; otherwise such a log is skipped,
    and its CSV of an earlier run stays.
    """
    filters, columns = filters or {}, columns or {}
    user_option = next((option for name, option in USER_FILTERS.items() if filters.get(name)), "")
    options = Options(filters, mask, format_name, columns, user_option)
    logs, skipped = find_logs(logs_dir, output_dir, strict)
    copies = find_copies(logs)
    skipped = dict(sorted((skipped | {copy: f"the same as {log}" for copy, log in copies.items()}).items()))
    logs = [log for log in logs if log not in copies]
    num_bytes = sum(map(log_size, logs))
    prepare_workers(jobs, num_bytes, PRELOADED)
    output_dir = output_dir.resolve() if output_dir.is_symlink() else output_dir
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file, not a folder. Choose another --output-dir.")
    with locked(output_dir / LOCK, output_dir):
        from chatter.logs.readers import NamelessLog, find_missing_columns

        csv_paths = name_csvs(logs, logs_dir, output_dir)
        missing = find_missing_columns(logs, columns)
        with staged_files(output_dir) as staging:
            outputs = {log: staging / csv_paths[log] for log in logs}
            with (
                tempfile.TemporaryDirectory(dir=staging) as scratch,
                open_workers(jobs, num_bytes, PRELOADED) as workers,  # they end before the scratch folder is deleted
            ):
                results, errors = parse_all(outputs, options, workers, Path(scratch))
            total = sum((result.counts for result in results.values()), Counter())
            if errors and (strict or not total["messages"]):
                raise errors[min(errors)]
            if not total["messages"]:
                unknown = [result.unknown for result in results.values() if result.unknown][:1]
                raise InputError(" ".join([f"no chat messages in {logs_dir}.", *unknown]))
            if not total["messages written"]:
                absent = filters.get("only_users", frozenset()).difference(*(each.users for each in results.values()))
                hint = f" None of them is from {', '.join(sorted(absent)[:5])}." if absent else ""
                raise InputError(f"the options leave out all chat messages in {logs_dir}.{hint} Pass fewer of them.")
        # CSVs of nameless logs may contain messages of users who are to be left out now.
        deleted = {log: isinstance(error, NamelessLog) for log, error in errors.items()}
        kept = keep_or_delete_csvs(output_dir, csv_paths, deleted)
        skipped |= {log: f"{error}{kept[log]}" for log, error in sorted(errors.items())}
        for log, names in missing.items():
            if log in results:
                results[log].notes |= {f"no column {name}, which --columns names" for name in names}
        stale, repeated = update_earlier_csvs(output_dir, csv_paths, results, skipped, copies, filters, prune)
        for path, log in repeated.items():
            results[log].notes.add(f"also in {path}, which tokenize_logs.py reads and --prune deletes")
    return results, skipped, stale


def parse_all(
    outputs: Mapping[Path, Path], options: Options, workers: Workers, scratch: Path
) -> tuple[dict[Path, LogResult], dict[Path, UnreadableLog]]:
    """Parse logs to the CSVs in `outputs`. Return what became of each log, and the errors of those that are unreadable.

    Logs are divided into parts, as far as their formats allow it. `scratch` is a folder for files of parts.
    """
    from chatter.logs.unknown import describe_unknown

    sizes = largest_first(outputs)  # so that no worker starts a large log last
    parts = [part for log, size in sizes.items() for part in divide_log(log, size, options)]
    calls = [(part, outputs[part.log], scratch / str(number), options) for number, part in enumerate(parts)]
    parsed = workers.map("parsing", parse_part, calls, workers.num_bytes, yielded=(UnreadableLog,))
    results, errors, authors = {log: LogResult() for log in outputs}, {}, defaultdict(list)
    for part, found in zip(parts, parsed, strict=True):
        if isinstance(found, UnreadableLog):
            errors[part.log] = found
            continue
        rows, result, part_authors = found
        results[part.log].add(result)
        if part_authors:
            authors[part.log].append(part_authors)
        else:
            append(rows, outputs[part.log])
    for log in errors:
        outputs[log].unlink(missing_ok=True)
        authors.pop(log, None)
        del results[log]
    if authors:
        from chatter.logs.whole_logs import drop_all_rows

        for log, rows, counts in drop_all_rows(authors, options.filters, options.open_reader, workers):
            results[log].counts.update(counts)
            append(rows, outputs[log])
    for log, result in results.items():
        if not result.is_known and result.counts["unreadable lines"]:
            result.unknown = describe_unknown(log)
    return results, errors


def divide_log(log: Path, size: int, options: Options) -> list[Part]:
    """Return the parts of a log. Errors with it are left to `parse_part`."""
    if size > PART_BYTES:
        with contextlib.suppress(UnreadableLog):
            return options.open_reader(log).divide(log)
    return [Part(log)]


def parse_part(part: Part, csv_path: Path, scratch: Path, options: Options) -> tuple[Path, LogResult, Authors | None]:
    """Write the messages of a part as rows, to its log's CSV if it is the first part, and otherwise to `scratch`.

    Return that path, what became of the part, and the authors of the rows if a filter needs facts about whole logs.
    """
    filters, result, has_unknown = options.filters, LogResult(), False
    reader = options.open_reader(part.log)
    path = scratch if part.begin else csv_path
    is_small = part == Part(part.log) and log_size(part.log) <= PART_BYTES and not filters.get("min_user_messages")
    authors = None
    if filters.get("min_user_messages") or (filters.get("drop_moderated") and reader.has_moderation):
        from chatter.logs.whole_logs import Authors, drop_own_rows  # which import NumPy

        authors = Authors(path, not part.begin, None if is_small else scratch, filters, reader)
    named_users = frozenset().union(*(filters.get(name, ()) for name in USER_FILTERS))
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [*FIELDS, SESSION] if reader.has_sessions else FIELDS
    with path.open("wb") as rows:
        if not part.begin:
            rows.write((",".join(columns) + "\n").encode())
        for batch in reader.read_part(part, report):
            messages, num_suffixes = strip_suffixes(batch.messages)
            messages, cut = cut_long(messages)
            if named_users:
                result.users |= named_users & names_of_users(messages)
            messages, left_out = filter_messages(messages, filters)
            if authors:
                authors.add(batch, messages)
            if options.mask:
                messages = mask_mentions(messages)
            messages.select(columns).write_csv(rows, include_header=False)
            result.add_batch(batch, cut, num_suffixes)
            result.counts.update(left_out)
            result.counts["messages written"] += len(messages)
            has_unknown |= batch.counts["deletions"] > sum(kind == "deletions" for _, kind, *_ in batch.events)
    result.is_known = reader.is_known
    result.notes |= limits_of_filters(filters, reader, has_unknown)
    if authors and is_small:
        result.counts.update(drop_own_rows(part.log, authors, options.open_reader, filters))
    return path, result, None if is_small else authors


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs")
    add("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs")
    add("--jobs", type=positive_int, default=usable_cores(), help="processes, with some 100 MB of memory each")
    add("--mask-mentions", action="store_true", help="write @user in place of each @name")
    bare_help = "bare also reads files in no other format, as `user: message`"
    add("--format", choices=["auto", *ON_REQUEST], default="auto", help=bare_help)
    add("--columns", type=parse_names, metavar="FIELD=NAME,...", help="names of columns, as in message=Text")
    add("--strict", action="store_true", help="stop without writing a CSV if a log cannot be read")
    add("--prune", action="store_true", help="delete the CSVs in --output-dir whose logs are gone or are copies")
    add("--verbose", action="store_true", help="print the counts of each log, and all names")
    add_filter_options(parser)
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        os.environ["POLARS_MAX_THREADS"] = str(min(args.jobs, usable_cores()))  # read on import
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
            print_some(f"{option} without messages", sorted(unknown), args.verbose)
        gone = "CSVs whose logs are gone (tokenize_logs.py reads them, --prune deletes them)"
        print_some("deleted" if args.prune else gone, [*map(str, stale)], verbose=True)


if __name__ == "__main__":
    main()
