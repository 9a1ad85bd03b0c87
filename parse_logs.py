"""Stage 1: Twitch chat logs -> CSV, one file a log.

Reads   every .txt and .log file below --logs-dir, also with .gz behind, in any of these dialects, told apart by line:
            [2024-03-7 21:05:09] #channel user: message                             justlog, as logs.ivr.fi was
            [2024-03-07 21:05:09] #channel user: message                            rustlog, as logs.ivr.fi is
            @tmi-sent-ts=1709845509000;... :user!... PRIVMSG #channel :message      raw IRC
Writes  <output-dir>/<same folder and name>.csv in UTF-8, a header and a row a message:
            date,time,channel,username,message
            2024-03-07,21:05:09,channel,user,message
        Timeouts, bans and everything else that nobody typed is counted, not written; so are the messages that the
        options leave out. The counts go to stderr, and add up to the lines of the logs.

    python parse_logs.py
    python parse_logs.py --logs-dir ~/logs --output-dir data/raw --jobs 4
    python parse_logs.py --exclude-bots --exclude-users somebody optouts.txt --drop-moderated --mask-mentions
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw --verbose
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import gzip
import os
import re
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
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
CLEARED = r":\S+ CLEARCHAT #(?P<channel>\S+)"
TAGS_WITH_LOGIN = r"@(?P<tags>\S*(?<![^;@])login=(?P<username>[^;\s]+)\S*) +"
COMMANDS = "CAP|GLOBALUSERSTATE|JOIN|NOTICE|PART|PING|PONG|PRIVMSG|RECONNECT|ROOMSTATE|USERNOTICE|USERSTATE|WHISPER"

# Each dialect: kinds of lines and their patterns, the first that fits a whole line. A message has the groups of FIELDS,
# or `tags` in place of date and time. A new dialect is a new entry here and a file in tests/golden.
DIALECTS = {
    "text": [
        ("messages", rf"{STAMP}(?!ananonymousgifter:)(?P<username>{NAME}):(?: (?!{OWN_EVENT})(?P<message>.*))?"),
        ("timeouts", rf"{STAMP}(?P<username>{NAME})(?:: {NAME})? has been timed out for \d.*"),
        ("bans", rf"{STAMP}(?P<username>{NAME})(?:: {NAME})? has been banned"),
        ("bans", rf"{STAMP}"),  # newer versions of justlog write no more than this
        ("clears", rf"{STAMP}(?: has been banned|Chat has been cleared)"),
        ("notices", rf"{STAMP}.+"),  # subscriptions, gifts, raids
    ],
    "raw IRC": [
        ("messages", rf"{TAGS}:(?P<username>[^\s!]+)\S* PRIVMSG #(?P<channel>\S+) :?\x01ACTION (?P<message>.*?)\x01?"),
        ("messages", rf"{TAGS}:(?P<username>[^\s!]+)\S* PRIVMSG #(?P<channel>\S+) :?(?P<message>.*)"),
        ("messages", rf"{TAGS_WITH_LOGIN}:\S+ USERNOTICE #(?P<channel>\S+) :?(?P<message>.+)"),  # typed with a sub
        ("notices", rf"{TAGS}:\S+ USERNOTICE .*"),
        ("timeouts", rf"@(?P<tags>\S*(?<![^;@])ban-duration=\d\S*) +{CLEARED} :?(?P<username>\S+)"),
        ("bans", rf"(?:@(?P<tags>\S*) +)?{CLEARED} :?(?P<username>\S+)"),
        ("clears", rf"(?:@\S* +)?{CLEARED} ?"),
        ("deletions", r"(?:@\S* +)?:\S+ CLEARMSG .*"),
        ("other IRC commands", rf"(?:(?:@\S* +)?:\S+ (?:[A-Z]+|\d{{3}})|(?:@\S* +)?(?:{COMMANDS}))(?: .*)?"),
    ],
}
PATTERNS = [
    (kind, re.compile(pattern, re.ASCII | re.DOTALL)) for patterns in DIALECTS.values() for kind, pattern in patterns
]
KINDS = [*dict.fromkeys(kind for kind, _ in PATTERNS), "blank lines", "unreadable lines"]
# Most lines are messages that look like this, and hold nothing that smells of an event. polars takes those apart by the
# column, and leaves the others to PATTERNS.
PLAIN = {
    "text": rf"^{STAMP}{NAME}: ",
    "raw IRC": r"^@(?:[^;\s]+;)*tmi-sent-ts=[0-9]{13}(?:;[^;\s]+)* :[^\s!]+\S* PRIVMSG #\S+ :[^\x01]",
}
MODERATED = "has been (?:timed|banned)"
PERHAPS_EVENT = f"ananonymousgifter|{MODERATED}|have joined!|{NOTICE_WORDS}"
MODERATION = f"{MODERATED}|CLEARCHAT"
TIMEOUT_LINES = 100  # of a channel: how far before a timeout its reason is sought
CHUNK_BYTES = 3 << 20  # of a log at a time: bounds memory; 4 MB take a fifth more, and no less time
SENT, RECEIVED = r"(?:^@?|;)tmi-sent-ts=([0-9]{1,13})(?:;|$)", r"(?:^|;)rm-received-ts=([0-9]{1,13})(?:;|$)"

BOTS = frozenset(
    "ankhbot botisimo buttsbot coebot commanderroot deepbot fossabot kofistreambot lolrankbot moobot nightbot ohbot "
    "own3d phantombot playwithviewersbot pokemoncommunitygame pretzelrocks restreambot songlistbot soundalerts "
    "stay_hydrated_bot streamelements streamlabs streamlootsbot supibot titlechange_bot vivbot wizebot".split()
)
COMMAND = r"^!\w"
LINK = r"(?i)\b(?:https?://|www\.)\S|\b[\w-]+\.(?:com|gg|net|org|tv)\b|\b[\w-]+\.[a-z]{2,}/\S"
MENTION = r"\B@\w+"


@dataclass(frozen=True)
class Filters:
    """Which messages to leave out, and what to hide in the others; nothing by default."""

    exclude_users: frozenset[str] = frozenset()  # in lower case
    min_user_messages: int = 1
    drop_moderated: bool = False
    drop_commands: bool = False
    drop_links: bool = False
    mask_mentions: bool = False


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
    except BrokenPipeError:  # as of `generate.py -n 99 | head -1`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (InputError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(sys.argv[0]).name}: interrupted")


def parser_of(docstring: str) -> argparse.ArgumentParser:
    """Make a parser whose help begins as a script's docstring does, and ends with its last paragraph, the commands."""
    description, commands = docstring.rsplit("\n\n", 1)
    raw = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, epilog=commands, formatter_class=raw)


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


