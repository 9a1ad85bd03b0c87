"""parse_logs.py: every message comes out as it was typed, and a file is whole or not there."""

import csv
import gzip
import json
import os
import re
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
import psutil
import pytest
from conftest import (
    GOLDEN,
    ROOT,
    SHARED,
    SPIES,
    contents,
    error_of,
    log_line,
    needs_shared,
    parse,
    run,
    start,
    typed,
    wait_for,
    without_manifest,
)
from hypothesis import given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.files import MANIFEST
from chatter.logs.file_names import SUFFIXES
from chatter.logs.formats import KINDS
from chatter.workers import SMALL, open_workers
from parse_logs import Options, parse_all, parse_logs

LINE = "[2024-03-7 21:05:09] #c u: hi\n"
RIGHTS = "-dac_override,-dac_read_search"  # with which root reads everything
WITHOUT_RIGHTS = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"] if os.geteuid() == 0 else []
WITHOUT_RIGHTS += [sys.executable]


def line(text):
    """Return a line that no other log has, so that the log is not a copy."""
    return LINE.replace("hi", text)


LINES = {
    "justlog": "[2024-03-7 21:05:09] #c u: {}\n",
    "rustlog": "[2024-03-07 21:05:09] #c u: {}\r\n",
    "raw IRC": "@id=1;tmi-sent-ts=1709845509000;turbo=0 :u!u@u.tmi.twitch.tv PRIVMSG #c :{}\r\n",
    "raw IRC, /me": "@rm-received-ts=1709845509999 :u!u@u.tmi.twitch.tv PRIVMSG #c :\x01ACTION {}\x01\n",
}


@given(st.lists(typed), st.sampled_from(sorted(LINES)), st.sampled_from([".txt", ".log.gz"]))
def test_any_message_comes_back(messages, format_name, suffix):
    """Each of the usual readers of CSV gives what was typed, to the letter."""
    with tempfile.TemporaryDirectory() as folder:
        log, table = Path(folder, f"log{suffix}"), Path(folder, "log.csv")
        data = "".join(LINES[format_name].format(text) for text in messages).encode()
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
    written = contents(command[0] / "raw")
    assert {name: written[name] for name in without_manifest(written)} == {
        "some_channel.csv": (GOLDEN / "some_channel.csv").read_bytes(),
        "deep/raw_irc.csv": (GOLDEN / "raw_irc.csv").read_bytes(),
    }


def test_the_summary_adds_up_and_names_unreadable_lines(command):
    assert command[1].splitlines() == [
        "logs/deep/raw_irc.txt.gz: 12 messages, 2 timeouts, 1 bans, 1 clears, 2 notices, 1 deletions, "
        "4 other IRC commands, 1 from shared chats, 12 messages written, 1 lines with invalid UTF-8, "
        "2 invisible suffixes removed",
        "logs/some_channel.txt: 16 messages, 4 timeouts, 4 bans, 2 clears, 3 notices, 1 entries without a user, "
        "2 blank lines, 4 unreadable lines, 16 messages written",
        "files found                           2",
        "files skipped                         0",
        "files read                            2",
        "messages                             28",
        "timeouts                              6",
        "bans                                  5",
        "clears                                3",
        "notices                               5",
        "deletions                             1",
        "other IRC commands                    4",
        "lines of the program                  0",
        "from shared chats                     1",
        "written by bots                       0",
        "entries without a user                1",
        "entries without text                  0",
        "blank lines                           2",
        "unreadable lines                      4",
        "messages written                     28",
        "lines with invalid UTF-8              1",
        "invisible suffixes removed            2",
        "messages cut                          0",
        "unreadable: logs/some_channel.txt:32, logs/some_channel.txt:33, logs/some_channel.txt:34, "
        "logs/some_channel.txt:35",
        "no dates, as neither the lines nor the name of the file have them: logs/deep/raw_irc.txt.gz",
    ]


def test_only_the_first_unreadable_lines_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("[2024-03-7 21:05:09] #c u: hi\n" + "?\n" * 6)
    *_, last = run("parse_logs.py", "--logs-dir", tmp_path, "--output-dir", tmp_path).stderr.splitlines()
    assert last == f"unreadable: {', '.join(f'{tmp_path}/a.txt:{number}' for number in range(2, 7))} ..."


def test_a_shared_chat_is_in_the_log_of_its_channel_only(tmp_path):
    """What an opted-out user said in one of two channels that share their chats is in no CSV, too."""
    line = "@room-id={};source-room-id={};tmi-sent-ts=1709845509000 :u!u@u.tmi.twitch.tv PRIVMSG #{} :said in {}\n"
    logs = tmp_path / "logs"
    logs.mkdir()
    for room, channel in ((1, "a"), (2, "b")):
        (logs / f"{channel}.txt").write_text("".join(line.format(room, source, channel, source) for source in (1, 2)))
    done = run("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw")
    assert re.search("^messages  +2$.*^from shared chats  +2$", done.stderr, re.MULTILINE | re.DOTALL)
    rows = [(tmp_path / f"raw/{channel}.csv").read_text().splitlines()[1] for channel in "ab"]
    assert rows == ["2024-03-07,21:05:09,a,u,said in 1", "2024-03-07,21:05:09,b,u,said in 2"]


def test_the_days_that_the_loop_in_the_manual_downloads_have_the_channel_of_their_name(tmp_path):
    """The JSON lines of rustlog have only the number of the room."""
    (tmp_path / "logs").mkdir()
    for day in (1, 10):
        entry = (
            f'{{"text":"hi","displayName":"U","timestamp":"2024-03-{day:02}T21:05:09Z","tags":{{"room-id":"12345"}}}}'
        )
        (tmp_path / f"logs/somechannel-2024-03-{day}.txt").write_text(entry + "\r\n")
    run("parse_logs.py", "--logs-dir", tmp_path / "logs", "--output-dir", tmp_path / "raw")
    rows = [(tmp_path / f"raw/somechannel-2024-03-{day}.csv").read_text().splitlines()[1] for day in (1, 10)]
    assert rows == [f"2024-03-{day},21:05:09,somechannel,U,hi" for day in ("01", "10")]


