"""bench/blind_test.py: people judge whether a message is real. Here, a script answers."""

import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, TINY, error_of, run, write_csv
from test_bench import in_bench

from tokenize_logs import tokenize_logs

pytestmark = pytest.mark.thorough
SCRIPT = "bench/blind_test.py"
# What the random model never says.
REAL = [f"real message {n} of the chat" for n in range(300)]


@pytest.fixture(scope="module")
def args(random_model, tmp_path_factory):
    """The options with a model of random weights and a dataset of REAL."""
    folder = tmp_path_factory.mktemp("blind")
    (folder / "raw").mkdir()
    write_csv(folder / "raw/a.csv", REAL)
    tokenize_logs(folder / "raw", folder / "dataset", str(TINY), block_size=64, test_size=0.5)
    return ["--model", random_model, "--dataset-dir", folder / "dataset", "--seed", 1, "-n", 6]


def shown(stderr):
    """Return the two messages of each pair that was shown."""
    return re.findall(r"^1:  (.*)\n2:  (.*)$", stderr, re.MULTILINE)


@pytest.fixture(scope="module")
def first(args):
    """A run whose answers are all 1, after two that are not valid."""
    return run(SCRIPT, *args, stdin="\nboth\n" + "1\n" * 6)


def test_each_pair_has_a_real_and_a_generated_message(first):
    assert len(shown(first.stderr)) == 6
    for pair in shown(first.stderr):
        assert sum(text in REAL for text in pair) == 1
    chats = re.findall(r"after this chat:\n((?:    .*\n)+)", first.stderr)
    for chat, pair in zip(chats, shown(first.stderr), strict=True):
        [real] = [text for text in pair if text in REAL]
        lines = [line.strip() for line in chat.splitlines()]
        place = REAL.index(real)
        assert lines == REAL[place - len(lines) : place] and 1 <= len(lines) <= 5


def test_the_result_is_on_stdout(first):
    right = sum(one in REAL for one, _ in shown(first.stderr))
    assert 0 < right < 6  # in random order
    assert first.stdout.startswith(f"{right} of 6 right: {right / 6:.0%} (95% interval: ")
    assert "This may be guessing." in first.stdout and first.stdout.count("\n") == 1


def test_the_same_seed_gives_the_same_pairs(first, args):
    answers = ["1" if one in REAL else "2" for one, _ in shown(first.stderr)]
    done = run(SCRIPT, *args, stdin="\n".join(answers) + "\n")
    assert shown(done.stderr) == shown(first.stderr)
    assert done.stdout.startswith("6 of 6 right: 100% (95% interval: 61% to 100%; guessing: 50%). You can tell")


def test_what_the_result_means():
    said = in_bench(
        "from blind_test import describe\nprint(json.dumps([describe(n, 6) for n in (0, 3)] + [describe(0, 0)]))"
    )
    assert "look more real to you than real ones" in said[0]
    assert "This may be guessing" in said[1] and said[2] == "no answers"


def test_the_end_of_input_prints_the_result_so_far(args):
    """The last line has no line break."""
    assert run(SCRIPT, *args, stdin="1\n2").stdout.split(" right")[0].endswith(" of 2")


def test_ctrl_c_prints_the_result_so_far(args):
    command = [sys.executable, ROOT / SCRIPT, *map(str, args)]
    pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        process.stdin.write("1\n")
        process.stdin.flush()
        while not process.stderr.readline().startswith("Which one is real, 1 or 2? \n"):  # followed by pair 2
            pass
        process.send_signal(signal.SIGINT)
        process.stdin.close()
        output = process.stdout.read()
    assert process.returncode == 0 and " of 1 right" in output


def test_copies_of_the_real_message_are_skipped(parrot, tmp_path):
    """The parrot says "ping" after "what is it", and the other way round, as the chat does."""
    write_csv(tmp_path / "a.csv", ["ping", "what is it"] * 200)
    tokenize_logs(tmp_path, tmp_path / "out", str(TINY), block_size=32)
    error = error_of(SCRIPT, "--model", parrot, "--dataset-dir", tmp_path / "out", "--greedy")
    assert "has no pairs: its blocks contain single messages, or all generated messages are like the real ones" in error
