"""Run calls in parallel, in processes or, for small input, in threads, with a progress bar."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from chatter.cli import InputError, stop_signals
from chatter.interrupt import Terminated

SMALL = 20_000_000  # bytes of input: starting processes takes longer than they would save
BAR_SECONDS = 0.1  # between two updates of the progress bar
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: docs.kernel.org/admin-guide/cgroup-v2.html
# The libraries' own threads: each process uses one core.
ONE_THREAD = dict.fromkeys(["POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "FASTOKENS_BPE_THREADS"], "1")


class Cancelled(Exception):
    """Raised in a worker to end it after another one has failed."""


@dataclass
class Pool:
    """What the workers share with the process that started them."""

    lock: Any
    num_bytes: Any  # an integer in shared memory: the bytes of input that they have dealt with
    is_cancelled: Any  # 0 or 1, in shared memory


pool: Pool | None = None  # that this process works for


def report(num_bytes: int) -> None:
    """Count bytes of input that a worker has dealt with. Raises Cancelled if the work is to end."""
    if pool:
        with pool.lock:
            pool.num_bytes.value += num_bytes
        if pool.is_cancelled.value:
            raise Cancelled


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = CPU_QUOTA.read_text().split()
        cores = min(cores, max(int(quota) // int(period), 1))  # the quota may be "max"
    return cores


class Workers:
    """Calls functions in the processes or threads of an executor."""

    def __init__(self, executor: Executor, jobs: int, num_bytes: int) -> None:
        """`num_bytes` is the size of the whole input."""
        self.executor, self.jobs, self.num_bytes = executor, jobs, num_bytes

    def map(
        self,
        description: str,
        function: Callable,
        calls: Iterable[tuple],
        num_bytes: int,
        yielded: tuple[type[Exception], ...] = (),
        ahead: int | None = None,
    ) -> Iterator[Any]:
        """Yield the results of `function(*arguments)` in the order of the calls, with a progress bar of `num_bytes`.

        The functions report their progress with `report`. Errors of the types `yielded` are yielded, too; others are
        raised, and InputError if a process was killed. At most `ahead` calls a job are made before their results are
        used, which bounds memory, or all calls if it is None.
        """
        from tqdm import tqdm

        calls, waiting = iter(calls), deque()
        with tqdm(desc=description, total=num_bytes, unit="B", unit_scale=True, disable=None) as bar:
            before = pool.num_bytes.value

            def finish(future: Future) -> Any:
                while True:
                    bar.update(pool.num_bytes.value - before - bar.n)
                    with contextlib.suppress(NotYet):
                        return future.result(BAR_SECONDS)

            try:
                some = islice(calls, ahead and ahead * self.jobs)
                waiting.extend(self.submit(call, function, each, yielded) for each in some)
                while waiting:
                    result = finish(waiting.popleft())
                    waiting.extend(self.submit(call, function, each, yielded) for each in islice(calls, 1))
                    yield result
            except BrokenProcessPool:
                raise InputError("a process was killed, probably for lack of memory. Pass a lower --jobs.") from None

    def submit(self, *arguments: Any) -> Future:
        """Submit a call with signals held: a process that an interrupted start leaves behind would never end."""
        with held_signals():
            return self.executor.submit(*arguments)


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Let Ctrl-C and the signals that end a script wait for the end of a block."""
    is_main = threading.current_thread() is threading.main_thread()  # the only one that hears signals
    numbers = (signal.SIGINT, *stop_signals()) if is_main else ()
    before = {number: signal.getsignal(number) for number in numbers if callable(signal.getsignal(number))}
    caught = []
    try:
        for number in before:  # neither ignored nor left to the system
            signal.signal(number, lambda number, _: caught.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in caught[:1]:
            signal.raise_signal(number)


def call(function: Callable, arguments: tuple, yielded: tuple[type[Exception], ...]) -> Any:
    try:
        return function(*arguments)
    except yielded as error:
        return error
    except (Exception, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:  # a Rust panic, which cannot be sent to another process
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def are_threads(jobs: int, num_bytes: int) -> bool:
    """Return whether `open_workers` starts threads, not processes."""
    return jobs == 1 or num_bytes < SMALL


def get_context() -> Any:
    """Return the multiprocessing context: forkserver or spawn, never fork, after which polars may deadlock."""
    return multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")


def prepare_workers(jobs: int, num_bytes: int, modules: Sequence[str]) -> None:
    """Start the fork server and let it import `modules` in the background, for `open_workers` with the same input.

    A script calls it before its own imports, which take as long.
    """
    context = get_context()
    if are_threads(jobs, num_bytes) or context.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    context.set_forkserver_preload([*modules])
    resource_tracker.ensure_running()  # starting it unblocks SIGINT, so start it before the block below
    with held_signals(), blocked_interrupts(), environment(ONE_THREAD):  # polars reads it on import
        forkserver.ensure_running()


@contextlib.contextmanager
def open_workers(jobs: int, num_bytes: int, modules: Sequence[str]) -> Iterator[Workers]:
    """Start `jobs` workers for an input of `num_bytes`; end them, and what they are doing, at the end or on an error.

    They are processes, each with `modules` imported and one thread in each library, or threads if the input is
    small. One job is one thread.
    """
    global pool
    prepare_workers(jobs, num_bytes, modules)
    is_small, context = are_threads(jobs, num_bytes), get_context()
    lock = threading.Lock() if is_small else context.Lock()
    pool = Pool(lock, context.RawValue("Q"), context.RawValue("B"))
    executor = ThreadPoolExecutor(jobs) if is_small else ProcessPoolExecutor(jobs, context, join_pool, (pool,))
    try:
        yield Workers(executor, jobs, num_bytes)
    finally:
        pool.is_cancelled.value = 1
        executor.shutdown(cancel_futures=True)
        pool = None


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that start in a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def blocked_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from the processes that start in a block: the one that starts them hears it, and ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def join_pool(shared: Pool) -> None:
    """Prepare a process for the calls of a pool."""
    global pool
    pool = shared
    os.environ |= ONE_THREAD  # for spawned processes, or if the server was started before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, even if it was killed."""
    multiprocessing.parent_process().join()
    os._exit(1)
