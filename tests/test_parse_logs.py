"""parse_logs.py: every line read for what it is, every message kept to the letter."""

import csv
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT, SHARED, error_of, run
from hypothesis import given
from hypothesis import strategies as st

from parse_logs import parse_file, parse_line, parse_logs

GOLDEN = Path(__file__).parent / "golden"


def test_golden(tmp_path):
    counts = parse_file(GOLDEN / "some_channel.txt", tmp_path / "some_channel.csv")
    assert (tmp_path / "some_channel.csv").read_bytes() == (GOLDEN / "some_channel.csv").read_bytes()
    assert counts == {
        "files": 1,
        "messages": 15,
        "timeouts": 4,
        "bans": 4,
        "other events": 4,
        "blank lines": 2,
        "unreadable lines": 4,
    }


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("user: hi", "messages"),
        ("user:", "messages"),
        ("user:hi", "other events"),
        ("two words: hi", "other events"),
        ("user: somebody has been banned", "messages"),
        ("user: User has been banned", "bans"),
        ("user has been banned", "bans"),
        ("user has been banned for life", "other events"),
        ("user has been timed out for 600 seconds", "timeouts"),
        ("user has been timed out for a while", "other events"),
        ("user: has been timed out for 600 seconds", "messages"),
    ],
)
def test_kinds(event, kind):
    assert parse_line(f"[2024-03-7 21:05:09] #channel {event}")[0] == kind


# A logger ends a line at \n or \r\n and writes UTF-8: no message holds \n, ends in \r or has a lone surrogate.
typed = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")).map(lambda text: text.rstrip("\r"))
pieces = st.sampled_from([b"[2024-03-7 21:05:09]", b" #c", b" u:", b" u has been banned", b"\n", b"\r", b"\0", b"\xff"])


@given(st.lists(typed), st.sampled_from(["\n", "\r\n"]))
def test_any_message_comes_back(messages, line_end):
    with tempfile.TemporaryDirectory() as folder:
        log, table = Path(folder, "log.txt"), Path(folder, "log.csv")
        log.write_bytes("".join(f"[2024-03-7 21:05:09] #c u: {text}{line_end}" for text in messages).encode())
        parse_file(log, table)
        with table.open(encoding="utf-8", newline="") as rows:
            assert [row["message"] for row in csv.DictReader(rows)] == messages


@given(st.binary() | st.lists(pieces).map(b"".join))
def test_any_bytes_conserve_lines(data):
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.txt")
        log.write_bytes(data)
        counts = parse_file(log, Path(folder, "log.csv"))
        assert counts.total() - counts["files"] == len(data.split(b"\n")) - data.endswith(b"\n") - (not data)


def test_command(tmp_path):
    done = run("parse_logs.py", "--logs-dir", GOLDEN, "--output-dir", tmp_path / "raw", "--jobs", 2)
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "files                       1",
        "timeouts                    4",
        "bans                        4",
        "messages                   15",
        "other events                4",
        "blank lines                 2",
        "unreadable lines            4",
    ]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["some_channel.csv"]


def test_any_number_of_jobs_gives_the_same(tmp_path):
    for jobs in (1, 3):
        counts = parse_logs(ROOT / "data/sample_logs", tmp_path / str(jobs), jobs)
        assert (counts["files"], counts["messages"], counts["unreadable lines"]) == (12, 48_000, 0)
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "3" / path.name).read_bytes()


def test_errors(tmp_path):
    assert "nowhere is no folder" in error_of("parse_logs.py", "--logs-dir", tmp_path / "nowhere")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "notes.md").write_text("not a log")
    assert "no .txt or .log file" in error_of("parse_logs.py", "--logs-dir", logs)
    (logs / "a.txt").write_text("nothing to read\n")
    assert "no chat message" in error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []
    (logs / "a.txt").write_text("[2024-03-7 21:05:09] #c u: hi\n")
    assert "notes.md" in error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", logs / "notes.md" / "raw")
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
    counts = parse_logs(SHARED / "chat/justlog", tmp_path / "justlog", jobs=2)
    assert counts["unreadable lines"] == 0
    # The same day as the other logger writes it: padded days, CRLF, names repeated.
    parse_logs(SHARED / "chat/rustlog", tmp_path / "rustlog", jobs=2)
    riot = "riotgames-2016-09-30.csv"
    assert (tmp_path / "justlog" / riot).read_bytes() == (tmp_path / "rustlog" / riot).read_bytes()
