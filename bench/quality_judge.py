"""Judge how much messages sound like chat: how often a classifier tells them from real ones, and how much their
lengths, emotes and n-grams differ from real chat. For bench_quality.py.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from environments import python_with
from harness import ROOT, run
from intervals import wilson_interval
from quality_sampling import describe

from chatter.wording.lookalikes import MAX_CHARACTERS, visible

PACKAGE = "scikit-learn==1.9.1"
NUM_HALVES = 100  # pairs of samples of real chat, whose differences are the yardstick
FLOOR = "real chat of other days"


def plain(messages: Sequence[str]) -> list[str]:
    """Return messages as a chat shows them, so that no kind is known by what nobody sees; without empty ones."""
    return [text for text in (visible(message)[:MAX_CHARACTERS] for message in messages) if text]


def chats_of_days(raw: Path) -> dict[str, dict[str, list[str]]]:
    """Return the messages of each channel and day in the CSVs in `raw`; days in order."""
    chats = defaultdict(lambda: defaultdict(list))
    for csv_path in sorted(raw.glob("*.csv")):
        with csv_path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["date"]:
                    chats[row["channel"]][row["date"]].append(row["message"])
    return {channel: dict(sorted(days.items())) for channel, days in chats.items()}


def split_days(raw: Path, num_messages: int) -> tuple[list[str], list[str]] | None:
    """Return messages of different days, as many from each channel, up to `num_messages` on each side.

    A channel's days are dealt out in turns. Return None if no channel has two days.
    """
    rng, channels = np.random.default_rng(0), []
    for days in chats_of_days(raw).values():
        halves = [plain([text for day in [*days.values()][side::2] for text in day]) for side in (0, 1)]
        size = min(map(len, halves))
        channels.append(zip(*([half[n] for n in rng.permutation(len(half))[:size]] for half in halves), strict=True))
    pairs = [pair for turn in zip_longest(*channels) for pair in turn if pair][:num_messages]
    return ([first for first, _ in pairs], [second for _, second in pairs]) if pairs else None


def differences(first: Sequence[str], second: Sequence[str], train_messages: Collection[str]) -> dict[str, float]:
    """Return how far two kinds of messages are apart in each measure of `describe`."""
    one, other = (describe(messages, train_messages) for messages in (first, second))
    return {name: abs(one[name] - other[name]) for name in one}


def measure_spread(messages: Sequence[str], size: int, train_messages: Collection[str]) -> dict[str, float]:
    """Return what two samples of `size` real messages differ by in each measure, at most, in 95 of 100 cases."""
    rng, found = np.random.default_rng(0), defaultdict(list)
    for _ in range(NUM_HALVES):
        some = [messages[place] for place in rng.permutation(len(messages))[: 2 * size]]
        for name, difference in differences(some[:size], some[size:], train_messages).items():
            found[name].append(difference)
    return {name: float(np.quantile(each, 0.95)) for name, each in found.items()}


def tell_apart(pairs: Mapping[str, tuple[list[str], list[str]]], scratch: Path) -> dict[str, tuple[int, int]]:
    """Return, for each pair of kinds of messages, how many the classifier guesses right, and how many there are.

    Raises OSError if scikit-learn cannot be installed.
    """
    path = scratch / "pairs.json"
    path.write_text(json.dumps(pairs), encoding="utf-8")
    done = run([python_with(PACKAGE), ROOT / "bench/judge.py", path])
    return {name: tuple(counts) for name, counts in json.loads(done.output.splitlines()[-1]).items()}


def compare_with_chat(
    said: Mapping[str, Sequence[str]],
    real: Sequence[str],
    held_out: Sequence[str],
    train_messages: Collection[str],
    raw: Path,
    scratch: Path,
) -> dict:
    """Return rows for each kind of messages in `said`, and for real chat of different days.

    `real` are the messages that really came next. The yardstick of the distances comes from `held_out`, all messages of
    the test split.
    """
    real, held_out = plain(real), plain(held_out)
    pairs = {name: (plain(messages), real) for name, messages in said.items()}
    size = min(len(held_out) // 2, *(len(kind) for pair in pairs.values() for kind in pair))
    pairs = {name: tuple(kind[:size] for kind in pair) for name, pair in pairs.items()}
    spread = measure_spread(held_out, size, train_messages)
    days = split_days(raw, size)
    judged = tell_apart(pairs | ({FLOOR: days} if days else {}), scratch)
    rows = []
    for name, (right, total) in judged.items():
        low, high = wilson_interval(right, total)
        apart = differences(*(days if name == FLOOR else pairs[name]), train_messages)
        distances = {
            measure: apart[measure] / spread[measure] if spread[measure] else np.inf if apart[measure] else 0.0
            for measure in apart
        }
        if name == FLOOR:  # most of its messages are in the training data
            distances["copies"] = "–"
        told = {"told apart": right / total, "from": low, "to": high}
        rows.append({"messages": name} | told | {f"{measure}, apart": each for measure, each in distances.items()})
    return {"setting": f"{size} messages of each kind, after the same chat", "rows": rows}
