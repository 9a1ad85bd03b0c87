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
    """Run a script as subprocess.run would with captured output; `command` is the script and its arguments."""
    process = WarmProcess(command, cwd, stdin, os.environ | env)
    outputs = process.communicate(timeout)
    return subprocess.CompletedProcess(command, process.returncode, *outputs)


class WarmProcess:
    """A process that runs a script, with the methods of subprocess.Popen.

    Not on a machine with a GPU, which the libraries would look for before train.py has chosen one.
    """

    def __init__(self, command, cwd, stdin, environment, start_new_session=False):
        self.command, self.returncode = command, None
        self.folder = tempfile.TemporaryDirectory()
        self.paths = [Path(self.folder.name, name) for name in STREAMS]
        for path, text in zip(self.paths, (stdin, "", ""), strict=True):
            path.write_text(text)
        start_server()
        args = (command, str(cwd), environment, [*map(str, self.paths)], start_new_session)
        self.process = multiprocessing.get_context("forkserver").Process(target=become, args=args)
        self.process.start()
        self.pid = self.process.pid

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=None):
        self.process.join(timeout)
        if self.poll() is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.command, timeout)
        self.returncode = self.poll()
        with self.folder:
            return [path.read_text() for path in self.paths[1:]]


def start_server():
    """Start the server, or go on with it."""
    import pytest  # not in the copies, which import this module

    running = forkserver._forkserver
    forkserver.set_forkserver_preload(["libraries"])
    if running._forkserver_pid not in own_servers:  # started by a pool of another test, without the libraries
        running._stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the server does not take over sys.path
        forkserver.ensure_running()
    own_servers.add(running._forkserver_pid)


def become(command, cwd, environment, paths, is_leader):
    """Turn this process into one that runs `command`."""
    assert "libraries" in sys.modules  # the server skips what it cannot import
    if is_leader:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, path in enumerate(paths):
        os.dup2(os.open(path, os.O_RDWR), descriptor)
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
