"""chatter.files: output is whole or not there, one run writes it at a time, and others' files are safe."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY, contents, error_of, run, start, wait_for, without_manifest, write_csv

from chatter.cli import InputError
from chatter.files import (
    DATASET_MARKER,
    MANIFEST,
    MAX_NAME,
    atomic_output,
    beside,
    delete,
    locked,
    other_files,
    reserved,
    staged_files,
)
from chatter.logs.filters import read_users
from chatter.text_files import read_text
from chatter.wording.banned import read_words


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
            assert name == "a" or without_manifest(contents(tmp_path / "out")) == {"a"}
    assert without_manifest(contents(tmp_path)) == {"out/b"}


def test_everybody_may_read_the_files_of_a_finished_folder(tmp_path):
    """safetensors lets only the owner read its files, and a bot may run as another user."""
    with atomic_output(tmp_path / "model") as partial:
        (partial / "more").mkdir(parents=True)
        for name in ("model.safetensors", "more/config.json"):
            (partial / name).touch(mode=0o600)
    os.umask(mask := os.umask(0))
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert modes == {0o666 & ~mask}


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
from chatter.cli import plain_errors
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


def second_run_is_refused(meanwhile, script, *args, warm=True):
    """Start a script and, when `meanwhile` holds, halt it; start it again, which must be refused; let the first end."""
    first = start(script, *args, warm=warm)
    wait_for(meanwhile, first)
    first.send_signal(signal.SIGSTOP)
    try:
        error = error_of(script, *args, fresh=not warm)
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
    run(*args, tmp_path / "alone", fresh=True)  # it starts processes
    out = tmp_path / "out"
    error = second_run_is_refused(lambda: [*out.rglob("*.csv")], *args, out, warm=False)
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


@pytest.fixture
def written(tmp_path):
    """A folder that a script wrote."""
    with atomic_output(tmp_path / "out") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "a").write_text("old")
        (partial / "deep/b").write_text("old")
    return tmp_path / "out"


def test_a_folder_lists_what_was_written_into_it(written):
    assert json.loads((written / MANIFEST).read_text()) == {"files": ["a", "deep/b"]}
    assert other_files(written) == []


@pytest.mark.parametrize("name", ["notes.txt", "deep/notes.txt", "other/notes.txt", "link"])
def test_a_folder_with_other_files_is_not_replaced(name, written):
    (written / name).parent.mkdir(exist_ok=True)
    (written / name).symlink_to("a") if name == "link" else (written / name).touch()
    with (
        pytest.raises(InputError, match=f"would be deleted, such as {Path(name).name}"),
        reserved(written, MANIFEST),
    ):
        pass
    assert (written / name).exists()


def test_what_can_be_made_again_does_not_count_as_other_files(written):
    """datasets and macOS leave such files; a folder in it may have been written by another script."""
    (written / "deep/cache-0123.arrow").touch()
    (written / ".DS_Store").touch()
    with atomic_output(written / "copy") as partial:
        partial.mkdir()
        (partial / "c").touch()
    with reserved(written, MANIFEST):
        pass
    (written / "copy/notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt"), reserved(written, MANIFEST):
        pass


def test_an_output_of_another_kind_or_a_folder_of_outputs_is_not_replaced(written, tmp_path):
    """A dataset does not replace a model, nor the folder that models are in."""
    for folder in (written, tmp_path):
        with pytest.raises(InputError, match="contains other files"), reserved(folder, DATASET_MARKER):
            pass
    assert (written / "a").exists()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk/real")
    for text in ("old", "new"):
        with reserved(tmp_path / "out", MANIFEST) as folder, atomic_output(folder) as partial:
            partial.mkdir()
            (partial / "a").write_text(text)
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk/real/a").read_text() == "new"
    assert contents(tmp_path / "disk").keys() == {"real/a", f"real/{MANIFEST}"}


def test_an_output_that_could_not_be_written_at_the_end_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "here/deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here/deep")
    for output, fault in {"../../file": "is a file", ".": "working directory", "..": "working directory"}.items():
        with pytest.raises(InputError, match=fault), reserved(Path(output), MANIFEST):
            pass
    with (
        pytest.raises(OSError, match="name too long"),
        reserved(tmp_path / ("x" * 256) / "y", MANIFEST),
    ):
        pass
    with pytest.raises((NotADirectoryError, FileExistsError)), reserved(tmp_path / "file/model", MANIFEST):
        pass


def test_a_folder_without_the_right_to_write_is_refused_at_once(tmp_path):
    """Also for root, who loses the right to write everywhere."""
    (tmp_path / "locked").mkdir(mode=0o555)
    code = "import pathlib, sys, chatter.files as f\nwith f.reserved(pathlib.Path(sys.argv[1]), ''): print('reserved')"
    rights = "-dac_override,-dac_read_search,-fowner"
    without = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    command = [*without, sys.executable, "-c", code, tmp_path / "locked/model"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "PermissionError" in done.stderr and "reserved" not in done.stdout


def test_a_kill_between_the_renames_loses_nothing(written, tmp_path):
    """The old folder stands aside for a moment; the next run puts it back."""
    written.rename(beside(written, "old"))
    with pytest.raises(RuntimeError), atomic_output(written):
        raise RuntimeError
    assert (written / "a").read_text() == "old"
    assert without_manifest(contents(tmp_path)) == {"out/a", "out/deep/b"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_between_the_renames_loses_nothing(error, written, tmp_path, monkeypatch):
    rename = Path.rename

    def interrupted(path, target):
        rename(path, target)
        if path == written:
            raise error

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), atomic_output(written) as partial:
        partial.mkdir()
    assert (written / "a").read_text() == "old" and without_manifest(contents(tmp_path)) == {"out/a", "out/deep/b"}


def test_staged_files_that_cannot_all_arrive_leave_everything(tmp_path):
    """A folder in the place of the last one."""
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / "z.csv/deep").mkdir(parents=True)
    with pytest.raises(InputError, match=r"z\.csv is a folder or is not writable"), staged_files(tmp_path) as staging:
        for name in ("a.csv", "z.csv"):
            (staging / name).write_text("new")
    assert contents(tmp_path) == {"a.csv": b"old"}


def test_staged_files_arrive_on_another_disk(full_disk, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/linked").symlink_to(full_disk)
    for text in ("old", "new"):
        with staged_files(tmp_path / "out") as staging:
            (staging / "linked").mkdir()
            (staging / "linked/a.csv").write_text(text)
    assert contents(full_disk) == {"a.csv": b"new"}


def test_staged_files_arrive_together_or_not_at_all(tmp_path):
    (tmp_path / "kept.csv").write_text("kept")
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(RuntimeError), staged_files(tmp_path) as staging:
        (staging / "a.csv").write_text("half")
        raise RuntimeError
    assert contents(tmp_path) == {"kept.csv": b"kept", "a.csv": b"old"}
    with staged_files(tmp_path) as staging:
        (staging / "deep").mkdir()
        (staging / "deep/b.csv").write_text("new")
        (staging / "a.csv").write_text("new")
        assert (tmp_path / "a.csv").read_text() == "old"
    assert contents(tmp_path) == {"kept.csv": b"kept", "a.csv": b"new", "deep/b.csv": b"new"}


@pytest.mark.parametrize("letter", ["x", "字"])
def test_the_name_of_an_output_folder_may_be_long_but_not_too_long(letter, tmp_path):
    size = len(letter.encode())
    name = letter * (MAX_NAME // size)
    with reserved(tmp_path / name, MANIFEST) as folder, atomic_output(folder) as partial:
        partial.mkdir()
    assert (tmp_path / name).is_dir()
    with (
        pytest.raises(InputError, match=r"has more than 230 bytes\. Choose a shorter --output-dir\."),
        reserved(tmp_path / (letter * (255 // size)), MANIFEST),
    ):
        pass


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding, tmp_path):
    (tmp_path / "users.txt").write_text("Ann\r\nさくら\n", encoding=encoding, newline="")
    assert read_users(str(tmp_path / "users.txt")) == {"ann", "さくら"}
    assert read_words(tmp_path / "users.txt") == {"ann", "さくら"}


@pytest.mark.parametrize("data", ["käse\n".encode("latin-1"), b"\xff\xfe\x00"])
def test_other_encodings_are_refused(data, tmp_path):
    (tmp_path / "words.txt").write_bytes(b"fine\n" * (data[0] != 255) + data)
    with pytest.raises(InputError, match=r"words\.txt:\d is not in UTF-8\. Save the file in UTF-8\."):
        read_text(tmp_path / "words.txt")