def is_running(pid: int) -> bool:
    """Say whether a process of this number is there, whoever's it is."""
    try:
        os.kill(pid, 0)  # checks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def written_beside(final: Path) -> Iterator[Path]:
    """Give a path beside `final` to write a file or folder to, and rename it to `final` once that has succeeded.

    A reader sees the old content or the new, never half of it. On an error `final` stays as it was. Each process has a
    path of its own, so that two runs at once do not tear it; those of killed ones are deleted.
    """
    final = final.absolute()  # "." has no name
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    for left in [*final.parent.glob(f".{glob.escape(final.name)}.*.partial")]:
        if not is_running(int(left.name.split(".")[-2])):
            remove(left)
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
    stamp = re.search(SENT, tags) or re.search(RECEIVED, tags)
    return stamp and f"{datetime.fromtimestamp(int(stamp[1]) / 1000, UTC):%Y-%m-%d %H:%M:%S}".split()


def parse_line(line: str) -> tuple[str, list[str] | None]:
    """Say what kind of line this is; of a message, a timeout or a ban give the CSV row too, if it says who and when.

    >>> parse_line("[2024-03-7 21:05:09] #channel user: hi: you")
    ('messages', ['2024-03-07', '21:05:09', 'channel', 'user', 'hi: you'])
    >>> parse_line("[2024-03-7 21:05:11] #channel user has been banned")
    ('bans', ['2024-03-07', '21:05:11', 'channel', 'user', ''])
    """
    for kind, pattern in PATTERNS:  # noqa: B007 (kind is used below)
        found = pattern.fullmatch(line)
        if found:
            break
    else:
        return ("unreadable lines" if line.strip() else "blank lines"), None
    fields = found.groupdict()
    if "username" not in fields:
        return kind, None
    if "date" in fields:
        year_and_month, day = fields["date"][:8], fields["date"][8:]
        stamp = [f"{year_and_month}{day:0>2}", fields["time"]]
    else:
        stamp = time_of(fields["tags"] or "")
        if stamp is None:
            return ("unreadable lines" if kind == "messages" else kind), None
    return kind, [*stamp, fields["channel"], fields["username"], fields.get("message") or ""]


