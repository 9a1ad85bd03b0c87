"""Stage 1: Twitch chat logs -> CSV, one file a log.

Reads   every .txt and .log file in --logs-dir, text as logs.ivr.fi serves it:
            [2024-03-7 21:05:09] #channel user: message
            [2024-03-7 21:05:11] #channel user has been timed out for 600 seconds
Writes  <output-dir>/<same name>.csv in UTF-8 with the header date,time,channel,username,message and a row a message:
            2024-03-07,21:05:09,channel,user,message
        Timeouts, bans and other events are counted, not written. The counts go to stderr.

    python parse_logs.py
    python parse_logs.py --logs-dir ~/logs --output-dir data/raw --jobs 4
    python parse_logs.py --logs-dir data/sample_logs --output-dir data/demo/raw
"""

import argparse
import contextlib
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FIELDS = ["date", "time", "channel", "username", "message"]
QUOTED = re.compile(r'[",\r\n]|^$')
LOG_SUFFIXES = [".txt", ".log"]

# The head that every line has. justlog writes the day without a leading zero, rustlog with one.
LINE = re.compile(
    r"\[(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>0?[1-9]|[12]\d|3[01]) "
    r"(?P<time>[01]\d:[0-5]\d:[0-5]\d|2[0-3]:[0-5]\d:[0-5]\d)\] #(?P<channel>\S+) (?P<event>.*)",
    re.ASCII | re.DOTALL,
)
# What stands behind it, tried in this order. Names hold no blank and no colon, so "user: @x has been banned" is
# somebody talking and "user has been banned" is not. rustlog repeats the name: "user: user has been banned".
KINDS = {
    "timeouts": re.compile(r"(?:([^\s:]+): (?i:\1)|[^\s:]+) has been timed out for \d.*", re.DOTALL),
    "bans": re.compile(r"(?:([^\s:]+): (?i:\1)|[^\s:]*) has been banned"),
    "messages": re.compile(r"(?P<username>[^\s:]+):(?: (?P<message>.*))?", re.DOTALL),
    "other events": re.compile(r".*", re.DOTALL),  # subscriptions, raids, a cleared chat
}


class InputError(Exception):
    """A fault the user can mend: the text says what is wrong and the way out."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End the script with one line on stderr and exit code 1 on InputError and on what the disk refuses (OSError)."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # the hub's library warns of each try before it gives up
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


@contextlib.contextmanager
def written_beside(final: Path) -> Iterator[Path]:
    """Give a path beside `final` to write a file or folder to, and rename it to `final` once that has succeeded.

    A reader sees the old content or the new, never half of it. On an error `final` stays as it was.
    """
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


def parse_line(line: str) -> tuple[str, list[str] | None]:
    """Say what kind of line this is, and give its CSV row if it is a message.

    >>> parse_line("[2024-03-7 21:05:09] #channel user: hi: you")
    ('messages', ['2024-03-07', '21:05:09', 'channel', 'user', 'hi: you'])
    >>> parse_line("[2024-03-7 21:05:11] #channel user has been banned")
    ('bans', None)
    """
    head = LINE.fullmatch(line)
    if head is None:
        return ("unreadable lines" if line.strip() else "blank lines"), None
    matches = ((kind, pattern.fullmatch(head["event"])) for kind, pattern in KINDS.items())
    kind, found = next((kind, found) for kind, found in matches if found)
    if kind != "messages":
        return kind, None
    date = f"{head['year']}-{head['month']}-{head['day']:0>2}"
    return kind, [date, head["time"], head["channel"], found["username"], found["message"] or ""]


def csv_line(row: list[str]) -> str:
    """Write a row as RFC 4180 has it, quoted where it must be, and where a field is empty: "" reads back as text.

    Python's own csv.writer leaves a lone carriage return unquoted, which splits the row for whoever reads it.
    """
    return ",".join('"' + text.replace('"', '""') + '"' if QUOTED.search(text) else text for text in row) + "\n"


def parse_file(log_path: Path, csv_path: Path) -> Counter:
    """Write one log's messages as CSV; return how many lines of each kind it had."""
    counts = Counter(files=1)
    with (
        written_beside(csv_path) as partial,
        log_path.open("rb") as log,
        partial.open("w", encoding="utf-8", newline="") as output,
    ):
        output.write(csv_line(FIELDS))
        for line in log:  # split at \n alone: a message may hold any other line break of Unicode
            kind, row = parse_line(line.decode("utf-8", errors="replace").removesuffix("\n").removesuffix("\r"))
            counts[kind] += 1
            if row:
                output.write(csv_line(row))
    return counts


def find_logs(logs_dir: Path, output_dir: Path) -> dict[Path, Path]:
    """Map each log of `logs_dir`, in order of name, to the CSV to write."""
    if not logs_dir.is_dir():
        raise InputError(f"{logs_dir} is no folder; put your logs there, or name their folder with --logs-dir")
    logs = sorted(path for path in logs_dir.iterdir() if path.suffix in LOG_SUFFIXES and path.is_file())
    if not logs:
        raise InputError(f"no {' or '.join(LOG_SUFFIXES)} file in {logs_dir}; put your logs there")
    csv_paths = {}
    for log in logs:
        csv_path = output_dir / f"{log.stem}.csv"
        if csv_path in csv_paths:
            raise InputError(f"{csv_paths[csv_path]} and {log} would both become {csv_path}; rename one")
        csv_paths[csv_path] = log
    return {log: csv_path for csv_path, log in csv_paths.items()}


def parse_logs(logs_dir: Path, output_dir: Path, jobs: int) -> Counter:
    """Write a CSV for each log with `jobs` processes; return the counts over all of them."""
    from concurrent.futures import ProcessPoolExecutor, as_completed

    from tqdm import tqdm

    csv_paths = find_logs(logs_dir, output_dir)
    counts = Counter()
    size = sum(log.stat().st_size for log in csv_paths)
    with ProcessPoolExecutor(jobs) as pool, tqdm(total=size, unit="B", unit_scale=True, disable=None) as progress:
        logs = {pool.submit(parse_file, log, csv_path): log for log, csv_path in csv_paths.items()}
        for done in as_completed(logs):
            counts += done.result()
            progress.update(logs[done].stat().st_size)
    if not counts["messages"]:
        for csv_path in csv_paths.values():
            remove(csv_path)
        raise InputError(
            f"no chat message in {logs_dir}; a line should read [2024-03-7 21:05:09] #channel user: message"
        )
    return counts


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs-dir", type=Path, default=Path("data/logs"), help="folder of logs (data/logs)")
    parser.add_argument("--output-dir", type=Path, default=Path("data/raw"), help="folder for the CSVs (data/raw)")
    parser.add_argument("--jobs", type=positive_int, default=os.cpu_count(), help="processes (all cores)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_line_errors():
        counts = parse_logs(args.logs_dir, args.output_dir, args.jobs)
        for kind in ["files", *KINDS, "blank lines", "unreadable lines"]:
            print(f"{kind:16} {counts[kind]:>12,}", file=sys.stderr)


if __name__ == "__main__":
    main()
