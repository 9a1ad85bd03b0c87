"""All patterns of the package: the time that they take is linear in the length of the text, whatever it is."""

import importlib
import random
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from test_structure import MODULES

from chatter.logs.formats import LINE_FORMATS

LENGTH = 80_000  # characters: quadratic code needs minutes for such lines
SECONDS = 120  # for all lines of a pattern or a format; they take a few
METHODS = "fullmatch|match|search|sub|findall|finditer"
# Pieces of text that the literals of patterns do not show: what stands for \d, \w, \S and so on.
ANY = [
    "a",
    "1",
    "1:",
    " ",
    ": ",
    "あ",
    "@",
    "@a",
    "=",
    "a=b;",
    ";",
    ",",
    ".",
    "[",
    " [",
    "]x",
    "(",
    "<",
    "s.",
    "://",
    "\1",
]
HEADS = [  # beginnings of lines, which lead to each part of a pattern
    *("[2024-03-7 21:05:09] #c u: ", "[2024-03-7 21:05:09] #c ", "[2024-03-07 21:05:09 UTC] u: ", "[0:00:01] u: "),
    *("[2024-03-07 21:05:09 UTC] twitchnotify: u ", "[21:05:09] BAN: a", "[21:05:09] <a> ", "[21:05:09] ", "5:07 | "),
    *("[0:00:01] <a> ", "[21:05:09] u: u ", "[21:05:09] A message from u", "[0:00:01] *u ", "@", ":u!", ":", "12 ", ""),
    *("[21:05:09] DELETED: a (", "@x :u", "[21:05:09] [Notification] u subscribed", "21:05:09", "@x :u!u@u "),
]


def adversarial(pattern, num_drawn):
    """Yield lines that repeat pieces of what a pattern matches."""
    literals = re.findall(r"[A-Za-z#:=@ -]{2,}", re.sub(r"\(\?[P<a-z>:=!]*|\\[a-zA-Z]|\[\^?.*?\]", "|", pattern))
    pieces, draw = [*dict.fromkeys(literals), *ANY], random.Random(0)
    for piece in [*pieces, *("".join(draw.choices(pieces, k=draw.randint(2, 3))) for _ in range(num_drawn))]:
        yield piece * (LENGTH // len(piece)) + draw.choice(pieces)


CODE = {module: path.read_text(encoding="utf-8") for module, path in MODULES.items()}


def try_patterns(module):
    """Call the methods of a module's patterns that the package calls."""
    for name, pattern in vars(importlib.import_module(module)).items():
        if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
            methods = {*re.findall(rf"\b{name}\.({METHODS})\b", "\n".join(CODE.values()))} or {"fullmatch"}
            for line in adversarial(pattern.pattern, 20):
                for text in (line, f"1:00:00 {line}"):
                    for method in methods:
                        found = getattr(pattern, method)(*[""] * (method == "sub"), text)
                        assert method != "finditer" or sum(1 for _ in found) <= len(text)


def try_format(name):
    import polars

    from chatter.logs.text_reader import LineParser

    chosen, draw = LINE_FORMATS[name], random.Random(0)
    patterns = [pattern for _, pattern in (*chosen.patterns, *filter(None, [chosen.others]))]
    repeated = [line for pattern in patterns for line in adversarial(pattern, 3)]
    lines = [head + line for head in HEADS for line in draw.choices(repeated, k=5)] + repeated[:50]
    batch = LineParser([chosen]).parse(polars.Series("line", lines))
    assert batch.counts.total() == len(lines)


def time_limit(call, seconds=SECONDS):
    """Run a function of this module in a process of its own, since a thread in a pattern cannot be stopped."""
    code = f"import sys; sys.path[:0] = ['tests', 'tests/logs']; import re, test_patterns; test_patterns.{call}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=seconds)


@pytest.mark.parametrize("module", [module for module in CODE if "re.compile(" in CODE[module]])
def test_the_patterns_of_a_module(module):
    time_limit(f"try_patterns({module!r})")


@pytest.mark.parametrize("name", LINE_FORMATS)
def test_the_patterns_of_a_format(name):
    time_limit(f"try_format({name!r})")


@pytest.mark.parametrize("pattern", [r"@\S*=\S* +x", r"\S*[^\0-\x7f]\S* x", r"(?::(?P<name>[^\s!]+)\S* PRIVMSG)"])
def test_the_lines_find_a_quadratic_pattern(pattern):
    with pytest.raises(subprocess.TimeoutExpired):
        time_limit(f"all_of({pattern!r})", 3)


def all_of(pattern):
    for line in adversarial(pattern, 20):
        for head in HEADS:
            re.match(pattern, head + line)


def test_lines_that_took_minutes(tmp_path):
    lines = [
        "@" + "a=b;" * 20_000,
        "@" + "login=a" * 20_000 + " :x",
        "@" + "ban-duration=1" * 8_000 + " :x",
        "@" + "=" * LENGTH,
        "@x :" + "a" * LENGTH,
        ":u!" + "@" * LENGTH,
        "[0:00:01] u: " + "あ" * LENGTH + " have joined!",
        "[2024-03-07 21:05:09] BAN: a" + " [" * LENGTH + "]x" * LENGTH,
    ]
    (tmp_path / "logs").mkdir()
    for name, head in {
        "a.log": "# Log started: 2024-03-07 21:00:00",
        "b.txt": "[2024-03-7 21:05:09] #c u: hi",
        "c.txt": "[0:00:01] U: hi",
    }.items():
        (tmp_path / "logs" / name).write_text("\n".join([head, *lines, ""]))
    command = [sys.executable, ROOT / "parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=SECONDS)
