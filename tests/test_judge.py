"""bench/judge.py and quality_judge.py: a classifier tells kinds of messages apart, and knows none of them before."""

import json
import random
import subprocess
from collections import Counter

import pytest
from conftest import ROOT, python_with
from test_bench import in_bench

from bench.intervals import wilson_interval

pytestmark = pytest.mark.thorough
WORDS = "what game is this chat hello LUL stream today nice play so good why not later maybe".split()


def sample(seed, words=WORDS, num=150):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(3, 7))) for _ in range(num)]


def judge(**pairs):
    """Return the share of messages whose kind is guessed right for each pair, and how many leak between folds."""
    python = python_with("scikit-learn==1.9.1")
    code = """
import json, sys
from judge import judge, make_folds, normalize
shares, leaks = {}, 0
for name, (first, second) in json.load(sys.stdin).items():
    right, total = judge(first, second)
    shares[name] = right / total
    messages = [normalize(message) for message in first + second]
    for train, test in make_folds(messages, [0] * len(first) + [1] * len(second)):
        leaks += len({messages[n] for n in train} & {messages[n] for n in test})
print(json.dumps([shares, leaks]))"""
    done = subprocess.run(
        [python, "-c", code], cwd=ROOT / "bench", input=json.dumps(pairs), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_kinds_are_told_apart_only_if_they_differ():
    """Messages that repeat, in any case, are in one fold: otherwise, the classifier would know them by heart."""
    once = [sample(seed, num=30) for seed in (3, 4)]
    shares, leaks = judge(
        same=(sample(1), sample(2)),
        words=(sample(1), sample(2, [*WORDS, "wanna", "gonna", "lemme"])),
        order=(sample(1), [" ".join(sorted(text.split())) for text in sample(2)]),
        repeated=[[*messages * 4, *map(str.upper, messages)] for messages in once],
        few=(["LUL"] * 20, ["LUL", "hi"] * 10),
    )
    assert leaks == 0
    assert 0.4 < shares["same"] < 0.6 and 0.3 < shares["repeated"] < 0.7
    assert shares["words"] > 0.7 and shares["order"] > 0.7


@pytest.fixture(scope="module")
def in_quality_judge():
    """Return a function that evaluates an expression with the functions of bench/quality_judge.py."""
    return lambda expression: in_bench(f"from quality_judge import *\nprint(json.dumps({expression}))")


def test_real_messages_of_different_days(in_quality_judge, tmp_path):
    """As many of each channel on both sides; a channel with one day, and rows without a date, are left out."""
    rows = [f"2024-03-{day:02},21:05:09,{channel},u,{channel} {day}\n" for channel, day in CHAT]
    (tmp_path / "a.csv").write_text("date,time,channel,username,message\n" + "".join(rows) + ",,red,u,no date\n")
    first, second = in_quality_judge(f"split_days(Path({str(tmp_path)!r}), 50)")
    assert Counter(first) == {"red 1": 5, "red 3": 5, "blue 4": 3} and Counter(second) == {"red 2": 10, "blue 5": 3}


CHAT = [
    *((channel, day) for channel, day, num in [("red", 1, 5), ("red", 2, 10), ("red", 3, 5)] for _ in range(num)),
    *([("blue", 4)] * 3 + [("blue", 5)] * 4 + [("green", 6)] * 9),
]


def test_the_yardstick_is_what_samples_of_real_chat_differ_by(in_quality_judge):
    messages = sample(5, num=400)
    spread = in_quality_judge(f"measure_spread({messages!r}, 100, set())")
    assert spread["copies"] == 0 and 0 < spread["median length"] < 8
    apart = in_quality_judge(f"differences({sample(6)!r}, {[text * 2 for text in sample(7)]!r}, set())")
    assert apart["median length"] > 2 * spread["median length"]


def test_the_interval_of_a_share():
    low, high = wilson_interval(15, 20)
    assert (low, high) == (pytest.approx(0.5313, abs=1e-4), pytest.approx(0.8881, abs=1e-4))  # R: prop.test
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(0, 5)[0] == 0 and wilson_interval(5, 5)[1] == 1
