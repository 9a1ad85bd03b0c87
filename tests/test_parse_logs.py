"""parse_logs.py: every line read for what it is, every message kept to the letter."""

import csv
import gzip
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb
import pandas
import polars
import pytest
from conftest import ROOT, SHARED, error_of, run
from hypothesis import given
from hypothesis import strategies as st

from parse_logs import KINDS, parse_file, parse_line, parse_lines, parse_logs

GOLDEN = Path(__file__).parent / "golden"


GOLDEN_COUNTS = {
    "some_channel.txt": {
        "messages": 15,
        "timeouts": 4,
        "bans": 4,
        "clears": 2,
        "notices": 2,
        "blank lines": 2,
        "unreadable lines": 4,
    },
    "raw_irc.log": {
        "messages": 8,
        "timeouts": 2,
        "bans": 1,
        "clears": 1,
        "deletions": 1,
        "notices": 2,
        "other IRC commands": 4,
        "unreadable lines": 1,
        "lines with invalid UTF-8": 1,
        "invisible suffixes removed": 2,
    },
}


@pytest.mark.parametrize("log", GOLDEN_COUNTS)
def test_golden(log, tmp_path):
    counts, unreadable = parse_file(GOLDEN / log, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (GOLDEN / log).with_suffix(".csv").read_bytes()
    assert counts == {"files": 1} | GOLDEN_COUNTS[log]
    assert len(unreadable) == counts["unreadable lines"]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("user: hi", "messages"),
        ("user:", "messages"),
        ("user: USER subscribed at Tier 1.", "notices"),
        ("user: User is gifting 5 Tier 1 Subs to Z's community!", "notices"),
        ("user: 12 raiders from USER have joined!", "notices"),
        ("user: 12 raiders from them have joined!", "messages"),
        ("user: user is right", "messages"),
        ("user: ユーザー subscribed at Tier 1.", "notices"),
        ("user: ユーザー is right", "messages"),
        ("медведь: Медведь has been banned", "bans"),
        ("user: ユーザー has been banned", "messages"),
        ("user: users subscribed at Tier 1.", "messages"),
        ("ananonymousgifter: An anonymous user gifted a Tier 1 sub to Y!", "notices"),
        ("", "bans"),
        ("user:hi", "notices"),
        ("two words: hi", "notices"),
        ("user: somebody has been banned", "messages"),
        ("user: User has been banned", "bans"),
        ("user has been banned", "bans"),
        ("user: user has been banned for life", "messages"),
        ("user has been banned for life", "notices"),
        ("user has been timed out for 600 seconds", "timeouts"),
        ("user has been timed out for a while", "notices"),
        ("user: has been timed out for 600 seconds", "messages"),
    ],
)
def test_kinds(event, kind):
    assert parse_line(f"[2024-03-7 21:05:09] #channel {event}")[0] == kind


# A logger ends a line at \n or \r\n and writes UTF-8: no message holds \n, ends in \r or has a lone surrogate.
# An invisible U+E0000 at the end is no part of what was typed.
typed = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")).map(
    lambda text: text.rstrip("\r\U000e0000")
)
pieces = st.sampled_from([b"[2024-03-7 21:05:09]", b" #c", b" u:", b" u has been banned", b"\n", b"\r", b"\0", b"\xff"])


dialects = {
    "justlog": "[2024-03-7 21:05:09] #c u: {}\n",
    "rustlog": "[2024-03-07 21:05:09] #c u: {}\r\n",
    "raw IRC": "@id=1;tmi-sent-ts=1709845509000;turbo=0 :u!u@u.tmi.twitch.tv PRIVMSG #c :{}\r\n",
    "raw IRC, /me": "@rm-received-ts=1709845509999 :u!u@u.tmi.twitch.tv PRIVMSG #c :\x01ACTION {}\x01\n",
}


