"""Compare a random test split with one of the newest blocks, by the loss of one model. For bench_quality.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets
from quality_bits import decode_blocks, measure_bits, message_bits, text_ids, token_bits
from quality_start import Start
from transformers import PreTrainedTokenizerBase

from chatter.generation.transformers_engine import load_weights
from chatter.tokens.chat import newline_id
from chatter.tokens.dataset import DATA_SUMMARY, load_blocks
from chatter.wording.training_messages import HASHES


def hold_out_both(dataset: Path, output: Path) -> dict[str, Dataset]:
    """Write a dataset of `tokenize_logs.py --test-last` with both kinds of blocks as `test`; return them.

    The random blocks come from the training blocks, as many as there are newest blocks, so that the same model can be
    tested on both.
    """
    blocks, _ = load_blocks(dataset)
    order = np.random.default_rng(0).permutation(len(blocks["train"]))
    num_random = min(len(blocks["test"]), len(order) // 2)
    splits = {"random blocks": blocks["train"].select(order[:num_random]), "newest blocks": blocks["test"]}
    both = concatenate_datasets([*splits.values()])
    DatasetDict(train=blocks["train"].select(order[num_random:]), test=both).save_to_disk(output)
    shutil.copytree(dataset / "tokenizer", output / "tokenizer")
    for name in (HASHES, DATA_SUMMARY):
        shutil.copy(dataset / name, output / name)
    return splits


def read_messages(split: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], list[str]]:
    """Return the ids of each block without its first token and padding, and all messages."""
    ids = text_ids(split, tokenizer)
    return ids, [message for block in decode_blocks(ids, tokenizer) for message in block]


def compare(lower: float) -> str:
    return f"{abs(lower):.1%} {'lower' if lower >= 0 else 'higher'}"


def compare_splits(raw: Path, start: Start, scratch: Path) -> dict:
    """Train a chatter on the CSVs in `raw`, and evaluate it on random blocks and on the newest ones."""
    newest, dataset, chatter = scratch / "newest", scratch / "both-splits", scratch / "chatter-both-splits"
    start.tokenize(raw, newest, "--test-last")
    splits = hold_out_both(newest, dataset)
    start.train(dataset, chatter)
    blocks, tokenizer = load_blocks(dataset)
    network, begin, newline = load_weights(chatter, "cpu"), tokenizer.bos_token_id, newline_id(tokenizer)
    train_messages = {*read_messages(blocks["train"], tokenizer)[1]}
    rows = []
    for name, split in splits.items():
        ids, messages = read_messages(split, tokenizer)
        bits = np.concatenate([message_bits(block, token_bits(network, begin, block), newline) for block in ids])
        rows.append(
            {
                "test split": name,
                "messages": len(messages),
                "also in the training data": np.mean([message in train_messages for message in messages]),
                **measure_bits(bits, messages, train_messages),
            }
        )
    lower, lower_if_new = (
        1 - rows[0][column] / rows[1][column] if rows[1][column] else 0.0
        for column in ("bits per byte", "bits per byte, new messages")
    )
    setting = (
        f"one model, {start.describe()}, {len(blocks['train']):,} other blocks to train on. The loss "
        f"of random blocks is {compare(lower)} than the loss of the newest, or {compare(lower_if_new)} without the "
        "messages that the training data contain"
    )
    return {"setting": setting, "rows": rows}