def test_a_log_of_irc_without_tags_is_chat_without_a_time(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/bot.txt").write_text(":ann!ann@ann.tmi.twitch.tv PRIVMSG #chan :hello there\r\n")
    run("parse_logs.py", "--logs-dir", tmp_path / "logs", "--output-dir", tmp_path / "raw", "--drop-moderated")
    assert (tmp_path / "raw/bot.csv").read_text().splitlines()[1:] == ['"","",chan,ann,hello there']


def test_any_number_of_jobs_gives_the_same(tmp_path):
    for jobs in (1, 3):
        results, skipped, stale = parse_logs(ROOT / "data/sample_logs", tmp_path / str(jobs), jobs)
        total = sum((result.counts for result in results.values()), Counter())
        assert (len(results), total["messages"], total["unreadable lines"], skipped, stale) == (12, 48_000, 0, {}, [])
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


ALL_FILTERS = {"drop_moderated": True, "min_user_messages": 3, "exclude_users": {"u1"}, "drop_links": True}
TYPED = ["hi", "see a.com", "caf\u00e9 \U0001f602", "a, b", 'say "hi"', "suffix \U000e0000"]
CUT_LINES = st.one_of(
    st.builds(
        "[2024-03-{} 21:05:09] #{} u{}{}".format,
        st.sampled_from("78"),
        st.sampled_from("cd"),
        st.integers(0, 3),
        st.sampled_from([*(f": {text}" for text in TYPED), " has been banned", " has been timed out for 5 seconds"]),
    ),
    st.sampled_from(["?", "", "\udcff", "x" * 200, ":u!u@u PRIVMSG #c :without a day", '{"type": 1}']),
)


@given(
    st.lists(CUT_LINES, min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(20, 900), st.integers(20, 900)), min_size=1, max_size=3),
    st.sampled_from([{}, ALL_FILTERS, {"min_user_messages": 2}]),
)
def test_where_logs_are_cut_changes_nothing(lines, cuts, filters):
    """Neither the CSVs nor the counts, the notes and the lines that are named: parts and chunks of any size."""
    data = "".join(f"{line}\n" for line in ["[2024-03-7 21:05:09] #c v: hi"] * 3 + lines).encode(
        errors="surrogateescape"
    )
    outcomes = []
    for sizes in [(1 << 20, 1 << 20), *cuts]:
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr("chatter.logs.reading.CHUNK_BYTES", sizes[0])
            patch.setattr("chatter.logs.reading.PART_BYTES", sizes[1])
            patch.setattr("parse_logs.PART_BYTES", sizes[1])
            log, csv_path = Path(folder, "log.txt"), Path(folder, "log.csv")
            log.write_bytes(data)
            with open_workers(2, 0, ()) as workers:
                results, errors = parse_all({log: csv_path}, Options(filters), workers, Path(folder))
            assert not errors
            outcomes.append((csv_path.read_bytes(), results[log]))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_processes_give_the_same_as_threads(tmp_path, monkeypatch):
    """For logs in each format, with facts about whole logs, for one large log, and for one that is damaged."""
    shutil.copytree(GOLDEN, logs := tmp_path / "logs")
    (logs / "large.txt").write_bytes(b"".join(map(Path.read_bytes, sorted((ROOT / "data/sample_logs").iterdir()))))
    (logs / "damaged.txt.gz").write_bytes(b"no gzip")
    outcomes = []
    for number, (jobs, small, part_bytes) in enumerate([(1, 1 << 40, 1 << 40), (3, 0, 100_000)]):
        monkeypatch.setattr("chatter.workers.SMALL", small)
        monkeypatch.setattr("chatter.logs.reading.PART_BYTES", part_bytes)
        monkeypatch.setattr("parse_logs.PART_BYTES", part_bytes)
        outcomes.append(parse_logs(logs, tmp_path / str(number), jobs, ALL_FILTERS, mask=True))
    assert outcomes[0] == outcomes[1] and contents(tmp_path / "0") == contents(tmp_path / "1")
    results, skipped, _ = outcomes[0]
    assert results[logs / "large.txt"].counts["moderated"] > 100
    assert "is not a .gz file" in skipped[logs / "damaged.txt.gz"]


@pytest.fixture
def large_logs(tmp_path):
    """Logs that are large enough for several processes."""
    (tmp_path / "logs").mkdir()
    data = b"".join(map(Path.read_bytes, sorted((ROOT / "data/sample_logs").iterdir())))
    (tmp_path / "logs/large.txt").write_bytes(data * (2 * SMALL // len(data)))
    return tmp_path / "logs"


@pytest.mark.parametrize(("number", "options"), [(signal.SIGINT, []), (signal.SIGTERM, ["--drop-moderated"])])
def test_a_stopped_run_ends_its_processes_and_leaves_nothing(number, options, large_logs, tmp_path):
    """Also if the signal goes to all of them, as Ctrl-C in a terminal does."""
    process = start(
        "parse_logs.py", "--logs-dir", large_logs, "--output-dir", tmp_path / "out", *options, start_new_session=True
    )
    wait_for(
        lambda: [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.stat().st_size], process
    )
    os.killpg(process.pid, number)
    word, code = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}[number]
    assert process.communicate(timeout=60)[1] == f"parse_logs.py: {word}\n".encode()
    assert process.returncode == code and not any((tmp_path / "out").iterdir())


def test_ctrl_c_at_any_moment_is_one_line(large_logs, tmp_path):
    """Also while processes start."""
    for delay in range(4, 13, 2):
        command = ["parse_logs.py", "--logs-dir", large_logs, "--output-dir", tmp_path / "out"]
        process = start(*command, start_new_session=True)
        time.sleep(delay / 20)
        if process.poll() is not None:  # a fast machine
            break
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=60)[1] in (b"parse_logs.py: interrupted\n", b"")
        assert process.returncode in (130, -signal.SIGINT)  # the latter before its first line
    assert delay > 4


def test_a_killed_process_ends_the_run_in_one_line(large_logs, tmp_path):
    process = start("parse_logs.py", "--logs-dir", large_logs, "--output-dir", tmp_path / "out")
    wait_for(lambda: [path for path in (tmp_path / "out").rglob("*.csv") if path.stat().st_size], process)
    workers = [each for each in psutil.Process(process.pid).children(recursive=True) if each.memory_info().rss > 3e7]
    workers[-1].kill()
    assert process.communicate(timeout=60)[1] == (
        b"parse_logs.py: error: a process was killed, probably for lack of memory. Pass a lower --jobs.\n"
    )
    assert process.returncode == 1 and not any((tmp_path / "out").iterdir())


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


def test_ctrl_c_ends_in_one_line_and_leaves_what_was_there(tmp_path):
    logs, out = tmp_path / "logs", tmp_path / "out"
    for copy in range(10):
        shutil.copytree(ROOT / "data/sample_logs", logs / str(copy))
        for log in (logs / str(copy)).iterdir():  # a copy would not be read
            log.write_text(log.read_text() + line(f"copy {copy}"))
    process = start("parse_logs.py", "--logs-dir", logs, "--output-dir", out)
    wait_for(lambda: [*out.rglob("*.csv")], process)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b"parse_logs.py: interrupted\n"
    assert process.returncode == 130
    assert not any(out.iterdir())


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
    endings = f".{', .'.join(SUFFIXES[:-1])} or .{SUFFIXES[-1]}"
    assert f"no {endings} file, compressed or not, in {tmp_path}/logs. Put your logs there." in error()


