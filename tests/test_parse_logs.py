"""parse_logs.py: every line read for what it is, every message kept to the letter."""

import csv
import gzip
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
import pytest
from conftest import ROOT, SHARED, error_of, run
from hypothesis import given
from hypothesis import strategies as st

from parse_logs import KINDS, Filters, parse_file, parse_line, parse_lines, parse_logs, written_beside

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
    assert counts == Counter({"files": 1, "messages written": counts["messages"]} | GOLDEN_COUNTS[log])
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
tags = st.lists(
    st.sampled_from(
        ["id=1", "tmi-sent-ts=1709845509000", "tmi-sent-ts=17", "rm-received-ts=1709845509999", "x-tmi", ""]
    )
).map(";".join)
prefixes = st.sampled_from([":u!u@u.tmi.twitch.tv", ":ユーザー!u@u", ":u", ":!u", ":\u3000u!u", ":a\x85b!u"])
typed_in_irc = words | st.sampled_from(["\x01ACTION waves\x01", " ", ":)"])
made_up_irc = st.builds(
    "@{}{}{} PRIVMSG #{} {}{}".format,
    tags,
    st.sampled_from([" ", "  "]),
    prefixes,
    names,
    st.sampled_from([":", ""]),
    typed_in_irc,
)


@given(st.lists(made_up | made_up_irc | typed.filter(lambda text: not text.endswith("\U000e0000"))))
def test_by_the_column_is_the_same_as_line_by_line(lines):
    messages, counts, unreadable = parse_lines(polars.Series("line", lines, dtype=polars.String))
    expected = [parse_line(line) for line in lines]
    assert [list(row) for row in messages.iter_rows()] == [
        [number, *row] for number, (kind, row) in enumerate(expected) if kind == "messages"
    ]
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
    for name in ["some_channel", "deep/raw_irc"]:
        assert (tmp_path / f"raw/{name}.csv").read_bytes() == (GOLDEN / f"{Path(name).name}.csv").read_bytes()


events = st.tuples(
    st.sampled_from(["2024-03-7", "2024-03-8"]),
    st.sampled_from("cd"),
    st.sampled_from("uvw"),
    st.sampled_from([": hi"] * 6 + [" has been timed out for 5 seconds", " has been banned", ": {} has been banned"]),
)


@given(st.lists(events, max_size=60), st.integers(1, 4), st.integers(50, 2000))
def test_drop_moderated_is_what_the_definition_says(events, timeout_lines, chunk_bytes):
    """Beside a slow search backwards from each event; with few lines and small chunks, so that borders are crossed."""
    texts = [text.format(user.upper()) for _, _, user, text in events]
    left_out = set()
    for last, (date, channel, user, _) in enumerate(events):
        if texts[last] == ": hi":
            continue
        before = [number for number in range(last) if events[number][1] == channel]
        if "timed out" in texts[last]:
            before = before[-timeout_lines:]
        else:
            before = [number for number in before if events[number][0] == date]
        left_out |= {number for number in before if texts[number] == ": hi" and events[number][2] == user}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("parse_logs.TIMEOUT_LINES", timeout_lines)
        patch.setattr("parse_logs.CHUNK_BYTES", chunk_bytes)
        log, table = Path(folder, "log.txt"), Path(folder, "log.csv")
        log.write_text(
            "".join(
                f"[{date} 21:05:09] #{channel} {user}{text}\n"
                for (date, channel, user, _), text in zip(events, texts, strict=True)
            )
        )
        counts, _ = parse_file(log, table, Filters(drop_moderated=True))
        kept = [
            f"{events[number][0].replace('-03-', '-03-0')},21:05:09,{events[number][1]},{events[number][2]},hi"
            for number, text in enumerate(texts)
            if text == ": hi" and number not in left_out
        ]
        assert table.read_text().splitlines()[1:] == kept
        assert (counts["moderated"], counts["messages written"]) == (len(left_out), len(kept))


CHAT = """\
[2024-03-7 21:05:01] #c Nightbot: Follow me at twitter.com/c
[2024-03-7 21:05:02] #c ann: !discord
[2024-03-7 21:05:03] #c ann: !!! wow!
[2024-03-7 21:05:04] #c bob: look: clips.example.tv/abc
[2024-03-7 21:05:05] #c bob: HTTP://example.org
[2024-03-7 21:05:06] #c bob: see what I mean...nothing. 3.5/10 and/or
[2024-03-7 21:05:07] #c ann: @bob hi @cat, mail a@example or @
[2024-03-7 21:05:08] #c Cat: once
[2024-03-7 21:05:09] #d dan: rude
[2024-03-7 21:05:10] #d dan has been timed out for 600 seconds
[2024-03-7 21:05:11] #d dan: !sorry www.example.net
"""