@given(st.lists(typed), st.sampled_from(sorted(dialects)), st.sampled_from([".txt", ".log.gz"]))
def test_any_message_comes_back(messages, dialect, suffix):
    with tempfile.TemporaryDirectory() as folder:
        log, table = Path(folder, f"log{suffix}"), Path(folder, "log.csv")
        data = "".join(dialects[dialect].format(text) for text in messages).encode()
        log.write_bytes(gzip.compress(data) if log.suffix == ".gz" else data)
        parse_file(log, table)
        with table.open(encoding="utf-8", newline="") as rows:
            expected = [["2024-03-07", "21:05:09", "c", "u", text] for text in messages]
            assert list(csv.reader(rows))[1:] == expected
        assert pandas.read_csv(table, dtype=str, keep_default_na=False)["message"].tolist() == messages
        assert polars.read_csv(table, infer_schema=False)["message"].to_list() == messages
        reader = (
            "read_csv(?, all_varchar=true, header=true, delim=',', quote='\"', escape='\"', allow_quoted_nulls=false)"
        )
        read = duckdb.execute(f"SELECT message FROM {reader}", [str(table)])
        assert [text for (text,) in read.fetchall()] == messages


@given(st.binary() | st.lists(pieces).map(b"".join))
def test_any_bytes_conserve_lines(data):
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        log.write_bytes(data)
        counts, _ = parse_file(log, Path(folder, "log.csv"))
        assert sum(counts[kind] for kind in KINDS) == len(data.split(b"\n")) - data.endswith(b"\n") - (not data)


names = st.sampled_from(["u", "User", "u:", "", "#c", "\u3000", "\xa0x", "ananonymousgifter", "ユーザー"])
heads = st.sampled_from(
    ["[2024-03-7 21:05:09] #c ", "[2024-13-7 21:05:09] #c ", "[2024-03-17 24:05:09] #c ", "[2024-03-07 21:05:09] #ü "]
)
words = st.sampled_from(
    ["hi", "has been banned", "subscribed at Tier 1.", "12 raiders from u have joined!", "a: b", "\r", ""]
)
made_up = st.tuples(heads, names, st.sampled_from([": ", " ", ":"]), names, st.just(" "), words).map("".join)


@given(st.lists(made_up | typed.filter(lambda text: not text.endswith("\U000e0000"))))
def test_by_the_column_is_the_same_as_line_by_line(lines):
    messages, counts, unreadable = parse_lines(polars.Series("line", lines, dtype=polars.String))
    expected = [parse_line(line) for line in lines]
    assert [list(row) for row in messages.iter_rows()] == [row for _, row in expected if row]
    assert +counts == Counter(kind for kind, _ in expected)
    assert unreadable == [number for number, (kind, _) in enumerate(expected) if kind == "unreadable lines"]


def test_command(tmp_path):
    """Sub-folders are mirrored; the summary adds up and names what could not be read."""
    (tmp_path / "logs/deep").mkdir(parents=True)
    shutil.copy(GOLDEN / "some_channel.txt", tmp_path / "logs")
    (tmp_path / "logs/deep/raw_irc.txt.gz").write_bytes(gzip.compress((GOLDEN / "raw_irc.log").read_bytes()))
    done = run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", "--verbose", cwd=tmp_path)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "logs/deep/raw_irc.txt.gz: 8 messages, 2 timeouts, 1 bans, 1 clears, 2 notices, 1 deletions, "
        "4 other IRC commands, 1 unreadable lines",
        "logs/some_channel.txt: 15 messages, 4 timeouts, 4 bans, 2 clears, 2 notices, 2 blank lines, "
        "4 unreadable lines",
        "files                                 2",
        "messages                             23",
        "timeouts                              6",
        "bans                                  5",
        "clears                                3",
        "notices                               4",
        "deletions                             1",
        "other IRC commands                    4",
        "blank lines                           2",
        "unreadable lines                      5",
        "lines with invalid UTF-8              1",
        "invisible suffixes removed            2",
        "unreadable: logs/deep/raw_irc.txt.gz:19, logs/some_channel.txt:29, logs/some_channel.txt:30, "
        "logs/some_channel.txt:31, logs/some_channel.txt:32",
    ]
    for name in ["some_channel", "deep/raw_irc"]:
        assert (tmp_path / f"raw/{name}.csv").read_bytes() == (GOLDEN / f"{Path(name).name}.csv").read_bytes()