def test_no_message(error, tmp_path):
    """Nor are CSVs left that have none."""
    (tmp_path / "logs/a.txt").write_text("nothing to read\n")
    message = error()
    assert f"no chat messages in {tmp_path}/logs. {tmp_path}/logs/a.txt begins 'nothing to read'. The near" in message
    assert message.endswith("or to a CSV with the columns time, username and message.")
    assert not any((tmp_path / "raw").iterdir())


def test_the_options_leave_out_everything(error, tmp_path):
    assert "the options leave out all chat messages in" in error("--exclude-users", "u")
    assert not any((tmp_path / "raw").iterdir())


def test_an_output_dir_that_cannot_be_made(error, tmp_path):
    assert "a.txt" in error("--output-dir", tmp_path / "logs/a.txt/raw")


def test_a_damaged_gz_with_strict(error, tmp_path):
    (tmp_path / "logs/b.txt.gz").write_bytes(gzip.compress(b"[2024-03-7 21:05:09] #c u: hi\n" * 1000)[:-9])
    assert "b.txt.gz is damaged" in error("--strict")
    assert not (tmp_path / "raw/b.csv").exists() and not [*(tmp_path / "raw").glob(".*")]


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
        format_name: parse_logs(SHARED / "chat" / format_name, folder / format_name, jobs=2)
        for format_name in ("justlog", "rustlog", "raw_irc")
    }


@needs_shared
def test_every_line_of_real_logs_is_counted_and_readable(real):
    for results, skipped, _ in real[1].values():
        for log, result in results.items():
            assert sum(result.counts[kind] for kind in KINDS) == log.read_bytes().count(b"\n")
            assert result.unreadable == []
        assert skipped == {}


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


def parse_command(folder, *args, **kwargs):
    return run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", *args, cwd=folder, **kwargs)


