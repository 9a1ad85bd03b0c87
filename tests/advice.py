"""Cases of the tests of advice: a message of a command, what it advises, and the test that follows it."""

import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from conftest import ROOT
from warm import run_warm


def rows(*messages, channel="somechannel"):
    """Return a CSV as parse_logs.py writes it."""
    lines = [f"2024-03-07,21:05:09,{channel},ann,{message}\n" for message in messages]
    return "".join(["date,time,channel,username,message\n", *lines])


@dataclass
class Case:
    """A message of a command, and what it advises. Commands run in a temporary folder."""

    says: str  # a part of the message
    command: str
    files: dict[str, str | bytes | None]  # to write before, or to delete (None); beside them, there are models
    then: str | None = None  # the advised command; None: the same again
    do: Callable[[], object] = lambda: None  # what to do before
    code: int = 1  # the exit code of the command
    prepare: Callable[[], object] = lambda: None  # makes what the message is about
    env: dict[str, str] = field(default_factory=dict)  # for a command of tests/spies


def follow(case):
    """Run the command of a case, and what its message advises; return the first process and the second."""
    for name, content in case.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    case.prepare()
    first = warm(case.command, **case.env)
    assert first.returncode == case.code, first.stderr
    assert case.says in (first.stderr.splitlines()[-1] if case.code else first.stderr), first.stderr
    case.do()
    second = warm(case.then or case.command, **case.env)
    assert second.returncode == 0 and case.says not in second.stderr, second.stderr
    return first, second


def warm(command, **env):
    """Run a command in the working directory."""
    script, *args = shlex.split(command)
    return run_warm([str(ROOT / script), *args], Path.cwd(), "", env, timeout=120)


def move(old, new):
    def move_file():
        Path(new).parent.mkdir(exist_ok=True)
        shutil.move(old, new)

    return move_file


def write(path, content):
    return lambda: Path(path).write_text(content, encoding="utf-8")


def shell(command):
    return lambda: subprocess.run(command, shell=True, check=False)
