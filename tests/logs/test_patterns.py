"""All patterns of the package: the time that they take is linear in the length of the text, whatever it is."""

import subprocess
import sys

import pytest
from adversarial import LENGTH
from conftest import ROOT
from test_structure import MODULES

from chatter.logs.formats import LINE_FORMATS

SECONDS = 120  # for all lines of a pattern or a format; they take a few


def time_limit(call, seconds=SECONDS):
    """Call a function of adversarial.py in a process of its own, since a thread in a pattern cannot be stopped."""
    code = f"import sys; sys.path[:0] = ['tests/logs']; import adversarial; adversarial.{call}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=seconds)


@pytest.mark.parametrize("module", [name for name in MODULES if "re.compile(" in MODULES[name].read_text("utf-8")])
def test_the_patterns_of_a_module(module):
    time_limit(f"try_patterns({module!r})")


@pytest.mark.parametrize("name", LINE_FORMATS)
def test_the_patterns_of_a_format(name):
    time_limit(f"try_format({name!r})")


@pytest.mark.parametrize(
    "pattern",
    [
        r"@\S*=\S* +x",
        pytest.param(r"\S*[^\0-\x7f]\S* x", marks=pytest.mark.thorough),
        pytest.param(r"(?::(?P<name>[^\s!]+)\S* PRIVMSG)", marks=pytest.mark.thorough),
    ],
)
def test_the_lines_find_a_quadratic_pattern(pattern):
    with pytest.raises(subprocess.TimeoutExpired):
        time_limit(f"all_of({pattern!r})", 3)


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
