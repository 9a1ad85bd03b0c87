"""Compare blocks with and without the header `#channel`: bits per byte, and how often words of one channel appear in
another. For bench_quality.py.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from quality_start import Start
from torch.nn import functional as F

from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Sampling
from chatter.generation.transformers_engine import load_weights
from chatter.tokens.chat import ChatFormat, channel_header, newline_id
from chatter.tokens.dataset import DATA_SUMMARY, load_blocks
from chatter.tokens.text_size import count_text
from chatter.wording.training_messages import HASHES
from generate import generate

NUM_WORDS = 20  # of a channel that count as its own: those with the highest log-odds


def log_odds(counts: dict[str, Counter], channel: str) -> dict[str, float]:
    """Return how much likelier each word is in a channel than in the others, in standard errors.

    As in the notebook: log-odds with a prior of a tenth of all counts (Monroe, Colaresi and Quinn, 2008).
    """
    total = sum(counts.values(), Counter())
    words = [*total]
    everywhere = np.array([total[word] for word in words], float)
    here = np.array([counts[channel][word] for word in words], float)
    there = everywhere - here + 0.1 * everywhere
    here += 0.1 * everywhere
    odds = np.log(here / (here.sum() - here)) - np.log(there / (there.sum() - there))
    return dict(zip(words, odds / np.sqrt(1 / here + 1 / there), strict=True))


def own_words(chats: dict[str, list[str]]) -> dict[str, set[str]]:
    """Return the most typical words and emotes of each channel that no other channel uses."""
    counts = {
        channel: Counter(word for text in chat for word in text.split() if word.isascii())
        for channel, chat in chats.items()
    }
    odds = {channel: log_odds(counts, channel) for channel in counts}
    alone = {
        channel: {
            word for word in counts[channel] if all(word not in counts[other] for other in counts if other != channel)
        }
        for channel in counts
    }
    return {channel: {*sorted(alone[channel], key=odds[channel].get)[-NUM_WORDS:]} for channel in odds}


def foreign_share(chats: dict[str, list[str]], words: dict[str, set[str]]) -> float:
    """Return the share of messages with words of another channel, a mean over channels."""
    shares = []
    for channel, chat in chats.items():
        others = set().union(*(words[other] for other in words if other != channel)) - words[channel]
        shares.append(sum(not others.isdisjoint(text.split()) for text in chat) / len(chat))
    return sum(shares) / len(shares)


def split_header(row: np.ndarray, newline: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of a block up to its header's newline, and those after it."""
    end = int(np.argmax(row == newline)) + 1
    return row[:end], row[end:]


def without_headers(dataset: Path, output: Path) -> None:
    """Write the same blocks without their headers, so that both models learn from and predict the same messages."""
    blocks, tokenizer = load_blocks(dataset)
    newline, plain = newline_id(tokenizer), DatasetDict()
    for name, split in blocks.items():
        rows = np.full((len(split), len(split[0]["input_ids"])), tokenizer.pad_token_id)
        for number, row in enumerate(split):
            _, messages = split_header(row["input_ids"], newline)
            rows[number, : 1 + len(messages)] = [tokenizer.eos_token_id, *messages]
        plain[name] = Dataset.from_dict({"input_ids": rows.tolist()})
    plain.save_to_disk(output)
    shutil.copytree(dataset / "tokenizer", output / "tokenizer")
    shutil.copy(dataset / HASHES, output / HASHES)
    (output / DATA_SUMMARY).write_text("{}")


def bits_per_byte(dataset: Path, chatter: Path, channels: Sequence[str]) -> float:
    """Return the bits per byte of the messages in the test blocks; unlike in train.py, the header is not predicted."""
    blocks, tokenizer = load_blocks(dataset)
    network, text = load_weights(chatter, "cpu"), count_text(blocks["test"], tokenizer, channels)
    bits = 0.0
    for row in blocks["test"]:
        ids = row["input_ids"][row["input_ids"] != tokenizer.pad_token_id].astype(np.int64)
        [first] = text.headers.find(ids[None])[1]
        with torch.inference_mode():
            logits = network(torch.from_numpy(ids)[None]).logits[0, first - 1 : -1]  # (num_tokens, vocab_size)
            bits += F.cross_entropy(logits, torch.from_numpy(ids[first:]), reduction="sum").item() / math.log(2)
    return bits / text.total.bytes


def chats_of(dataset: Path, split: str) -> dict[str, list[str]]:
    """Return the messages of each channel in the blocks of a dataset with headers."""
    blocks, tokenizer = load_blocks(dataset)
    chats = {}
    for row in blocks[split]:
        header, *messages = tokenizer.decode(row["input_ids"][1:], skip_special_tokens=True).split("\n")[:-1]
        chats.setdefault(header.removeprefix("#"), []).extend(messages)
    return chats


def compare_headers(raw: Path, start: Start, scratch: Path, num_samples: int) -> dict:
    """Train a chatter with headers and one without on the same blocks of the CSVs in `raw`, and compare them."""
    dataset, plain = scratch / "with-channel", scratch / "without-channel"
    start.tokenize(raw, dataset, "--with-channel")
    without_headers(dataset, plain)
    words, held_out = own_words(chats_of(dataset, "train")), chats_of(dataset, "test")
    rows = []
    train, unlearned = ["train.py"], ["bench/peers/train_header_unlearned.py", "train.py"]
    for name, (folder, script) in {
        "without": (plain, train),
        "with": (dataset, train),
        "with, not counted in the loss": (dataset, unlearned),
    }.items():
        chatter = scratch / f"chatter-{len(rows)}"
        start.train(folder, chatter, script)
        engine = load_engine(chatter, "cpu")
        engine.seed(0)
        channels = ChatFormat.load(chatter).channels
        chats = {}
        for channel in words:
            header = channel_header(channel) if channels else ""
            said = generate(engine, header=header, num_messages=num_samples, sampling=Sampling())
            chats[channel] = [message.text for message in said]
        rows.append(
            {
                "#channel": name,
                "bits per byte": bits_per_byte(folder, chatter, channels),
                "messages with another channel's words": foreign_share(chats, words),
            }
        )
    floor = foreign_share({channel: chat for channel, chat in held_out.items() if chat}, words)
    setting = (
        f"{len(words)} channels, {start.describe()}, {num_samples} messages that open a chat in each. "
        f"Of the words that no other channel says, a channel's own are the {NUM_WORDS} with the highest log-odds. Of "
        f"held-out messages, {floor:.1%} have another channel's words"
    )
    return {"setting": setting, "rows": rows}