def test_any_number_of_jobs_gives_the_same(tmp_path):
    for jobs in (1, 3):
        logs, unreadable = parse_logs(ROOT / "data/sample_logs", tmp_path / str(jobs), jobs)
        total = sum(logs.values(), Counter())
        assert (total["files"], total["messages"], unreadable) == (12, 48_000, [])
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()


def test_killed_at_any_moment_and_run_again(tmp_path):
    """kill -9 leaves no half CSV under its name, and a second run gives the files of an undisturbed one."""
    command = [sys.executable, ROOT / "parse_logs.py", "--logs-dir", ROOT / "data/sample_logs", "--jobs", "2"]
    subprocess.run([*command, "--output-dir", tmp_path / "whole"], check=True, capture_output=True)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    for seconds in (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5):
        killed = subprocess.Popen(
            [*command, "--output-dir", tmp_path / "out"], start_new_session=True, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        for path in (tmp_path / "out").glob("*.csv"):
            assert path.read_bytes() == whole[path.name]
    subprocess.run([*command, "--output-dir", tmp_path / "out"], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole


def test_errors(tmp_path):
    assert "nowhere is no folder" in error_of("parse_logs.py", "--logs-dir", tmp_path / "nowhere")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "notes.md").write_text("not a log")
    assert "no .txt or .log file (or" in error_of("parse_logs.py", "--logs-dir", logs)
    (logs / "a.txt").write_text("nothing to read\n")
    assert "no chat message" in error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []
    (logs / "a.txt").write_text("[2024-03-7 21:05:09] #c u: hi\n")
    assert "notes.md" in error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", logs / "notes.md" / "raw")
    (logs / "b.txt.gz").write_bytes(gzip.compress(b"[2024-03-7 21:05:09] #c u: hi\n" * 1000)[:-9])
    assert "b.txt.gz is damaged" in error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw")
    assert not (tmp_path / "raw/b.csv").exists()
    (logs / "a.log").write_text("")
    error = error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw")
    assert "a.log" in error and "a.txt" in error
    assert run("parse_logs.py", "--jobs", 0, check=False).returncode == 2


def test_full_disk(full_disk):
    error = error_of("parse_logs.py", "--logs-dir", ROOT / "data/sample_logs", "--output-dir", full_disk)
    assert "No space left on device" in error
    assert list(full_disk.iterdir()) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real logs in ../shared/chat")
def test_real_logs(tmp_path):
    """The same days as written by other loggers give the same CSV; only raw IRC sets apart what came with a sub."""
    for dialect in ("justlog", "rustlog", "raw_irc"):
        logs, unreadable = parse_logs(SHARED / "chat" / dialect, tmp_path / dialect, jobs=2)
        for log, counts in logs.items():
            assert sum(counts[kind] for kind in KINDS) == log.read_bytes().count(b"\n")
        assert unreadable == []
    for name in ("riotgames-2016-09-30", "xqcow-2019-09-15"):
        assert (tmp_path / f"justlog/{name}.csv").read_bytes() == (tmp_path / f"rustlog/{name}.csv").read_bytes()
    for name, typed_with_a_sub in {"xqcow-2019-09-15": 5, "forsen-2022-01-01": 0}.items():
        text = (tmp_path / f"rustlog/{name}.csv").read_text().splitlines()
        raw = (tmp_path / f"raw_irc/{name}.raw.csv").read_text().splitlines()
        assert len(raw) == len(text) + typed_with_a_sub and not set(text) - set(raw)
