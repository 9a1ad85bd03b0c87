"""Bits that messages cost a model. For bench_quality.py."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def decode_blocks(ids: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """Return the messages of each block."""
    return [text.split("\n")[:-1] for text in tokenizer.batch_decode(ids)]


def token_bits(network: PreTrainedModel, start: int, ids: list[int]) -> list[float]:
    """Return the bits that each token of a block costs the chatter."""
    with torch.inference_mode():
        logits = network(torch.tensor([[start, *ids]])).logits[0, :-1]  # (num_tokens, vocab_size)
        return (F.cross_entropy(logits, torch.tensor(ids), reduction="none") / math.log(2)).tolist()


def message_bits(symbols: Sequence[Hashable], bits: Iterable[float], end: Hashable) -> list[float]:
    """Add up the bits of the symbols of each message, including its `end`."""
    sums = [0.0]
    for symbol, cost in zip(symbols, bits, strict=True):
        sums[-1] += cost
        if symbol == end:
            sums.append(0.0)
    return sums[:-1]
