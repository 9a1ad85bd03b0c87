"""parse_logs.py: every message comes out as it was typed, and a file is whole or not there."""

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
from conftest import GOLDEN, ROOT, SHARED, contents, error_of, needs_shared, parse, run, start, typed, wait_for
from hypothesis import given
from hypothesis import strategies as st

from chatter.dialects import KINDS
from parse_logs import parse_logs

LINES = {
    "justlog": "[2024-03-7 21:05:09] #c u: {}\n",
    "rustlog": "[2024-03-07 21:05:09] #c u: {}\r\n",
    "raw IRC": "@id=1;tmi-sent-ts=1709845509000;turbo=0 :u!u@u.tmi.twitch.tv PRIVMSG #c :{}\r\n",
    "raw IRC, /me": "@rm-received-ts=1709845509999 :u!u@u.tmi.twitch.tv PRIVMSG #c :\x01ACTION {}\x01\n",
}


@given(st.lists(typed), st.sampled_from(sorted(LINES)), st.sampled_from([".txt", ".log.gz"]))
def test_any_message_comes_back(messages, dialect, suffix):
    """Each of the usual readers of CSV gives what was typed, to the letter."""
    with tempfile.TemporaryDirectory() as folder:
        log, table = Path(folder, f"log{suffix}"), Path(folder, "log.csv")
        data = "".join(LINES[dialect].format(text) for text in messages).encode()
        log.write_bytes(gzip.compress(data) if log.suffix == ".gz" else data)
        parse(log, table)
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


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """What the command does with the golden logs, one of them gzipped in a sub-folder; gives its folder and stderr."""
    folder = tmp_path_factory.mktemp("command")
    (folder / "logs/deep").mkdir(parents=True)
    shutil.copy(GOLDEN / "some_channel.txt", folder / "logs")
    (folder / "logs/deep/raw_irc.txt.gz").write_bytes(gzip.compress((GOLDEN / "raw_irc.log").read_bytes()))
    done = run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", "--verbose", cwd=folder)
    assert done.stdout == ""
    return folder, done.stderr


def test_folders_are_mirrored(command):
    assert contents(command[0] / "raw") == {
        "some_channel.csv": (GOLDEN / "some_channel.csv").read_bytes(),
        "deep/raw_irc.csv": (GOLDEN / "raw_irc.csv").read_bytes(),
    }


def test_the_summary_adds_up_and_names_unreadable_lines(command):
    assert command[1].splitlines() == [
        "logs/deep/raw_irc.txt.gz: 8 messages, 2 timeouts, 1 bans, 1 clears, 2 notices, 1 deletions, "
        "4 other IRC commands, 1 unreadable lines, 8 messages written, 1 lines with invalid UTF-8, "
        "2 invisible suffixes removed",
        "logs/some_channel.txt: 15 messages, 4 timeouts, 4 bans, 2 clears, 2 notices, 2 blank lines, "
        "4 unreadable lines, 15 messages written",
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
        "messages written                     23",
        "lines with invalid UTF-8              1",
        "invisible suffixes removed            2",
        "unreadable: logs/deep/raw_irc.txt.gz:19, logs/some_channel.txt:29, logs/some_channel.txt:30, "
        "logs/some_channel.txt:31, logs/some_channel.txt:32",
    ]


def test_only_the_first_unreadable_lines_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("[2024-03-7 21:05:09] #c u: hi\n" + "?\n" * 6)
    *_, last = run("parse_logs.py", "--logs-dir", tmp_path, "--output-dir", tmp_path).stderr.splitlines()
    assert last == f"unreadable: {', '.join(f'{tmp_path}/a.txt:{number}' for number in range(2, 7))} ..."


def test_any_number_of_jobs_gives_the_same(tmp_path):
    for jobs in (1, 3):
        logs, unreadable = parse_logs(ROOT / "data/sample_logs", tmp_path / str(jobs), jobs)
        total = sum(logs.values(), Counter())
        assert (total["files"], total["messages"], unreadable) == (12, 48_000, [])
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_killed_at_any_moment_and_run_again(tmp_path):
    """kill -9 leaves no half CSV under its name, and a second run gives the files of an undisturbed one."""
    command = [sys.executable, ROOT / "parse_logs.py", "--logs-dir", ROOT / "data/sample_logs", "--jobs", "2"]
    subprocess.run([*command, "--output-dir", tmp_path / "whole"], check=True, capture_output=True)
    whole = contents(tmp_path / "whole")
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
    assert contents(tmp_path / "out") == whole


