"""Stage 1: Twitch chat logs -> CSV, one file a log.

Reads   every .txt and .log file below --logs-dir, also with .gz behind, in any of these dialects, told apart by line:
            [2024-03-7 21:05:09] #channel user: message                             justlog, as logs.ivr.fi was
            [2024-03-07 21:05:09] #channel user: message                            rustlog, as logs.ivr.fi is
            @tmi-sent-ts=1709845509000;... :user!... PRIVMSG #channel :message      raw IRC
Writes  <output-dir>/<same folder and name>.csv in UTF-8, a header and a row a message:
            date,time,channel,username,message
            2024-03-07,21:05:09,channel,user,message
        Timeouts, bans and everything else that nobody typed is counted, not written. The counts go to stderr, and add
        up to the lines of the logs.

    python parse_logs.py
    python parse_logs.py --logs-dir ~/logs --output-dir data/raw --jobs 4
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw --verbose
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import re
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import polars as pl

FIELDS = ["date", "time", "channel", "username", "message"]
LOG_NAME = re.compile(r"(?P<stem>.+)\.(?:txt|log)(?:\.gz)?")
SHOWN_UNREADABLE = 5  # lines named in the summary

# What opens a line of text; names hold no blank and no colon, so "user: @x has been banned" is somebody talking.
STAMP = (
    r"\[(?P<date>[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0?[1-9]|[12][0-9]|3[01])) "
    r"(?P<time>(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])\] #(?P<channel>\S+) "
)
NAME = r"[^\s:]+"
# rustlog writes events as if the user had said them, in words that begin with the user's own name. A display name that
# is not in Latin letters differs from the login in front.
OWN_NAME = r"(?iu:(?P=username))"
NOTICE_WORDS = (
    "(?:subscribed (?:at|with) |gifted a |is gifting [0-9]|converted from |is continuing the |is paying forward |"
    "watched [0-9])"
)
OWN_EVENT = (
    rf"{OWN_NAME} has been (?:timed out for \d|banned\Z)|\d+ raiders from {OWN_NAME} have joined!|"
    rf"(?:{OWN_NAME}|\S*[^\0-\x7f]\S*) {NOTICE_WORDS}"
)
TAGS = r"@(?P<tags>\S*) +"
TAGS_WITH_LOGIN = r"@(?P<tags>\S*(?<![^;@])login=(?P<username>[^;\s]+)\S*) +"
COMMANDS = "CAP|GLOBALUSERSTATE|JOIN|NOTICE|PART|PING|PONG|PRIVMSG|RECONNECT|ROOMSTATE|USERNOTICE|USERSTATE|WHISPER"

# Each dialect: kinds of lines and their patterns, the first that fits a whole line. A message has the groups of FIELDS,
# or `tags` in place of date and time. A new dialect is a new entry here and a file in tests/golden.
DIALECTS = {
    "text": [
        ("messages", rf"{STAMP}(?!ananonymousgifter:)(?P<username>{NAME}):(?: (?!{OWN_EVENT})(?P<message>.*))?"),
        ("timeouts", rf"{STAMP}(?:{NAME}: )?{NAME} has been timed out for \d.*"),
        ("bans", rf"{STAMP}(?:(?:{NAME}: )?{NAME} has been banned)?"),  # newer versions of justlog write nothing
        ("clears", rf"{STAMP}(?: has been banned|Chat has been cleared)"),
        ("notices", rf"{STAMP}.+"),  # subscriptions, gifts, raids
    ],
    "raw IRC": [
        ("messages", rf"{TAGS}:(?P<username>[^\s!]+)\S* PRIVMSG #(?P<channel>\S+) :?\x01ACTION (?P<message>.*?)\x01?"),
        ("messages", rf"{TAGS}:(?P<username>[^\s!]+)\S* PRIVMSG #(?P<channel>\S+) :?(?P<message>.*)"),
        ("messages", rf"{TAGS_WITH_LOGIN}:\S+ USERNOTICE #(?P<channel>\S+) :?(?P<message>.+)"),  # typed with a sub
        ("notices", rf"{TAGS}:\S+ USERNOTICE .*"),
        ("timeouts", r"@\S*(?<![^;@])ban-duration=\d\S* +:\S+ CLEARCHAT #\S+ :?\S+"),
        ("bans", r"(?:@\S* +)?:\S+ CLEARCHAT #\S+ :?\S+"),
        ("clears", r"(?:@\S* +)?:\S+ CLEARCHAT #\S+ ?"),
        ("deletions", r"(?:@\S* +)?:\S+ CLEARMSG .*"),
        ("other IRC commands", rf"(?:(?:@\S* +)?:\S+ (?:[A-Z]+|\d{{3}})|(?:@\S* +)?(?:{COMMANDS}))(?: .*)?"),
    ],
}
PATTERNS = [
    (kind, re.compile(pattern, re.ASCII | re.DOTALL)) for patterns in DIALECTS.values() for kind, pattern in patterns
]
KINDS = [*dict.fromkeys(kind for kind, _ in PATTERNS), "blank lines", "unreadable lines"]
# Most lines are messages as plain as this. polars takes those apart by the column, and leaves to PATTERNS what may be
# anything else. (STAMP with its alternatives would halve the speed here; it is looked for apart.)
PLAIN = rf"^\[(?P<date>[0-9-]+) (?P<time>[0-9:]+)\] #(?P<channel>\S+) (?P<username>{NAME}): (?P<message>.*)$"
PERHAPS_EVENT = f"ananonymousgifter|has been (?:timed|banned)|have joined!|{NOTICE_WORDS}"
CHUNK_BYTES = 4 << 20  # of a log at a time: bounds memory
SENT = re.compile(r"(?:^|;)(?:tmi-sent-ts|(rm-received-ts))=(\d{1,13})(?=;|$)", re.ASCII)


class InputError(Exception):
    """A fault the user can mend: the text says what is wrong and the way out."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End the script with one line on stderr and exit code 1 on InputError and on what the disk refuses (OSError)."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # the hub's library warns of each try before it gives up
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # progress bars, the libraries' own too, are for terminals
    try:
        yield
    except (InputError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: interrupted")


def positive_int(text: str) -> int:
    """Read a command-line number that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_replaceable(folder: Path, marker: str) -> None:
    """Refuse a folder that would be replaced as a whole and holds something else than what `marker` is a file of."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).exists():
        raise InputError(f"{folder} holds other things, which would be lost; name another --output-dir")


@contextlib.contextmanager
def written_beside(final: Path) -> Iterator[Path]:
    """Give a path beside `final` to write a file or folder to, and rename it to `final` once that has succeeded.

    A reader sees the old content or the new, never half of it. On an error `final` stays as it was.
    """
    final = final.absolute()  # "." has no name
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.partial")
    remove(partial)  # what a killed run left
    try:
        yield partial
        if final.is_dir():  # a folder cannot be renamed over a filled one
            remove(final)
        partial.replace(final)
    finally:
        remove(partial)


def time_of(tags: str) -> list[str] | None:
    """Read date and time (UTC) off IRC tags: when Twitch sent the line, else when the logger received it.

    >>> time_of("id=1;tmi-sent-ts=1709845509000")
    ['2024-03-07', '21:05:09']
    """
    stamps = sorted(SENT.findall(tags))  # ("", sent) sorts before ("rm-received-ts", received)
    if not stamps:
        return None
    return f"{datetime.fromtimestamp(int(stamps[0][1]) / 1000, UTC):%Y-%m-%d %H:%M:%S}".split()


def parse_line(line: str) -> tuple[str, list[str] | None]:
    """Say what kind of line this is, and give its CSV row if it is a message.

    >>> parse_line("[2024-03-7 21:05:09] #channel user: hi: you")
    ('messages', ['2024-03-07', '21:05:09', 'channel', 'user', 'hi: you'])
    >>> parse_line("[2024-03-7 21:05:11] #channel user has been banned")
    ('bans', None)
    """
    for kind, pattern in PATTERNS:  # noqa: B007 (kind is used below)
        found = pattern.fullmatch(line)
        if found:
            break
    else:
        return ("unreadable lines" if line.strip() else "blank lines"), None
    if kind != "messages":
        return kind, None
    if "date" in pattern.groupindex:
        date, time, channel, username, message = found.group(*FIELDS)
        if len(date) == 9:
            date = f"{date[:8]}0{date[8]}"
    else:
        tags, channel, username, message = found.group("tags", *FIELDS[2:])
        stamp = time_of(tags)
        if stamp is None:
            return "unreadable lines", None
        date, time = stamp
    return kind, [date, time, channel, username, message or ""]


def read_chunks(log_path: Path) -> Iterator[bytes]:
    """Give a log in pieces of whole lines, some megabytes each."""
    opened = gzip.open if log_path.suffix == ".gz" else open
    try:
        with opened(log_path, "rb") as log:
            while chunk := log.read(CHUNK_BYTES):
                yield chunk + log.readline()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{log_path} is damaged ({error}); unpack what can be saved of it, or take it away") from error


def split_lines(chunk: bytes) -> tuple[pl.Series, int]:
    """Split at the line ends of loggers, \\n and \\r\\n, and nowhere else; count the lines that are not UTF-8."""
    import polars as pl

    text, invalid = chunk.removesuffix(b"\n"), 0
    try:
        text = pl.Series("line", [text]).cast(pl.String)
    except pl.exceptions.ComputeError:  # not UTF-8
        invalid = sum(line.decode(errors="ignore").encode() != line for line in text.split(b"\n"))
        text = pl.Series("line", [text.decode(errors="replace")])
    lines = text.str.split("\n").explode()
    return (lines.str.strip_suffix("\r") if b"\r" in chunk else lines), invalid


def parse_lines(lines: pl.Series) -> tuple[pl.DataFrame, Counter, list[int]]:
    """Take lines apart: the messages (columns FIELDS), the number of lines of each kind, and which were unreadable.

    The same as `parse_line` on each line.
    """
    import polars as pl

    line, date = pl.col("line"), pl.col("date")
    table = lines.to_frame().with_row_index("number")
    plain = line.str.contains(f"^{STAMP}") & ~line.str.contains(PERHAPS_EVENT)
    table = table.with_columns(line.str.extract_groups(PLAIN).struct.unnest(), plain=plain)
    plain = pl.col("plain") & pl.col("message").is_not_null()
    messages = table.filter(plain).select(
        "number",
        pl.when(date.str.len_bytes() == 10)
        .then(date)
        .otherwise(date.str.head(8) + "0" + date.str.slice(8))
        .alias("date"),
        *FIELDS[1:],
    )
    counts, rows, unreadable = Counter(messages=len(messages)), [], []
    for number, text in table.filter(~plain).select("number", "line").iter_rows():
        kind, row = parse_line(text)
        counts[kind] += 1
        if row:
            rows.append([number, *row])
        if kind == "unreadable lines":
            unreadable.append(number)
    if rows:
        others = pl.DataFrame(rows, messages.schema, orient="row")
        messages = pl.concat([messages, others]).sort("number")
    return messages.drop("number"), counts, unreadable


def parse_file(log_path: Path, csv_path: Path) -> tuple[Counter, list[str]]:
    """Write one log's messages as CSV; return how many lines of each kind it had, and the first unreadable ones."""
    import polars as pl

    counts, unreadable, num_lines = Counter(files=1), [], 0
    message = pl.col("message")
    with written_beside(csv_path) as partial, partial.open("wb") as output:
        output.write((",".join(FIELDS) + "\n").encode())
        for chunk in read_chunks(log_path):
            if num_lines == 0:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
            lines, invalid = split_lines(chunk)
            messages, kinds, numbers = parse_lines(lines)
            # Clients append a blank and an invisible U+E0000 to say the same thing twice.
            suffixed = message.str.ends_with("\U000e0000")
            counts["invisible suffixes removed"] += messages.select(suffixed.sum()).item()
            stripped = message.str.strip_suffix("\U000e0000").str.strip_suffix(" ")
            messages.with_columns(pl.when(suffixed).then(stripped).otherwise(message)).write_csv(
                output, include_header=False
            )
            counts += kinds
            counts["lines with invalid UTF-8"] += invalid
            unreadable += [f"{log_path}:{num_lines + number + 1}" for number in numbers[:SHOWN_UNREADABLE]]
            num_lines += len(lines)
    return +counts, unreadable[:SHOWN_UNREADABLE]


def find_logs(logs_dir: Path, output_dir: Path) -> dict[Path, Path]:
    """Map each log below `logs_dir`, in order of name, to the CSV to write."""
    if not logs_dir.is_dir():
        raise InputError(f"{logs_dir} is no folder; put your logs there, or name their folder with --logs-dir")
    csv_paths = {}
    for log in sorted(path for path in logs_dir.rglob("*") if path.is_file()):
        name = LOG_NAME.fullmatch(log.name)
        if name is None:
            continue
        csv_path = output_dir / log.relative_to(logs_dir).with_name(f"{name['stem']}.csv")
        if csv_path in csv_paths:
            raise InputError(f"{csv_paths[csv_path]} and {log} would both become {csv_path}; rename one")
        csv_paths[csv_path] = log
    if not csv_paths:
        raise InputError(f"no .txt or .log file (or .txt.gz, .log.gz) in {logs_dir}; put your logs there")
    return {log: csv_path for csv_path, log in csv_paths.items()}


def parse_logs(logs_dir: Path, output_dir: Path, jobs: int) -> tuple[dict[Path, Counter], list[str]]:
    """Write a CSV for each log with `jobs` processes; return each log's counts, and the first unreadable lines."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from tqdm import tqdm

    csv_paths = find_logs(logs_dir, output_dir)
    os.environ["POLARS_MAX_THREADS"] = str(max(jobs // len(csv_paths), 1))  # for the new processes
    spawn = multiprocessing.get_context("spawn")  # polars has threads, which a fork would not take along
    size = sum(log.stat().st_size for log in csv_paths)
    with (
        ProcessPoolExecutor(jobs, spawn) as pool,
        tqdm(desc="parsing", total=size, unit="B", unit_scale=True, disable=None) as progress,
    ):
        parsed = {pool.submit(parse_file, log, csv_path): log for log, csv_path in csv_paths.items()}
        for done in as_completed(parsed):
            done.result()
            progress.update(parsed[done].stat().st_size)
    results = {log: done.result() for done, log in parsed.items()}
    if not any(counts["messages"] for counts, _ in results.values()):
        for csv_path in csv_paths.values():
            remove(csv_path)
        raise InputError(
            f"no chat message in {logs_dir}; a line should read [2024-03-7 21:05:09] #channel user: message"
        )
    unreadable = [place for _, places in results.values() for place in places]
    return {log: counts for log, (counts, _) in results.items()}, unreadable[:SHOWN_UNREADABLE]


def print_summary(logs: dict[Path, Counter], unreadable: list[str], verbose: bool) -> None:
    """Print on stderr what the lines were: in total and, if `verbose`, a row a log."""
    total = sum(logs.values(), Counter())
    if verbose:
        for log, counts in logs.items():
            print(f"{log}: {', '.join(f'{counts[kind]:,} {kind}' for kind in KINDS if counts[kind])}", file=sys.stderr)
    for kind in ["files", *KINDS, "lines with invalid UTF-8", "invisible suffixes removed"]:
        print(f"{kind:26} {total[kind]:>12,}", file=sys.stderr)
    if unreadable:
        more = " ..." if total["unreadable lines"] > len(unreadable) else ""
        print(f"unreadable: {', '.join(unreadable)}{more}", file=sys.stderr)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs (data/logs)")
    parser.add_argument("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs (data/raw)")
    parser.add_argument("--jobs", type=positive_int, default=os.cpu_count(), help="processes (all cores)")
    parser.add_argument("--verbose", action="store_true", help="a line of counts for each log")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_line_errors():
        logs, unreadable = parse_logs(args.logs_dir, args.output_dir, args.jobs)
        print_summary(logs, unreadable, args.verbose)


if __name__ == "__main__":
    main()
