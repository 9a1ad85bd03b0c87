"""chatter/files.py: output is whole or not there, one run writes it at a time, and others' files are safe."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, contents, error_of, run, start, wait_for, write_csv

from chatter.command import InputError
from chatter.files import atomic_output, beside, check_replaceable, delete, locked


def test_delete_takes_files_folders_and_what_does_not_exist(tmp_path):
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "nowhere"):
        delete(tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_beside_is_a_hidden_file_in_the_same_folder(tmp_path, monkeypatch):
    assert beside(tmp_path / "a", "lock") == tmp_path / ".a.lock"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert beside(Path("."), "lock") == tmp_path / ".here.lock"


def test_a_file_is_replaced_at_the_end(tmp_path):
    final = tmp_path / "new/folder/file"
    with atomic_output(final) as partial:
        partial.write_text("old")
    with atomic_output(final) as partial:
        partial.write_text("new")
        assert final.read_text() == "old" and partial.parent == final.parent
    assert contents(tmp_path) == {"new/folder/file": b"new"}


def test_a_folder_is_replaced_at_the_end_as_a_whole(tmp_path):
    for name in ("a", "b"):
        with atomic_output(tmp_path / "out") as partial:
            partial.mkdir()
            (partial / name).touch()
            assert name == "a" or contents(tmp_path / "out") == {"a": b""}
    assert contents(tmp_path) == {"out/b": b""}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(error, tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(error), atomic_output(tmp_path / "file") as partial:
        partial.write_text("half")
        raise error
    assert contents(tmp_path) == {"file": b"old"}


KILLED = """
import os, pathlib, signal, sys
from chatter.files import atomic_output, beside, locked
final = pathlib.Path(sys.argv[1])
with locked(beside(final, "lock"), final), atomic_output(final) as partial:
    partial.mkdir()
    (partial / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_deleted_and_its_lock_is_free(tmp_path):
    final = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, final], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert not final.exists() and contents(tmp_path).keys() == {".out.lock", ".out.partial/half"}
    with locked(beside(final, "lock"), final), atomic_output(final) as partial:
        partial.write_text("whole")
    assert contents(tmp_path) == {"out": b"whole"}


LOCKED = """
import pathlib, sys
from chatter.command import plain_errors
from chatter.files import locked
with plain_errors(), locked(pathlib.Path("lock"), pathlib.Path("out"), wait=sys.argv[1:] == ["wait"]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def start_locked(folder, *args):
    """Start a process that holds a lock until its standard input ends."""
    pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", LOCKED, *args], cwd=folder, env=environment, text=True, **pipes)


def test_a_second_process_is_refused_in_one_line(tmp_path):
    first = start_locked(tmp_path)
    assert first.stdout.readline() == "locked\n"
    second = start_locked(tmp_path)
    said = "-c: error: out is in use by another run. Wait until it ends, or choose another --output-dir.\n"
    assert second.communicate(timeout=60) == ("", said)
    assert (second.returncode, first.poll()) == (1, None)
    assert first.communicate() == ("", "") and first.returncode == 0
    assert start_locked(tmp_path).communicate() == ("locked\n", "")
    assert not any(tmp_path.iterdir())


def test_a_second_process_may_wait(tmp_path):
    first = start_locked(tmp_path)
    assert first.stdout.readline() == "locked\n"
    second = start_locked(tmp_path, "wait")
    assert second.stderr.readline() == "waiting for another run that is writing out\n"
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(0.5)
    assert first.communicate() == ("", "")
    assert second.communicate(timeout=60) == ("locked\n", "") and second.returncode == 0
    assert not any(tmp_path.iterdir())


COUNTING = """
import pathlib
from chatter.files import locked
count = pathlib.Path("count")
for _ in range(100):
    with locked(pathlib.Path("lock"), count, wait=True):
        count.write_text(str(int(count.read_text()) + 1))
"""


def test_many_that_wait_come_one_after_another(tmp_path):
    """The lock file is deleted each time, while others have it open: a count kept in a file still loses nothing."""
    (tmp_path / "count").write_text("0")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COUNTING]
    options = {"cwd": tmp_path, "env": environment, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, **options) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert contents(tmp_path) == {"count": b"400"}


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(OSError), locked(tmp_path / "lock", tmp_path / "out"):
        raise OSError
    with locked(tmp_path / "lock", tmp_path / "out"):
        assert (tmp_path / "lock").exists()
    assert not any(tmp_path.iterdir())


def second_run_is_refused(meanwhile, script, *args):
    """Start a script and, when `meanwhile` holds, halt it; start it again, which must be refused; let the first end."""
    first = start(script, *args)
    wait_for(meanwhile, first)
    first.send_signal(signal.SIGSTOP)
    try:
        error = error_of(script, *args)
    finally:
        first.send_signal(signal.SIGCONT)
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
    return error


def test_two_runs_of_parse_logs_at_once(tmp_path):
    logs = tmp_path / "logs"
    for copy in range(10):
        shutil.copytree(ROOT / "data/sample_logs", logs / str(copy))
    args = ["parse_logs.py", "--logs-dir", logs, "--output-dir"]
    run(*args, tmp_path / "alone")
    out = tmp_path / "out"
    error = second_run_is_refused(lambda: [*out.rglob("*.csv")], *args, out)
    assert f"{out} is in use by another run. Wait until it ends, or choose another --output-dir." in error
    assert contents(out) == contents(tmp_path / "alone")


def test_two_runs_of_tokenize_logs_at_once(tmp_path):
    write_csv(tmp_path / "a.csv", [f"{number} LUL" for number in range(10_000)])
    args = ["tokenize_logs.py", "--input-dir", tmp_path, "--model", TINY, "--output-dir"]
    run(*args, tmp_path / "alone")
    out = tmp_path / "out"
    error = second_run_is_refused((tmp_path / ".out.partial").exists, *args, out)
    assert f"{out} is in use by another run. Wait until it ends, or choose another --output-dir." in error
    assert contents(out) == contents(tmp_path / "alone")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "alone", "out"}


def test_only_a_folder_of_our_own_may_be_replaced(tmp_path):
    check_replaceable(tmp_path / "nowhere", "marker")
    check_replaceable(tmp_path, "marker")  # empty
    (tmp_path / "notes").touch()
    with pytest.raises(InputError, match="contains other files that would be deleted"):
        check_replaceable(tmp_path, "marker")
    (tmp_path / "marker").touch()
    check_replaceable(tmp_path, "marker")