def test_ctrl_c_ends_in_one_line_and_leaves_whole_files(tmp_path):
    logs, out = tmp_path / "logs", tmp_path / "out"
    for copy in range(10):
        shutil.copytree(ROOT / "data/sample_logs", logs / str(copy))
    process = start("parse_logs.py", "--logs-dir", logs, "--output-dir", out)
    wait_for(lambda: [*out.rglob("*.csv")], process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b"parse_logs.py: interrupted\n"
    assert process.returncode == 130
    written = contents(out)
    assert len(written) < 120 and not [name for name in written if not name.endswith(".csv")]
    assert {csv_path.count(b"\n") for csv_path in written.values()} == {4001}


@pytest.fixture
def error(tmp_path):
    """Run the command on the folder `logs`, which contains one message; return its one line of error."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.txt").write_text("[2024-03-7 21:05:09] #c u: hi\n")

    def run_and_fail(*args):
        return error_of("parse_logs.py", "--logs-dir", tmp_path / "logs", "--output-dir", tmp_path / "raw", *args)

    return run_and_fail


def test_logs_dir_is_not_a_folder(error, tmp_path):
    assert "nowhere is not a folder. Put your logs there, or pass" in error("--logs-dir", tmp_path / "nowhere")
    assert "a.txt is not a folder" in error("--logs-dir", tmp_path / "logs/a.txt")


def test_no_log(error, tmp_path):
    (tmp_path / "logs/a.txt").rename(tmp_path / "logs/a.md")
    assert f"no .txt or .log file (or .txt.gz, .log.gz) in {tmp_path}/logs. Put your logs there." in error()


def test_no_message(error, tmp_path):
    """Nor are CSVs left that have none."""
    (tmp_path / "logs/a.txt").write_text("nothing to read\n")
    assert f"no chat messages in {tmp_path}/logs. Lines must look like [2024-03-7 21:05:09] #channel" in error()
    assert not any((tmp_path / "raw").iterdir())


def test_the_options_leave_out_everything(error, tmp_path):
    assert "the options leave out all chat messages in" in error("--exclude-users", "u")
    assert not any((tmp_path / "raw").iterdir())


def test_an_output_dir_that_cannot_be_made(error, tmp_path):
    assert "a.txt" in error("--output-dir", tmp_path / "logs/a.txt/raw")


def test_a_damaged_gz(error, tmp_path):
    (tmp_path / "logs/b.txt.gz").write_bytes(gzip.compress(b"[2024-03-7 21:05:09] #c u: hi\n" * 1000)[:-9])
    assert "b.txt.gz is damaged" in error()
    assert not (tmp_path / "raw/b.csv").exists() and not [*(tmp_path / "raw").glob(".*")]


def test_two_logs_that_would_become_one_csv(error, tmp_path):
    (tmp_path / "logs/a.log").touch()
    logs, csv_path = tmp_path / "logs", tmp_path / "raw/a.csv"
    assert f"{logs}/a.log and {logs}/a.txt would both become {csv_path}. Rename one of them." in error()


def test_wrong_usage():
    done = run("parse_logs.py", "--jobs", 0, check=False)
    assert done.returncode == 2 and "argument --jobs: must be at least 1" in done.stderr


def test_full_disk(full_disk):
    error = error_of("parse_logs.py", "--logs-dir", ROOT / "data/sample_logs", "--output-dir", full_disk)
    assert "No space left on device" in error
    assert not any(full_disk.iterdir())


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The real logs of each logger as CSVs; gives their folder and what was counted."""
    folder = tmp_path_factory.mktemp("real")
    return folder, {
        dialect: parse_logs(SHARED / "chat" / dialect, folder / dialect, jobs=2)
        for dialect in ("justlog", "rustlog", "raw_irc")
    }


@needs_shared
def test_every_line_of_real_logs_is_counted_and_readable(real):
    for logs, unreadable in real[1].values():
        for log, counts in logs.items():
            assert sum(counts[kind] for kind in KINDS) == log.read_bytes().count(b"\n")
        assert unreadable == []


@needs_shared
@pytest.mark.parametrize("name", ["riotgames-2016-09-30", "xqcow-2019-09-15"])
def test_real_days_as_written_by_two_loggers_are_the_same(name, real):
    assert (real[0] / f"justlog/{name}.csv").read_bytes() == (real[0] / f"rustlog/{name}.csv").read_bytes()


@needs_shared
@pytest.mark.parametrize(("name", "typed_with_a_sub"), [("xqcow-2019-09-15", 5), ("forsen-2022-01-01", 0)])
def test_a_real_day_in_raw_irc_has_the_same_messages(name, typed_with_a_sub, real):
    """And those that were typed with a subscription, which only raw IRC tells apart."""
    text = (real[0] / f"rustlog/{name}.csv").read_text().splitlines()
    raw = (real[0] / f"raw_irc/{name}.raw.csv").read_text().splitlines()
    assert len(raw) == len(text) + typed_with_a_sub and not set(text) - set(raw)