def read_chunks(log_path: Path, report: Callable[[int], None]) -> Iterator[bytes]:
    """Give a log in pieces of whole lines, some megabytes each; tell `report` how many bytes of the file each took."""
    try:
        with log_path.open("rb") as file, gzip.open(file) if log_path.suffix == ".gz" else file as log:
            position = 0
            while chunk := log.read(CHUNK_BYTES):
                yield (chunk + log.readline()).removeprefix(b"" if position else b"\xef\xbb\xbf")  # byte order mark
                report(file.tell() - position)
                position = file.tell()
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
    """Take lines apart: the messages (columns `number` of the line and FIELDS), how many lines of each kind, and the
    numbers of the unreadable ones.

    The same as `parse_line` on each line.
    """
    import polars as pl

    line = pl.col("line")
    first, second, third, fourth, fifth = (pl.col("words").struct.field(f"field_{number}") for number in range(5))
    sent = pl.from_epoch(first.str.extract(SENT).cast(pl.Int64), "ms")
    columns = {
        "text": [
            first.str.slice(1),
            second.str.strip_suffix("]"),
            third.str.strip_prefix("#"),
            fourth.str.strip_suffix(":"),
            fifth,
        ],
        "raw IRC": [
            sent.dt.to_string("%Y-%m-%d"),
            sent.dt.to_string("%H:%M:%S"),
            fourth.str.strip_prefix("#"),
            second.str.strip_prefix(":").str.splitn("!", 2).struct.field("field_0"),
            fifth.str.strip_prefix(":"),
        ],
    }
    rest = lines.to_frame().with_row_index("number")
    messages = pl.DataFrame(schema={"number": pl.UInt32} | dict.fromkeys(FIELDS, pl.String))
    for dialect, pattern in PLAIN.items():
        rest = rest.with_columns(plain=line.str.contains(pattern) & ~line.str.contains(PERHAPS_EVENT))
        words = rest.filter("plain").select("number", words=line.str.splitn(" ", 5))
        messages = messages.vstack(words.select("number", **dict(zip(FIELDS, columns[dialect], strict=True))))
        rest = rest.filter(~pl.col("plain"))
    padded = {date: f"{date[:8]}{date[8:]:0>2}" for date in messages["date"].unique()}
    messages = messages.with_columns(pl.col("date").replace(padded))
    counts, rows, unreadable = Counter(messages=len(messages)), [], []
    for number, text in rest.select("number", "line").iter_rows():
        kind, row = parse_line(text)
        counts[kind] += 1
        if kind == "messages":
            rows.append([number, *row])
        elif kind == "unreadable lines":
            unreadable.append(number)
    if rows:
        messages = messages.vstack(pl.DataFrame(rows, messages.schema, orient="row"))
    return (messages if messages["number"].is_sorted() else messages.sort("number")), counts, unreadable


def find_moderated(log_path: Path, report: Callable[[int], None]) -> dict[str, pl.DataFrame]:
    """Find the timeouts and the bans of a log: a row each, in order, under these two keys.

    Columns: `channel`, `user` in lower case, `date`, `number` of its line in the log, and `first`, the number of the
    line that a timeout reaches back to (a ban reaches back over its day).
    """
    import polars as pl

    line, number = pl.col("line"), pl.col("number")
    channel = line.str.splitn(" #", 2).struct.field("field_1").str.splitn(" ", 2).struct.field("field_0")
    schema = dict.fromkeys(["channel", "user", "date"], pl.String) | dict.fromkeys(["number", "first"], pl.UInt32)
    events, before, num_lines = {"timeouts": [], "bans": []}, None, 0
    for chunk in read_chunks(log_path, report):
        lines, _ = split_lines(chunk)
        table = lines.to_frame().with_row_index("number", num_lines).select("number", "line", channel=channel)
        table = table if before is None else pl.concat([before, table], how="diagonal")
        table = table.with_columns(first=number.shift(TIMEOUT_LINES, fill_value=0).over("channel"))
        found = {"timeouts": [], "bans": []}
        for place, first, text in table.filter(line.str.contains(MODERATION)).select(number, "first", line).iter_rows():
            kind, row = parse_line(text)
            if kind in found and row:
                found[kind].append((row[2], row[3].lower(), row[0], place, 0 if kind == "bans" else first))
        for kind, rows in found.items():
            events[kind].append(pl.DataFrame(rows, schema, orient="row"))
        before = table.select("number", "channel").group_by("channel").tail(TIMEOUT_LINES)
        num_lines += len(lines)
    return {kind: pl.concat([pl.DataFrame(schema=schema), *frames]) for kind, frames in events.items()}


