"""Compare generated messages with held-out chat, for several temperatures and top-p. For bench_quality.py."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

from chatter.generation.engine import Engine, Sampling
from generate import generate

HELD_OUT = "held-out chat"
SAMPLINGS = [(temperature, top_p) for temperature in (0.7, 0.9, 1.0, 1.2) for top_p in (0.9, 0.95, 1.0)]
EMOTE = re.compile(r"\b(?:[a-z]+[A-Z]\w*|[A-Z]{3,}\w*|[A-Z][a-z]+[A-Z]\w*)\b")  # as in the notebook: pandaLove, LULW


def distinct(messages: Sequence[str], order: int) -> float:
    """Return the share of n-grams of words that are distinct: distinct-1, distinct-2 (Li et al., 2016)."""
    grams = [gram for text in messages for gram in zip(*(text.split()[first:] for first in range(order)), strict=False)]
    return len({*grams}) / max(len(grams), 1)


def describe(messages: Sequence[str], train_messages: Collection[str]) -> dict[str, float]:
    """Return the measures of some messages."""
    lengths = np.array([len(text) for text in messages])
    return {
        "median length": float(np.median(lengths)),
        "90% are at most": float(np.quantile(lengths, 0.9)),
        "emotes a message": sum(len(EMOTE.findall(text)) for text in messages) / len(messages),
        "distinct-1": distinct(messages, 1),
        "distinct-2": distinct(messages, 2),
        "copies": sum(text in train_messages for text in messages) / len(messages),
    }


def cut_blocks(blocks: Sequence[Sequence[str]], num_cuts: int) -> list[tuple[int, int]]:
    """Return up to `num_cuts` places in blocks: the number of a block, and of the message that comes next in it.

    At first they are in the middle of each block, and then after a quarter and three quarters of it.
    """
    cuts = [(number, int(len(block) * share)) for share in (1 / 2, 1 / 4, 3 / 4) for number, block in enumerate(blocks)]
    return [cut for cut in dict.fromkeys(cuts) if cut[1]][:num_cuts]


def sampling_name(temperature: float, top_p: float) -> str:
    return f"temperature {temperature}, top-p {top_p}"


def compare_sampling(
    engine: Engine,
    train_messages: Collection[str],
    test_blocks: list[list[str]],
    num_samples: int,
    samplings: Sequence[tuple[float, float]],
) -> tuple[list[dict], dict[str, list[str]]]:
    """Return rows of held-out messages, and of as many sampled ones for each temperature and top-p in `samplings`; and
    the messages.

    Each comes after the beginning of a test block, and the held-out messages are the ones that really came next.
    """
    cuts = cut_blocks(test_blocks, num_samples)
    said = {HELD_OUT: [test_blocks[number][place] for number, place in cuts]}
    chats = [test_blocks[number][:place] for number, place in cuts]
    for temperature, top_p in samplings:
        engine.seed(0)
        sampling = Sampling(temperature=temperature, top_p=top_p)
        said[sampling_name(temperature, top_p)] = [generate(engine, chat, sampling=sampling)[0].text for chat in chats]
    return [{"sampling": name} | describe(messages, train_messages) for name, messages in said.items()], said
