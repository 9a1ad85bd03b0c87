"""chatter.workers: calls shared among processes or threads, in order, and ended as a whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from chatter import workers
from chatter.cli import InputError
from chatter.workers import SMALL, Cancelled, open_workers, report, usable_cores

SIZES = [0, SMALL]  # of the input: for threads, and for processes


def measure(word, delay=0.0):
    time.sleep(delay)
    report(len(word))
    return word, len(word), os.getpid()


def fail(error):
    raise error


def work_for(seconds, folder):
    """Work until another call fails, and leave a file if none does."""
    for _ in range(int(seconds * 100)):
        time.sleep(0.01)
        report(0)
    Path(folder, f"{os.getpid()}-{time.time()}").touch()


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ahead", [None, 1, 3])
def test_results_come_in_order_from_other_processes_if_the_input_is_large(size, ahead):
    words = ["a" * number for number in range(9)]
    with open_workers(2, size, ()) as pool:
        results = list(
            pool.map("testing", measure, [(word, 0.05 if word == "" else 0.0) for word in words], 36, (), ahead)
        )
    assert [result[:2] for result in results] == [(word, len(word)) for word in words]
    assert (os.getpid() in {process for *_, process in results}) == (not size)


@pytest.mark.parametrize("size", SIZES)
def test_errors_of_the_types_that_are_asked_for_are_results(size):
    calls = [(ValueError("a"),), (KeyError("b"),)]
    with open_workers(2, size, ()) as pool:
        first, second = pool.map("testing", fail, calls, 0, (ValueError, KeyError))
        assert isinstance(first, ValueError) and isinstance(second, KeyError)
        with pytest.raises(KeyError):
            list(pool.map("testing", fail, calls, 0, (ValueError,)))


@pytest.mark.parametrize("size", SIZES)
def test_an_error_ends_what_others_are_doing(size, tmp_path):
    started = time.monotonic()
    with pytest.raises(InputError, match="damaged"), open_workers(2, size, ()) as pool:
        list(pool.map("testing", run_one, [("fail", tmp_path), *[("work", tmp_path)] * 9], 0))
    assert not [*tmp_path.iterdir()] and time.monotonic() - started < 60


def run_one(what, folder):
    return fail(InputError("damaged")) if what == "fail" else work_for(60, folder)


def test_a_killed_process_is_an_input_error():
    with pytest.raises(InputError, match="Pass a lower --jobs"), open_workers(2, SMALL, ()) as pool:
        list(pool.map("testing", kill_itself, [()], 0))


def panic():
    raise BaseException("panic")


@pytest.mark.parametrize("size", SIZES)
def test_a_panic_of_a_library_is_not_taken_for_a_kill(size):
    with pytest.raises(RuntimeError, match="BaseException: panic"), open_workers(2, size, ()) as pool:
        list(pool.map("testing", panic, [()], 0))


def test_outside_a_pool_nothing_is_reported():
    report(1)


def test_a_cancelled_pool_says_so():
    with open_workers(1, 0, ()):
        report(1)
        workers.pool.is_cancelled.value = 1
        with pytest.raises(Cancelled):
            report(1)


def threads_of_libraries():
    return {name: os.environ.get(name) for name in workers.ONE_THREAD}


def test_each_process_uses_one_core_and_the_environment_is_restored(monkeypatch):
    monkeypatch.setenv("POLARS_MAX_THREADS", "7")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    with open_workers(2, SMALL, ()) as pool:
        assert [*pool.map("testing", threads_of_libraries, [()], 0)] == [workers.ONE_THREAD]
    assert os.environ["POLARS_MAX_THREADS"] == "7" and "RAYON_NUM_THREADS" not in os.environ


PARENT = """
import os, sys, time
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from test_workers import open_workers, work_for, SMALL, sleep_and_tell
if __name__ == "__main__":
    with open_workers(2, SMALL, ()) as pool:
        list(pool.map("testing", sleep_and_tell, [(sys.argv[1],)] * 2, 0))
"""


def sleep_and_tell(folder):
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)  # does not report, so only its parent's end can end it


def test_processes_end_with_the_one_that_started_them_even_if_it_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT.format(root=str(ROOT)))
    (started := tmp_path / "started").mkdir()
    process = subprocess.Popen([sys.executable, tmp_path / "parent.py", started])
    wait_until(lambda: len([*started.iterdir()]) == 2)
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_running(int(path.name)) for path in started.iterdir()))


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(("text", "cores"), [("max 100000", 99), ("250000 100000", 2), ("50000 100000", 1), ("", 99)])
def test_usable_cores_are_those_of_the_process_and_of_its_container(text, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: range(99))
    monkeypatch.setattr(workers, "CPU_QUOTA", tmp_path / "cpu.max")
    if text:
        (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert usable_cores() == cores