def filter_messages(
    messages: pl.DataFrame, filters: Filters, rare_users: Collection[str], moderation: dict[str, pl.DataFrame]
) -> tuple[pl.DataFrame, Counter]:
    """Leave out what the filters say; count each message once, under the first reason that holds."""
    import polars as pl

    message, number = pl.col("message"), pl.col("number")
    user = pl.col("username").replace({name: name.lower() for name in messages["username"].unique()})  # each name once
    reasons = {}
    if filters.exclude_users:
        reasons["from excluded users"] = user.is_in(filters.exclude_users)
    if moderation:
        said, moderated = messages.select(number, "channel", "date", user=user), []
        lowest, highest = said["number"].min() or 0, said["number"].max() or 0
        for kind, by in {"timeouts": ["channel", "user"], "bans": ["channel", "user", "date"]}.items():
            events = moderation[kind].filter(number > lowest, pl.col("first") <= highest).select(number, "first", *by)
            theirs = said.filter(pl.col("user").is_in(events["user"].implode()))
            # The next event of the same user settles it: a later one reaches back less far.
            theirs = theirs.join_asof(events, on="number", by=by, strategy="forward", check_sortedness=False)
            moderated.append(theirs.filter(pl.col("first") <= number)["number"])
        reasons["moderated"] = number.is_in(pl.concat(moderated).implode())
    if rare_users:
        reasons["from rare users"] = user.is_in(rare_users)
    if filters.drop_commands:
        reasons["commands"] = message.str.contains(COMMAND)
    if filters.drop_links:
        reasons["with links"] = message.str.contains(LINK)
    counts = Counter()
    for reason, holds in reasons.items():
        kept = messages.filter(~holds)
        counts[reason] += len(messages) - len(kept)
        messages = kept
    return messages, counts


def parse_file(
    log_path: Path,
    csv_path: Path,
    filters: Filters = Filters(),
    rare_users: Collection[str] = (),
    report: Callable[[int], None] = lambda num_bytes: None,
) -> tuple[Counter, list[str]]:
    """Write one log's messages as CSV; return how many lines of each kind it had, and the first unreadable ones."""
    import polars as pl

    counts, unreadable, num_lines = Counter(dict.fromkeys(KINDS, 0), files=1), [], 0
    message = pl.col("message")
    moderation = find_moderated(log_path, report) if filters.drop_moderated else {}
    with written_beside(csv_path) as partial, partial.open("wb") as output:
        output.write((",".join(FIELDS) + "\n").encode())
        for chunk in read_chunks(log_path, report):
            lines, invalid = split_lines(chunk)
            messages, kinds, numbers = parse_lines(lines)
            # Clients append a blank and an invisible U+E0000 to say the same thing twice.
            suffixed = message.str.ends_with("\U000e0000")
            stripped = message.str.strip_suffix("\U000e0000").str.strip_suffix(" ")
            messages = messages.with_columns(
                pl.when(suffixed).then(stripped).otherwise(message),
                number=pl.col("number") + num_lines,
                suffixed=suffixed,
            )
            num_suffixed = messages["suffixed"].sum()
            messages, left_out = filter_messages(messages, filters, rare_users, moderation)
            if filters.mask_mentions:
                messages = messages.with_columns(message.str.replace_all(MENTION, "@user"))
            messages.select(FIELDS).write_csv(output, include_header=False)
            counts.update(kinds)
            counts.update(left_out)
            counts["messages written"] += len(messages)
            counts["lines with invalid UTF-8"] += invalid
            counts["invisible suffixes removed"] += num_suffixed
            unreadable += [f"{log_path}:{num_lines + number + 1}" for number in numbers[:SHOWN_UNREADABLE]]
            num_lines += len(lines)
    return counts, unreadable[:SHOWN_UNREADABLE]


def count_users(log_path: Path, report: Callable[[int], None]) -> Counter:
    """Count the messages of each user, in lower case, in one log."""
    counts = Counter()
    for chunk in read_chunks(log_path, report):
        messages, _, _ = parse_lines(split_lines(chunk)[0])
        for name, count in messages["username"].value_counts().iter_rows():
            counts[name.lower()] += count
    return counts


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