@pytest.fixture
def logs(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.txt").write_text(LINE)
    return tmp_path / "logs"


def summary_of(done):
    return dict(re.findall(r"^(.+?)  +([0-9,]+)$", done.stderr, re.MULTILINE))


def test_options_that_leave_nothing_leave_the_csvs_of_an_earlier_run(logs, tmp_path):
    parse_command(tmp_path)
    before = contents(tmp_path / "raw")
    done = parse_command(tmp_path, "--exclude-users", "u", check=False)
    assert done.returncode == 1 and "the options leave out all chat messages" in done.stderr
    (logs / "a.txt").write_text("nothing to read\n")
    assert parse_command(tmp_path, check=False).returncode == 1
    (logs / "a.txt").write_text(LINE)
    (logs / "b.txt.gz").write_bytes(b"not gzip")
    assert parse_command(tmp_path, "--strict", check=False).returncode == 1
    assert contents(tmp_path / "raw") == before


def test_a_folder_or_a_table_of_somebody_else_in_the_way_is_refused(logs, tmp_path):
    (tmp_path / "raw/a.csv").mkdir(parents=True)
    (tmp_path / "raw/a.csv/notes.txt").write_text("mine")
    done = parse_command(tmp_path, check=False)
    assert "raw/a.csv was not written by parse_logs.py and would be replaced" in done.stderr
    assert (tmp_path / "raw/a.csv/notes.txt").read_text() == "mine"
    shutil.rmtree(tmp_path / "raw/a.csv")
    (tmp_path / "raw/a.csv").write_text("name,age\nann,30\n")
    assert "raw/a.csv was not written by parse_logs.py" in parse_command(tmp_path, check=False).stderr
    assert (tmp_path / "raw/a.csv").read_text() == "name,age\nann,30\n"


def test_a_csv_whose_log_is_gone_is_named_and_pruned_on_demand(logs, tmp_path):
    (logs / "optout.txt").write_text(line("leave me out"))
    parse_command(tmp_path)
    (logs / "optout.txt").unlink()
    (tmp_path / "raw/other.csv").write_text("name,age\n")
    done = parse_command(tmp_path)
    assert done.stderr.splitlines()[-1] == (
        "CSVs whose logs are gone (tokenize_logs.py reads them, --prune deletes them): raw/optout.csv"
    )
    assert (tmp_path / "raw/optout.csv").exists()
    assert parse_command(tmp_path, "--prune").stderr.splitlines()[-1] == "deleted: raw/optout.csv"
    assert without_manifest(contents(tmp_path / "raw")) == {"a.csv", "other.csv"}


def test_every_file_is_read_or_skipped_with_a_reason(logs, tmp_path):
    (logs / "deep").mkdir()
    for name in ("B.TXT", "deep/d.Log"):
        (logs / name).write_text(line(name))
    (logs / "c.TXT.gz").write_bytes(gzip.compress(line("c").encode()))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/e.txt").write_text(line("e"))
    (logs / "link").symlink_to(tmp_path / "elsewhere")
    (logs / "loop").symlink_to(logs)
    (logs / "file.txt").symlink_to(tmp_path / "elsewhere/e.txt")
    (logs / "broken.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(logs / "pipe.txt")
    (logs / "notes.md").touch()
    done = parse_command(tmp_path, "--verbose")
    summary = summary_of(done)
    assert (summary["files found"], summary["files skipped"], summary["files read"]) == ("10", "5", "5")
    assert summary["messages"] == "5"
    [skipped] = re.findall("^skipped: (.*)$", done.stderr, re.MULTILINE)
    assert skipped == (
        "logs/broken.txt (a broken link), logs/link/e.txt (a link to a file or folder that is read already), "
        "logs/loop (a link to a file or folder that is read already), logs/notes.md (not named like a log), "
        "logs/pipe.txt (not a regular file)"
    )
    csvs = {path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*.csv")}
    assert csvs == {"a.csv", "B.csv", "c.csv", "deep/d.csv", "file.csv"}


def test_a_folder_that_may_not_be_read_is_skipped_and_named(logs, tmp_path):
    (logs / "locked").mkdir(mode=0)
    done = parse_command(tmp_path, launcher=WITHOUT_RIGHTS)
    assert "skipped: logs/locked (Permission denied)" in done.stderr


def test_files_whose_properties_may_not_be_read_stop_nothing(logs, tmp_path):
    """A link into a folder that may not be entered, and a folder whose names may be read, and nothing else."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/x.txt").write_text(LINE)
    (logs / "x.txt").symlink_to(tmp_path / "secret/x.txt")
    (logs / "listed").mkdir()
    (logs / "listed/y.txt").write_text(LINE)
    (tmp_path / "secret").chmod(0)
    (logs / "listed").chmod(0o444)
    done = parse_command(tmp_path, launcher=WITHOUT_RIGHTS)
    assert "logs/listed/y.txt (Permission denied)" in done.stderr and "logs/x.txt (a broken link)" in done.stderr
    assert summary_of(done)["messages written"] == "1"


def test_strange_names_of_files(logs, tmp_path):
    (logs / ("x" * 250 + ".txt")).write_text(line("long name"))
    (logs / "line\nbreak.txt").write_text(LINE + "unreadable\n")
    with open(os.fsencode(logs) + b"/not \xff utf-8.txt", "w") as file:
        file.write(LINE + "not readable\n")
    done = parse_command(tmp_path, "--verbose")
    assert summary_of(done)["messages written"] == "4"
    assert r"line\nbreak.txt:2" in done.stderr and r"line\nbreak.txt: 1 messages" in done.stderr
    assert len(without_manifest(contents(tmp_path / "raw"))) == 4
    assert run("tokenize_logs.py", "--help").returncode == 0


def test_a_log_of_lone_carriage_returns_is_named_and_the_advice_works(logs, tmp_path):
    (logs / "a.txt").write_bytes(LINE.replace("\n", "\r").encode() * 1000)
    errors = parse_command(tmp_path, check=False).stderr
    assert "logs/a.txt has lines that end with a carriage return alone. Convert the file" in errors
    [command] = re.findall(r"for example with (tr .*)\.\n", errors)
    (logs / "a.txt").rename(logs / "old.txt")
    subprocess.run(["sh", "-c", command], cwd=logs, check=True)
    (logs / "old.txt").unlink()
    assert summary_of(parse_command(tmp_path))["messages written"] == "1,000"


def test_one_line_may_end_with_a_carriage_return_alone(logs, tmp_path):
    (logs / "a.txt").write_bytes(LINE.replace("\n", "\r").encode())
    assert summary_of(parse_command(tmp_path))["messages written"] == "1"


def test_logs_in_utf_16_are_read_by_their_mark(logs, tmp_path):
    (logs / "a.txt").write_text(LINE.replace("hi", "привет 😂"), encoding="utf-16")
    (logs / "b.json").write_text(
        '{"comments": [{"created_at": "2024-03-07T21:05:09Z", "commenter": {"name": "u"}, "message": {"body": "hé"}}]}',
        encoding="utf-16",
    )
    (logs / "c.csv").write_text("user;message\nu;hé\n", encoding="utf-16")
    assert summary_of(parse_command(tmp_path))["messages written"] == "3"
    rows = {path.stem: path.read_text().splitlines()[1:] for path in (tmp_path / "raw").glob("*.csv")}
    assert rows == {
        "a": ["2024-03-07,21:05:09,c,u,привет 😂"],
        "b": ['2024-03-07,21:05:09,"",u,hé'],
        "c": ['"","","",u,hé'],
    }


def test_a_message_of_30_mb_is_cut_counted_and_named(logs, tmp_path):
    (logs / "a.txt").write_bytes(LINE.encode() + b"[2024-03-7 21:05:09] #c u: " + "яx".encode() * 10_000_000 + b"\n")
    done = parse_command(tmp_path, fresh=True)  # which starts processes
    assert summary_of(done)["messages cut"] == "1"
    assert "cut to 65,536 bytes: logs/a.txt:2\n" in done.stderr
    rows = (tmp_path / "raw/a.csv").read_text().splitlines()
    assert len(rows[2].encode()) == len("2024-03-07,21:05:09,c,u,") + 65_535  # no character is cut in half
    model = ["--model", ROOT / "models/tiny-gpt2", "--block-size", 16]
    run("tokenize_logs.py", "--input-dir", tmp_path / "raw", "--output-dir", tmp_path / "out", *model)


def test_a_log_without_line_breaks_is_split_at_its_stamps(logs, tmp_path):
    """Unless a stamp is out of order, as somebody typed it."""
    texts = [f"message {n}" for n in range(20_000)]
    texts[100] = "as said at [0:00:01] Ann: hi"
    texts[200] = "at [99:00:01] Ann: will be happy"
    stamps = [f"[{n // 3600}:{n // 60 % 60:02}:{n % 60:02}]" for n in range(20_000)]
    users = ["Ann" if n % 3 else "Bob" for n in range(20_000)]
    chat = "".join(f"{stamp} {user}: {text}" for stamp, user, text in zip(stamps, users, texts, strict=True))
    (logs / "a.txt").write_text(chat)
    for filters in ([], ["--drop-moderated"]):
        assert summary_of(parse_command(tmp_path, *filters))["messages written"] == "20,000"
        with (tmp_path / "raw/a.csv").open(newline="") as rows:
            assert [row[3:] for row in csv.reader(rows)][1:] == [[*each] for each in zip(users, texts, strict=True)]


def test_timeouts_in_a_log_without_line_breaks_are_found(logs, tmp_path):
    chat = [
        f"[2024-03-7 21:{n // 60:02}:{n % 60:02}] #c {'bad' if n == 3000 else 'good'}: message {n}" for n in range(3599)
    ]
    chat[3100:3100] = ["[2024-03-7 21:51:40] #c bad has been banned"]
    (logs / "a.txt").write_text("".join(chat))
    summary = summary_of(parse_command(tmp_path, "--drop-moderated"))
    assert (summary["messages"], summary["bans"], summary["moderated"]) == ("3,599", "1", "1")


def test_excluded_users_in_any_file_and_those_who_said_nothing(logs, tmp_path):
    """With a byte order mark, commas, comments, UTF-16."""
    (logs / "a.txt").write_text("".join(LINE.replace("u:", f"user{n}:") for n in range(5)))
    (tmp_path / "bom.txt").write_text("user0, user1\n", encoding="utf-8-sig")
    (tmp_path / "utf16.txt").write_text("# asked to be left out\nUSER2  # yesterday\n", encoding="utf-16")
    done = parse_command(tmp_path, "--exclude-users", "bom.txt", "utf16.txt", "nobody_else")
    assert summary_of(done)["from excluded users"] == "3"
    assert done.stderr.splitlines()[-1] == "--exclude-users without messages: nobody_else"
    assert [row.split(",")[3] for row in (tmp_path / "raw/a.csv").read_text().splitlines()[1:]] == ["user3", "user4"]


def test_the_suffix_of_clients_is_removed_and_emoji_stay_whole(logs, tmp_path):
    typed = ["twice \U000e0000", "twice\u034f", "I ❤\ufe0f", "flag \U0001f3f4\U000e0067\U000e007f"]
    (logs / "a.txt").write_text("".join(LINE.replace("hi", text) for text in typed))
    assert summary_of(parse_command(tmp_path))["invisible suffixes removed"] == "2"
    rows = (tmp_path / "raw/a.csv").read_text().splitlines()[1:]
    assert [row.split(",")[4] for row in rows] == ["twice", "twice", *typed[2:]]


def test_more_jobs_than_logs_are_no_more_threads(logs, tmp_path):
    assert summary_of(parse_command(tmp_path, "--jobs", 999_999))["messages written"] == "1"


def test_an_output_folder_that_is_a_link(logs, tmp_path):
    (tmp_path / "raw").symlink_to(tmp_path / "disk/real")
    for _ in range(2):
        parse_command(tmp_path)
    assert (tmp_path / "raw").is_symlink() and without_manifest(contents(tmp_path / "disk")) == {"real/a.csv"}


def test_prune_keeps_what_could_not_be_read_and_what_others_made(logs, tmp_path):
    """A log behind a link to a disk that is not there, a selection by hand, and CSVs of another folder of logs."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/b.txt").write_text(line("b"))
    (logs / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/c.txt").write_text(LINE)
    run("parse_logs.py", "--logs-dir", "more", "--output-dir", "raw", cwd=tmp_path)
    run("parse_logs.py", "--logs-dir", "more", "--output-dir", "raw/more", cwd=tmp_path)
    parse_command(tmp_path)
    shutil.copy(tmp_path / "raw/a.csv", tmp_path / "raw/by hand.csv")
    (tmp_path / "disk").rename(tmp_path / "away")
    done = parse_command(tmp_path, "--prune")
    assert "skipped: logs/link (a broken link)" in done.stderr and "deleted" not in done.stderr
    kept = {"a.csv", "link/b.csv", "c.csv", "more/c.csv", "by hand.csv"}
    assert without_manifest(contents(tmp_path / "raw")) == kept


@pytest.mark.parametrize("manifest", [None, "", "[]", '{"files": []}'])
def test_csvs_without_a_valid_manifest_are_known_by_their_header(manifest, logs, tmp_path):
    """They may be replaced, but none is deleted whose log is not known."""
    parse_command(tmp_path)
    (tmp_path / "raw/a.csv").rename(tmp_path / "raw/old.csv")
    (tmp_path / "raw" / MANIFEST).unlink()
    if manifest is not None:
        (tmp_path / "raw" / MANIFEST).write_text(manifest)
    (tmp_path / "raw/a.csv").write_text((tmp_path / "raw/old.csv").read_text() + "2024-03-07,21:05:09,c,u,older\n")
    parse_command(tmp_path, "--prune")
    assert without_manifest(contents(tmp_path / "raw")) == {"a.csv", "old.csv"}
    assert "older" not in (tmp_path / "raw/a.csv").read_text()


def test_a_link_to_a_log_is_not_read_twice(logs, tmp_path):
    (logs / "latest.txt").symlink_to("a.txt")
    (logs / "0").symlink_to("real")
    (logs / "real").mkdir()
    (logs / "real/b.txt").write_text(line("b"))
    summary = summary_of(parse_command(tmp_path))
    assert (summary["files read"], summary["files skipped"], summary["messages"]) == ("2", "2", "2")
    assert without_manifest(contents(tmp_path / "raw")) == {"a.csv", "real/b.csv"}


def test_a_copy_of_a_log_is_not_read(logs, tmp_path):
    """A copied folder, a hard link, a gzipped file beside its text: the first path is read, the others are named."""
    (logs / "a copy").mkdir()
    shutil.copy(logs / "a.txt", logs / "a copy/a.txt")
    os.link(logs / "a.txt", logs / "b.log")
    (logs / "a.txt.gz").write_bytes(gzip.compress(LINE.encode()))
    (logs / "other.txt").write_text(LINE.replace("hi", "ho"))  # of the same size
    (logs / "d-2024-03-07.txt").write_text("[21:05:09] d: hello, d\n")  # of another channel, as its name says
    (logs / "e-2024-03-07.txt").write_text("[21:05:09] d: hello, d\n")
    for name in ("empty.txt", "empty too.txt"):
        (logs / name).touch()
    done = parse_command(tmp_path)
    summary = summary_of(done)
    assert (summary["files found"], summary["files skipped"], summary["files read"]) == ("9", "3", "6")
    copies = [f"{name} (the same as logs/a copy/a.txt)" for name in ("logs/a.txt", "logs/a.txt.gz", "logs/b.log")]
    assert f"skipped: {', '.join(copies)}\n" in done.stderr
    names = {"a copy/a.csv", "other.csv", "d-2024-03-07.csv", "e-2024-03-07.csv", "empty.csv", "empty too.csv"}
    assert without_manifest(contents(tmp_path / "raw")) == names


def test_a_table_and_a_text_with_the_same_content_are_not_copies(logs, tmp_path):
    for suffix in ("csv", "txt"):
        (logs / f"table.{suffix}").write_text("username,message\nu,hi\n")
    assert summary_of(parse_command(tmp_path))["files read"] == "3"


def test_a_copy_whose_path_is_the_end_of_the_path_of_the_log_is_named(logs):
    (logs / "0").mkdir()
    shutil.copy(logs / "a.txt", logs / "0/a.txt")
    done = run("parse_logs.py", "--logs-dir", ".", "--output-dir", "raw", cwd=logs)
    assert "skipped: a.txt (the same as 0/a.txt)\n" in done.stderr


def test_a_copy_whose_csv_was_written_before_is_not_learned_twice(logs, tmp_path):
    (logs / "b.txt").write_text(line("b"))
    parse_command(tmp_path)
    shutil.copy(logs / "a.txt", logs / "b.txt")
    note = "also in raw/b.csv, which tokenize_logs.py reads and --prune deletes: logs/a.txt\n"
    assert parse_command(tmp_path).stderr.endswith(note)
    assert parse_command(tmp_path, "--prune").stderr.splitlines()[-1] == "deleted: raw/b.csv"
    assert without_manifest(contents(tmp_path / "raw")) == {"a.csv"}


def test_different_logs_whose_names_differ_in_their_endings_are_both_read(logs, tmp_path):
    """And if one of them goes, its neighbor, which gets the shorter name, is not learned twice."""
    (logs / "a.txt.gz").write_bytes(gzip.compress(line("gzipped").encode()))
    parse_command(tmp_path)
    assert (tmp_path / "raw/a.csv").read_text().endswith(",hi\n")
    assert (tmp_path / "raw/a.txt.gz.csv").read_text().endswith(",gzipped\n")
    (logs / "a.txt").unlink()
    done = parse_command(tmp_path)
    assert (tmp_path / "raw/a.csv").read_text().endswith(",gzipped\n")
    assert "also in raw/a.txt.gz.csv, which tokenize_logs.py reads and --prune deletes: logs/a.txt.gz\n" in done.stderr


@pytest.mark.parametrize("options", [[], ["--prune"]])
def test_a_damaged_log_that_takes_the_name_of_one_that_is_gone_keeps_its_csv(options, logs, tmp_path):
    for name in "ab":
        (logs / f"{name}.txt.gz").write_bytes(gzip.compress(line(f"in {name}").encode()))
    parse_command(tmp_path)
    (logs / "a.txt").unlink()
    (logs / "a.txt.gz").write_bytes(b"\x1f\x8b\x08")
    stderr = parse_command(tmp_path, *options).stderr
    assert "raw/a.txt.gz.csv of an earlier run stays." in stderr and "raw/a.csv of an" not in stderr
    assert ("deleted: raw/a.csv\n" if options else "--prune deletes them): raw/a.csv\n") in stderr
    kept = {"b.csv": "b.txt.gz", "a.txt.gz.csv": "a.txt.gz"} | ({} if options else {"a.csv": "a.txt"})
    manifest = json.loads((tmp_path / "raw" / MANIFEST).read_text())
    assert manifest["logs"] == {name: str(logs / log) for name, log in kept.items()}
    assert without_manifest(contents(tmp_path / "raw")) == kept.keys()


def test_hidden_logs_are_skipped_as_tokenize_logs_would(logs, tmp_path):
    (logs / ".old").mkdir()
    for name in (".b.txt", ".old/c.txt"):
        (logs / name).write_text(LINE)
    assert "skipped: logs/.b.txt (hidden), logs/.old (hidden)" in parse_command(tmp_path).stderr


def test_a_gzipped_log_of_any_name(logs, tmp_path):
    (logs / "a.txt").write_bytes(gzip.compress(LINE.encode()))
    assert summary_of(parse_command(tmp_path))["messages"] == "1"


def test_a_log_whose_csv_would_be_the_folder_of_another(logs, tmp_path):
    (logs / "a.csv").mkdir()
    (logs / "a.csv/b.txt").write_text(line("b"))
    error = parse_command(tmp_path, check=False).stderr
    assert "logs/a.txt would become a.csv, the folder of logs/a.csv/b.txt. Rename one of them." in error


FORMS = {
    "chatterino.log": "# Start logging at 2024-03-07 21:00:00 CET\n[21:05:09] u: hi\n",
    "export.json": '{"video": {"user_name": "C"}, "comments": [{"created_at": "2024-03-07T21:05:09.123Z", '
    '"commenter": {"name": "u"}, "message": {"body": "hi"}}]}',
    "relative.txt": "[0:01:02] U: hi\n",
    "table.csv": "Who,Text\nu,hi\n",
}


@pytest.fixture
def formats(logs):
    for name, content in FORMS.items():
        (logs / name).write_text(content)
    return logs


def test_a_folder_of_many_formats(formats, tmp_path):
    """And what the user should know of each, once."""
    done = parse_command(tmp_path, "--columns", "message=Text,username=Who", "--drop-moderated", "--exclude-users", "x")
    rows = {path.stem: path.read_text().splitlines()[1:] for path in (tmp_path / "raw").glob("*.csv")}
    assert rows == {
        "a": ["2024-03-07,21:05:09,c,u,hi"],
        "chatterino": ['2024-03-07,21:05:09,"",u,hi'],
        "export": ["2024-03-07,21:05:09,c,u,hi"],
        "relative": ['"",00:01:02,"",U,hi'],
        "table": ['"","","",u,hi'],
    }
    summary = summary_of(done)
    assert (summary["messages"], summary["messages written"], summary["lines of the program"]) == ("5", "5", "1")
    assert done.stderr.splitlines()[-6:] == [
        "--drop-moderated has no effect, as this format does not tell whose messages were moderated: "
        "logs/export.json, logs/relative.txt, logs/table.csv",
        "--exclude-users compares display names, as this format has no logins: logs/relative.txt",
        "local times, as the log does not say their offset from UTC: logs/chatterino.log",
        "no dates, as neither the lines nor the name of the file have them: logs/table.csv",
        "times are offsets into the video, as its start is unknown: logs/relative.txt",
        "--exclude-users without messages: x",
    ]


def test_a_file_in_no_known_format_is_named_with_its_first_line(logs, tmp_path):
    (logs / "notes.txt").write_text("\nbuy milk\n")
    (logs / "package.json").write_text('{"name": "x", "comments": []}')
    (logs / "ages.csv").write_text("name,age\nann,30\n")
    done = parse_command(tmp_path)
    unknown = re.findall(r"^in no known format: (.*?) The nearest formats are .+", done.stderr, re.MULTILINE)
    assert unknown == [
        "logs/ages.csv begins 'name,age'.",
        "logs/notes.txt begins 'buy milk'.",
        'logs/package.json begins \'{"name": "x", "comments": []}\'.',
    ]
    summary = summary_of(done)
    assert (summary["unreadable lines"], summary["blank lines"], summary["messages"]) == ("4", "1", "1")


def test_bare_lines_are_read_on_request_only(logs, tmp_path):
    (logs / "bare.txt").write_text("u: hi\nU: u subscribed with Prime.\nno colon\n")
    assert summary_of(parse_command(tmp_path))["messages"] == "1"
    assert summary_of(parse_command(tmp_path, "--format", "bare"))["messages"] == "2"
    assert (tmp_path / "raw/bare.csv").read_text().splitlines()[1:] == ['"","","",u,hi']


def test_csvs_that_another_run_wrote_below_the_logs_are_no_logs(logs, tmp_path):
    """Only as the folder of logs itself are they read, for example to filter them."""
    run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "logs/raw", cwd=tmp_path)
    done = parse_command(tmp_path)
    assert summary_of(done)["messages"] == "1" and "logs/raw/a.csv (written by parse_logs.py)" in done.stderr
    done = run("parse_logs.py", "--logs-dir", "logs/raw", "--output-dir", "filtered", cwd=tmp_path)
    assert summary_of(done)["messages written"] == "1"


@pytest.mark.parametrize("options", [["--exclude-users", "ann"], ["--only-users", "bob", "--exclude-users", "carl"]])
def test_csvs_of_earlier_runs_lose_the_users_who_are_to_be_left_out(options, logs, tmp_path):
    """Whether their log is gone or damaged: tokenize_logs.py reads them."""
    text = log_line("c", "mine\n", user="ann") + log_line("c", 'yours, "too"', user="bob")
    (logs / "gone.txt").write_text(text)
    (logs / "damaged.txt.gz").write_bytes(gzip.compress(f"{text}\n{log_line('c', 'x', user='Ann')}".encode()))
    (logs / "b.txt").write_text(log_line("c", "hi", user="bob"))
    parse_command(tmp_path)
    (logs / "gone.txt").unlink()
    (logs / "damaged.txt.gz").write_bytes(b"\x1f\x8b\x08")
    done = parse_command(tmp_path, *options)
    for name, number in {"gone": 1, "damaged": 2}.items():
        rows = (tmp_path / f"raw/{name}.csv").read_text().splitlines()
        assert [row.split(",", 3)[3] for row in rows] == ["username,message", 'bob,"yours, ""too"""']
        assert f"raw/{name}.csv of an earlier run: {number} messages removed, as --" in done.stderr
    assert "of an earlier run: " not in parse_command(tmp_path, *options).stderr


def test_files_that_an_opt_out_does_not_reach_are_named(logs, tmp_path):
    """Of other programs, or copied without the manifest: tokenize_logs.py would read them."""
    (logs / "b.txt").write_text(log_line("c", "hi", user="bob"))
    (tmp_path / "raw/sub").mkdir(parents=True)
    (tmp_path / "raw/.hidden.csv").write_text("username,message\nann,hi\n")
    assert "not changed by" not in parse_command(tmp_path, "--exclude-users", "ann").stderr
    (tmp_path / "raw/sub/own.CSV").write_text("username,message\nann,hi\n")
    assert "not changed by" not in parse_command(tmp_path).stderr
    line = "not changed by --exclude-users, but read by tokenize_logs.py, as other programs wrote them: raw/sub/own"
    assert line in parse_command(tmp_path, "--exclude-users", "ann").stderr


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csvs_of_earlier_runs_lose_messages_without_a_user(mark, logs, tmp_path):
    """They may be anyone's. A program that saved the CSV again may have added a byte order mark, and damaged a row."""
    (logs / "b.txt").write_text(log_line("c", "hi", user="bob"))
    (logs / "table.csv").write_text("message\nfrom ann\n")
    parse_command(tmp_path)
    (logs / "table.csv").unlink()
    earlier = tmp_path / "raw/table.csv"
    earlier.write_text(mark + earlier.read_text() + '"","","",bob,hi,too many\n')
    parse_command(tmp_path, "--exclude-users", "ann")
    assert earlier.read_text().splitlines()[1:] == ['"","","",bob,hi,too many']


def test_a_file_in_the_place_of_an_earlier_csv_is_not_deleted(logs, tmp_path):
    (logs / "b.txt").write_text(log_line("c", "hi", user="bob"))
    (logs / "gone.txt").write_text(log_line("c", "hi", user="bob"))
    parse_command(tmp_path)
    (logs / "gone.txt").unlink()
    (tmp_path / "raw/gone.csv").write_text("mine\n")
    parse_command(tmp_path, "--prune")
    assert (tmp_path / "raw/gone.csv").read_text() == "mine\n"


def test_strict_stops_at_an_archive_or_folder_that_may_not_be_read(logs, tmp_path, monkeypatch):
    (logs / "a.zip").write_bytes(b"")
    monkeypatch.setattr("chatter.logs.folders.read_archive", lambda path: path.joinpath("x").stat())
    _, skipped, _ = parse_logs(logs, tmp_path / "raw", 1)
    assert skipped == {logs / "a.zip": "Not a directory"}
    with pytest.raises(InputError, match=r"a\.zip cannot be read: Not a directory\. Make it readable, or move it away"):
        parse_logs(logs, tmp_path / "raw", 1, strict=True)


def test_the_csv_of_a_damaged_log_loses_users_even_without_a_manifest(logs, tmp_path):
    (logs / "b.txt.gz").write_bytes(gzip.compress(log_line("c", "mine", user="ann").encode()))
    parse_command(tmp_path)
    (logs / "b.txt.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "raw" / MANIFEST).unlink()
    parse_command(tmp_path, "--exclude-users", "ann")
    assert "mine" not in (tmp_path / "raw/b.csv").read_text()


def test_a_csv_of_an_earlier_run_may_have_the_longest_name(logs, tmp_path):
    name = "x" * 251
    (logs / f"{name}.txt").write_text(log_line("c", "mine", user="ann") + "\n" + log_line("c", "yours", user="bob"))
    (logs / "b.txt").write_text(log_line("c", "hi", user="bob"))
    parse_command(tmp_path)
    (logs / f"{name}.txt").unlink()
    parse_command(tmp_path, "--exclude-users", "ann")
    assert [row.split(",")[3] for row in (tmp_path / f"raw/{name}.csv").read_text().splitlines()[1:]] == ["bob"]
    assert not [path for path in (tmp_path / "raw").iterdir() if path.name.startswith(".") and path.name != MANIFEST]


def test_csvs_that_were_written_beside_the_logs_are_no_logs(logs, tmp_path):
    for _ in range(2):
        done = run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "logs", cwd=tmp_path)
        assert summary_of(done)["messages"] == "1"
    assert "skipped: logs/a.csv (written by parse_logs.py)" in done.stderr or "a.csv (written" in done.stderr


@pytest.mark.parametrize("names", ["message", "message=", "text=Text", ""])
def test_wrong_names_of_columns(names):
    done = run("parse_logs.py", "--columns", names, check=False)
    assert done.returncode == 2 and "argument --columns: must be like message=Text,username=Who" in done.stderr


def test_a_table_that_names_no_users_is_skipped_while_users_are_left_out(logs, tmp_path):
    """And so is the CSV that an earlier run made of it, which may contain their messages."""
    (logs / "table.csv").write_text("message\nfrom ann\n")
    (logs / "logins.csv").write_text("user_login,message\nann,hi\nbob,hello\n")
    (logs / "names.csv").write_text("display_name,message\nAnn,hi\nBob,hello\n")
    parse_command(tmp_path)
    assert (tmp_path / "raw/table.csv").exists()
    done = parse_command(tmp_path, "--exclude-users", "ann")
    assert "skipped: logs/table.csv has no column of users, which --exclude-users needs. Name it with" in done.stderr
    assert "raw/table.csv of an earlier run was deleted." in done.stderr
    assert "compares display names, as this format has no logins: logs/names.csv\n" in done.stderr
    written = b"".join(contents(tmp_path / "raw").values())
    assert b"from ann" not in written and b",ann," not in written and b",Ann," not in written
    assert b",bob,hello" in written and b",Bob,hello" in written
    only = parse_command(tmp_path, "--only-users", "u", "--columns", "username=message").stderr
    assert "--only-users needs" not in only


def test_a_table_that_takes_the_name_of_a_log_that_is_gone_deletes_its_own_csv(logs, tmp_path):
    (logs / "b.json").write_text('[{"user": "bob", "message": "hi"}, {"user": "bob", "message": "ho"}]')
    (logs / "b.tsv").write_text("message\nfrom ann\n")
    parse_command(tmp_path)
    (logs / "b.json").unlink()
    assert "raw/b.tsv.csv of an earlier run was deleted." in parse_command(tmp_path, "--exclude-users", "ann").stderr
    assert without_manifest(contents(tmp_path / "raw")) == {"a.csv", "b.csv"}
    (logs / "a.tsv").write_text("message\nfrom ann\n")
    (logs / "a.txt").rename(tmp_path / "a.txt")
    parse_command(tmp_path)  # to a.csv, which a log with a better right to the name then replaces
    (tmp_path / "a.txt").rename(logs / "a.log")
    assert "of an earlier run" not in parse_command(tmp_path, "--exclude-users", "ann").stderr
    assert b",hi" in contents(tmp_path / "raw")["a.csv"]


def test_a_column_that_no_table_has(logs, tmp_path):
    (logs / "b.csv").write_text("user,said\nann,hi\n")
    (logs / "c.csv").write_text("user,message\nann,hi\n")
    error = parse_command(tmp_path, "--columns", "message=sayd", check=False)
    assert error.returncode == 1
    assert "no table has the column sayd of --columns message=sayd. Pass one of user, said, message." in error.stderr
    done = parse_command(tmp_path, "--columns", "message=SAID")
    assert "no column SAID, which --columns names: logs/c.csv\n" in done.stderr
    assert summary_of(done)["messages written"] == "3"
    for table in ("b.csv", "c.csv"):
        (logs / table).unlink()
    assert (
        "There are no tables: leave out --columns."
        in parse_command(tmp_path, "--columns", "message=said", check=False).stderr
    )


BAD = {
    "cut.txt.gz": gzip.compress(LINE.encode() * 1000)[:-9],
    "mac.txt": LINE.replace("\n", "\r").encode() * 9,
    "latin.csv": "user,message\nann,hé\n".encode("latin-1"),
    "quote.csv": b'user,message\nann,"hi, ""you"""\n' + b"bob,hi\n" * 9 + b'ann,"lol\n' + b"bob,hi\n" * 9000,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("options", [[], ["--min-user-messages", "2"]], ids=len)
def test_one_bad_file_stops_nothing_else(name, options, logs, tmp_path):
    (logs / "a.txt").write_text(LINE * 2)
    (logs / name).write_text("user,message\nu,hi\nu,hi\n" if name.endswith(".csv") else LINE * 2)
    if not name.endswith("gz"):
        parse_command(tmp_path)
    stem = name.split(".")[0]
    earlier = contents(tmp_path / "raw").get(f"{stem}.csv") if (tmp_path / "raw").exists() else None
    (logs / name).write_bytes(BAD[name])
    (logs / "a.txt").write_text(LINE * 3)
    done = parse_command(tmp_path, *options)
    summary = summary_of(done)
    assert (summary["files found"], summary["files skipped"], summary["messages written"]) == ("2", "1", "3")
    [skipped] = re.findall("^skipped: (.*)$", done.stderr, re.MULTILINE)
    assert f"logs/{name}" in skipped and ("of an earlier run stays." in skipped) == (earlier is not None)
    assert contents(tmp_path / "raw").get(f"{stem}.csv") == earlier
    assert (tmp_path / "raw/a.csv").read_text().count("\n") == 4


def test_strict_and_nothing_to_write_are_errors(logs, tmp_path):
    (logs / "b.txt.gz").write_bytes(BAD["cut.txt.gz"])
    assert "logs/b.txt.gz is damaged" in parse_command(tmp_path, "--strict", check=False).stderr
    assert not [*(tmp_path / "raw").glob("*.csv")]
    (logs / "a.txt").unlink()
    done = parse_command(tmp_path, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "logs/b.txt.gz is damaged" in done.stderr


def test_a_file_that_may_not_be_read_is_skipped(logs, tmp_path):
    (logs / "secret.txt").write_text(LINE)
    (logs / "secret.txt").chmod(0)
    done = parse_command(tmp_path, launcher=WITHOUT_RIGHTS)
    assert "skipped: logs/secret.txt cannot be read: Permission denied." in done.stderr
    assert summary_of(done)["messages written"] == "1"


def test_a_line_of_300_mb_takes_little_memory(logs, tmp_path):
    """It is cut while it is read."""
    with gzip.open(logs / "b.txt.gz", "wb", 1) as file:
        file.write(LINE.encode() + b"[2024-03-7 21:05:09] #c u: ")
        for _ in range(300):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + LINE.encode())
    measured = parse_command(tmp_path, launcher=[sys.executable, SPIES / "peak_memory.py"], fresh=True)
    assert summary_of(measured)["messages"] == "4" and summary_of(measured)["messages cut"] == "1"
    assert int(measured.stdout) < 200  # MB; one short line takes 70


def test_a_deletion_behind_a_line_that_is_split_takes_out_its_own_message(tmp_path):
    """The entries are numbered alike by all who read the log."""
    long = " ".join(
        f"[2024-03-07 21:{second // 60:02}:{second % 60:02}] #c ann: {second} {'x' * 20}" for second in range(1500)
    )
    tags = "@id={};tmi-sent-ts=1709845509000 :bob!bob@bob.tmi.twitch.tv PRIVMSG #c :"
    lines = [long, tags.format("a") + "stays", tags.format("b") + "goes"]
    lines.append("@login=bob;target-msg-id=b;tmi-sent-ts=1709845510000 :tmi.twitch.tv CLEARMSG #c :goes")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/c.txt").write_text("\n".join(lines) + "\n")
    run("parse_logs.py", "--logs-dir", tmp_path / "logs", "--output-dir", tmp_path / "raw", "--drop-moderated")
    messages = [line.rsplit(",", 1)[1] for line in (tmp_path / "raw/c.csv").read_text().splitlines()[1:]]
    assert len(messages) == 1501 and messages[-1] == "stays"
