"""Bits that messages cost a model. For bench_quality.py, compare_pretrained.py and learning_rates.py."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from chatter.training.outputs import METRICS


def bits_by_epoch(chatter: Path) -> list[float]:
    """Return the bits per byte of the test split that train.py measured: before training, and after each epoch."""
    history = json.loads((chatter / METRICS).read_text(encoding="utf-8"))["history"]
    return [entry["eval_bits_per_byte"] for entry in history if "eval_loss" in entry]


def text_ids(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of each block without its first token and padding, which train.py does not count either."""
    return [row[1:][row[1:] != tokenizer.pad_token_id].tolist() for row in split["input_ids"]]


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


def measure_bits(bits: np.ndarray, messages: Sequence[str], train_messages: Collection[str]) -> dict[str, float]:
    """Return the bits per byte of some messages, and of those that are not in the training data.

    `bits` is (num_messages,). The newline after a message counts as a byte of it.
    """
    sizes = np.array([len(message.encode()) + 1 for message in messages])
    is_new = np.array([message not in train_messages for message in messages])
    return {
        "bits per byte": bits.sum() / sizes.sum(),
        "bits per byte, new messages": bits[is_new].sum() / max(sizes[is_new].sum(), 1),
    }
