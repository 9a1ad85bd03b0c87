"""Cases of the tests of advice: a message of a command, what it advises, and the test that follows it."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from glob import glob
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import ROOT, contents
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
    thorough: bool = False  # for `make test-all` alone: the same message with another way out


def parameters(cases):
    return [pytest.param(case, marks=[pytest.mark.thorough] if case.thorough else []) for case in cases]


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
    second = warm_once(case.then or case.command, **case.env)
    assert second.returncode == 0 and case.says not in second.stderr, second.stderr
    return first, second


def warm(command, **env):
    """Run a command in the working directory."""
    script, *args = shlex.split(command)
    return run_warm([str(ROOT / script), *args], Path.cwd(), "", env, timeout=120)


runs = {}  # of `warm_once`: what a process gave, and the folder that it ran in


def warm_once(command, **env):
    """Run a command, or, if it ran for another case on the same files, copy what it wrote."""
    names = [name for word in shlex.split(command) for name in (word, f"{word}-checkpoints")]
    files = {}
    for name in [*names, *glob(".*")]:  # also what may be left of the command before
        if os.path.isdir(name):
            files[name] = sorted(contents(Path(name)).items())
        elif os.path.isfile(name):
            files[name] = Path(name).read_bytes()
    key = sha256(repr((command, env, files)).encode()).digest()
    if key not in runs:
        runs[key] = warm(command, **env), Path.cwd()
    done, folder = runs[key]
    for name in names:
        if folder != Path.cwd() and not os.path.isabs(name) and (folder / name).is_dir():
            shutil.copytree(folder / name, name, dirs_exist_ok=True)
    return done


def move(old, new):
    def move_file():
        Path(new).parent.mkdir(exist_ok=True)
        shutil.move(old, new)

    return move_file


def write(path, content):
    return lambda: Path(path).write_text(content, encoding="utf-8")


def shell(command):
    return lambda: subprocess.run(command, shell=True, check=False)
