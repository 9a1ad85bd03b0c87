"""Runs a script in a process that begins with the libraries imported, which is most of the time of a short run.

A server imports them once and is copied for each run. The script itself, and `chatter`, are read anew.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

STREAMS = ["stdin", "stdout", "stderr"]
own_servers = set()  # process ids


def run_warm(command, cwd, stdin, env, timeout):
    """Run a script as subprocess.run would with captured output; `command` is the script and its arguments.

    Not on a machine with a GPU, which the libraries would look for before train.py has chosen one.
    """
    import pytest  # not in the copies, which import this module

    server, running = multiprocessing.get_context("forkserver"), forkserver._forkserver
    server.set_forkserver_preload(["libraries"])
    if running._forkserver_pid not in own_servers:  # started by a pool of another test, without the libraries
        running._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the server does not take over sys.path
        forkserver.ensure_running()
    own_servers.add(running._forkserver_pid)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in STREAMS]
        paths[0].write_text(stdin)
        process = server.Process(target=become, args=(command, str(cwd), os.environ | env, [*map(str, paths)]))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        outputs = [path.read_text() if path.exists() else "" for path in paths[1:]]
        return subprocess.CompletedProcess(command, process.exitcode, *outputs)


def become(command, cwd, environment, paths):
    """Turn this process into one that runs `command`."""
    assert "libraries" in sys.modules  # the server skips what it cannot import
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(paths):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
        setattr(sys, STREAMS[descriptor], open_stream(descriptor))
    sys.argv = command
    sys.path.insert(0, os.path.dirname(command[0]))
    try:
        runpy.run_path(command[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing skips


def open_stream(descriptor):
    """Open a standard stream as Python does."""
    if descriptor == 2:
        return open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    return open(descriptor, "w" if descriptor else "r", errors=sys.__stdout__.errors, closefd=False)