@pytest.mark.parametrize(
    ("options", "left_out", "counts"),
    [
        ([], [], {}),
        (["--exclude-bots"], [1], {"from excluded users": 1}),
        (["--exclude-users", "@BOB", "users.txt"], [4, 5, 6, 8], {"from excluded users": 4}),
        (["--drop-commands"], [2, 11], {"commands": 2}),
        (["--drop-links"], [1, 4, 5, 11], {"with links": 4}),
        (["--min-user-messages", "2"], [1, 8], {"from rare users": 2}),
        (["--drop-moderated"], [9], {"moderated": 1}),
        (
            ["--drop-commands", "--drop-links", "--min-user-messages", "3", "--drop-moderated"],
            [1, 2, 4, 5, 8, 9, 11],
            {"moderated": 1, "from rare users": 3, "commands": 1, "with links": 2},
        ),
    ],
)
def test_filters(options, left_out, counts, tmp_path):
    """Line by line, what each option leaves out; each message counts once."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/chat.txt").write_text(CHAT)
    (tmp_path / "users.txt").write_text("cat\nsomebody_else\n")
    done = run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", *options, cwd=tmp_path)
    rows = (tmp_path / "raw/chat.csv").read_text().splitlines()[1:]
    messages = set(range(1, 12)) - {10}
    assert [int(row.split(",")[1][-2:]) for row in rows] == sorted(messages - set(left_out))
    summary = dict(re.match(r"(.+?) +([0-9]+)$", line).groups() for line in done.stderr.splitlines())
    reasons = {"from excluded users", "moderated", "from rare users", "commands", "with links"}
    assert {reason: int(summary[reason]) for reason in reasons & set(summary)} == counts
    assert int(summary["messages"]) == sum(counts.values()) + int(summary["messages written"])


def test_rare_users_are_counted_over_all_logs_and_mentions_are_masked(tmp_path):
    (tmp_path / "a.txt").write_text("[2024-03-7 21:05:09] #c u: hi @bob, mail a@example or @\n")
    (tmp_path / "b.txt").write_text("[2024-03-7 21:05:09] #c U: @Bob @ünal\n[2024-03-7 21:05:09] #c v: hi\n")
    parse_logs(tmp_path, tmp_path, 1, Filters(min_user_messages=2, mask_mentions=True))
    texts = [(tmp_path / name).read_text().splitlines()[1:] for name in ("a.csv", "b.csv")]
    assert texts == [
        ['2024-03-07,21:05:09,c,u,"hi @user, mail a@example or @"'],
        ["2024-03-07,21:05:09,c,U,@user @user"],
    ]


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
    for users in ("nobody.txt", "two words"):
        assert f"--exclude-users {users}: no such file" in error_of("parse_logs.py", "--exclude-users", users)
    error = error_of("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw", "--exclude-users", "u")
    assert "the options leave none of the chat messages" in error
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
def test_captured_events_land_in_their_class():
    """Beside the IRC command, its tags and its text, taken apart here without a pattern."""
    for line in (SHARED / "chat/raw_irc/events.raw.txt").read_bytes().decode().splitlines():
        tags, _, command, _, *text = (line if line.startswith("@") else f"@ {line}").split(maxsplit=4)
        if command == "USERNOTICE":
            expected = "messages" if text else "notices"
        elif command == "CLEARCHAT":
            expected = "clears" if not text else "timeouts" if "ban-duration=" in tags else "bans"
        else:  # one PRIVMSG has no sender: it is what a client sends, and nobody's message yet
            expected = {"PRIVMSG": "messages", "CLEARMSG": "deletions"}.get(command, "other IRC commands")
        assert parse_line(line)[0] == expected, line


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


def test_two_runs_at_once_do_not_tear_what_they_write(tmp_path):
    """A second process writes the same folder meanwhile; both end right, and what a dead one left is deleted."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".out.{dead.pid}.partial").mkdir()
    write = "import sys, pathlib, parse_logs\nwith parse_logs.written_beside(pathlib.Path(sys.argv[1])) as folder:\n"
    write += "    folder.mkdir(), (folder / 'file').write_text('theirs')"
    with written_beside(tmp_path / "out") as ours:
        ours.mkdir()
        subprocess.run([sys.executable, "-c", write, tmp_path / "out"], cwd=ROOT, check=True)
        assert (tmp_path / "out/file").read_text() == "theirs"
        (ours / "file").write_text("ours")
    assert (tmp_path / "out/file").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