def run_on_logs(description: str, function: Callable, calls: dict[Path, tuple], jobs: int, num_reads: int = 1) -> dict:
    """Call `function(log, *arguments, report)` for each log in `jobs` threads; return log -> result.

    polars, which does most of the work, lets the threads run side by side. `num_reads` is how often the function reads
    its log, for the progress bar.
    """
    from concurrent.futures import ThreadPoolExecutor
    from threading import Lock

    from tqdm import tqdm

    size = num_reads * sum(log.stat().st_size for log in calls)
    lock, stopped = Lock(), False
    with (
        tqdm(desc=description, total=size, unit="B", unit_scale=True, disable=None) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):

        def report(num_bytes: int) -> None:
            with lock:
                progress.update(num_bytes)
            if stopped:
                raise KeyboardInterrupt

        # The largest first, so that none is left over at the end.
        order = sorted(calls, key=lambda log: log.stat().st_size, reverse=True)
        futures = {log: pool.submit(function, log, *calls[log], report) for log in order}
        try:
            return {log: futures[log].result() for log in calls}
        finally:  # an error in one ends the others
            stopped = True
            pool.shutdown(cancel_futures=True)


def parse_logs(
    logs_dir: Path, output_dir: Path, jobs: int, filters: Filters = Filters()
) -> tuple[dict[Path, Counter], list[str]]:
    """Write a CSV for each log with `jobs` threads; return each log's counts, and the first unreadable lines."""
    csv_paths = find_logs(logs_dir, output_dir)
    rare_users = dict.fromkeys(csv_paths, ())
    if filters.min_user_messages > 1:
        users = run_on_logs("counting users", count_users, dict.fromkeys(csv_paths, ()), jobs)
        total = sum(users.values(), Counter())
        rare_users = {
            log: [user for user in counts if total[user] < filters.min_user_messages] for log, counts in users.items()
        }
    calls = {log: (csv_path, filters, rare_users[log]) for log, csv_path in csv_paths.items()}
    results = run_on_logs("parsing", parse_file, calls, jobs, num_reads=2 if filters.drop_moderated else 1)
    logs = {log: counts for log, (counts, _) in results.items()}
    if not any(counts["messages written"] for counts in logs.values()):
        for csv_path in csv_paths.values():
            remove(csv_path)
        raise InputError(
            f"the options leave none of the chat messages in {logs_dir}; loosen them"
            if any(counts["messages"] for counts in logs.values())
            else f"no chat message in {logs_dir}; a line should read [2024-03-7 21:05:09] #channel user: message"
        )
    unreadable = [place for _, places in results.values() for place in places]
    return logs, unreadable[:SHOWN_UNREADABLE]


def print_summary(logs: dict[Path, Counter], unreadable: list[str], verbose: bool) -> None:
    """Print on stderr what the lines were: in total and, if `verbose`, a row a log."""
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


def read_users(names_and_files: list[str]) -> frozenset[str]:
    """Collect user names in lower case; what is a file holds one name a line."""
    users = set()
    for name in names_and_files:
        if not re.fullmatch(r"@?\w+", name) and not Path(name).is_file():
            raise InputError(f"--exclude-users {name}: no such file, and no user name")
        users.update(Path(name).read_text(encoding="utf-8").split() if Path(name).is_file() else [name])
    return frozenset(user.removeprefix("@").lower() for user in users)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs (data/logs)")
    add("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs (data/raw)")
    add("--jobs", type=positive_int, default=(os.cpu_count() or 1) + 1, help="threads (one more than cores)")
    add("--verbose", action="store_true", help="a line of counts for each log")
    which = parser.add_argument_group("which messages to leave out")
    add = which.add_argument
    add("--exclude-users", nargs="+", default=[], metavar="NAME|FILE", help="these users, or those in a file")
    add("--exclude-bots", action="store_true", help="well-known bots: nightbot, streamelements, moobot, ...")
    add("--min-user-messages", type=positive_int, default=1, metavar="N", help="users with fewer messages in all logs")
    add(
        "--drop-moderated",
        action="store_true",
        help=f"what users said in the {TIMEOUT_LINES} lines of the channel before their timeout, and on the day of "
        "their ban before it, as far as the same log has it",
    )
    add("--drop-commands", action="store_true", help="messages that begin with a command such as !discord")
    add("--drop-links", action="store_true", help="messages with a link")
    add("--mask-mentions", action="store_true", help="write @user for every @name")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_line_errors():
        filters = Filters(
            exclude_users=read_users(args.exclude_users) | (BOTS if args.exclude_bots else frozenset()),
            min_user_messages=args.min_user_messages,
            drop_moderated=args.drop_moderated,
            drop_commands=args.drop_commands,
            drop_links=args.drop_links,
            mask_mentions=args.mask_mentions,
        )
        logs, unreadable = parse_logs(args.logs_dir, args.output_dir, args.jobs, filters)
        print_summary(logs, unreadable, args.verbose)


if __name__ == "__main__":
    main()
