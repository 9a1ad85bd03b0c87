"""Compare generated messages with held-out chat, for each temperature and top-p. For bench_quality.py."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Sampling
from generate import generate

TEMPERATURES, TOP_PS = (0.7, 0.9, 1.0, 1.2), (0.9, 0.95, 1.0)
EMOTE = re.compile(r"\b(?:[a-z]+[A-Z]\w*|[A-Z]{3,}\w*|[A-Z][a-z]+[A-Z]\w*)\b")  # as in the notebook: pandaLove, LULW


def distinct(messages: Sequence[str], order: int) -> float:
    """Return the share of n-grams of words that are distinct: distinct-1, distinct-2 (Li et al., 2016)."""
    grams = [gram for text in messages for gram in zip(*(text.split()[first:] for first in range(order)), strict=False)]
    return len({*grams}) / max(len(grams), 1)


def describe(name: str, messages: Sequence[str], train_messages: Collection[str]) -> dict:
    """Return a row of the table."""
    lengths = np.array([len(text) for text in messages])
    return {
        "sampling": name,
        "median length": float(np.median(lengths)),
        "90% are at most": float(np.quantile(lengths, 0.9)),
        "emotes a message": sum(len(EMOTE.findall(text)) for text in messages) / len(messages),
        "distinct-1": distinct(messages, 1),
        "distinct-2": distinct(messages, 2),
        "copies": sum(text in train_messages for text in messages) / len(messages),
    }


def compare_sampling(
    chatter: Path, train_messages: Collection[str], test_blocks: list[list[str]], num_samples: int, quick: bool = False
) -> list[dict]:
    """Return rows of held-out messages, and of as many sampled ones for each temperature and top-p.

    Each continues the first half of a test block, and the held-out messages are the ones that really came next.
    """
    halves = [(block[: len(block) // 2], block[len(block) // 2]) for block in test_blocks if len(block) > 1]
    halves = halves[:num_samples]
    engine = load_engine(chatter, "cpu")
    rows = [describe("held-out chat", [said for _, said in halves], train_messages)]
    for temperature in TEMPERATURES[1:2] if quick else TEMPERATURES:
        for top_p in TOP_PS[1:2] if quick else TOP_PS:
            engine.seed(0)
            sampling = Sampling(temperature=temperature, top_p=top_p)
            said = [generate(engine, chat, sampling=sampling)[0].text for chat, _ in halves]
            rows.append(describe(f"temperature {temperature}, top-p {top_p}", said, train_messages))
    return rows
