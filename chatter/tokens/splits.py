"""Which blocks are for testing: a random share, or the newest blocks of each channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from chatter.cli import InputError
from chatter.logs.batch import channel_name
from chatter.logs.times import PLAIN_STAMP
from chatter.tokens.chat import clean
from chatter.tokens.tables import split_chats

# Where and when a message was sent: the hash of its channel, or 0, and its time, or NaT
ORIGIN = np.dtype([("channel", "<u8"), ("moment", "<M8[s]")])


def read_origins(columns: Mapping[str, pa.Array]) -> np.ndarray:
    """Return the origin of each row, (num_rows,) ORIGIN, from the columns `channel`, `date` and `time` that exist."""
    origins = np.zeros(len(columns["message"]), ORIGIN)
    if "channel" in columns:
        channels = columns["channel"].to_pylist()
        hashes = {channel: hash_channel(channel) for channel in dict.fromkeys(channels)}
        origins["channel"] = [hashes[channel] for channel in channels]
    texts = [columns[name].cast(pa.string()).fill_null("") for name in ("date", "time") if name in columns]
    origins["moment"] = read_moments(pc.binary_join_element_wise(*texts, " ")) if texts else "NaT"
    return origins


def read_moments(texts: pa.Array) -> np.ndarray:
    """Return the moments of texts such as 2024-03-07 21:05:09 or 2024-03-07T21:05:09Z, (num_texts,); NaT for others.

    A text that begins with a date counts as the beginning of that day.
    """
    texts = pc.utf8_trim_whitespace(texts)
    days = pc.strptime(pc.utf8_slice_codeunits(texts, 0, 10), "%Y-%m-%d", "s", error_is_null=True)
    stamps = pc.replace_substring(pc.utf8_slice_codeunits(texts, 0, 19), "T", " ")
    moments = pc.strptime(stamps, "%Y-%m-%d %H:%M:%S", "s", error_is_null=True)
    moments = pc.if_else(pc.match_substring_regex(texts, PLAIN_STAMP), moments, None)
    return pc.coalesce(moments, days).to_numpy(zero_copy_only=False)


def hash_channel(channel: str | None) -> int:
    """Return a hash of a channel's name, or 0 if it is empty."""
    name = channel_name(channel or "")
    return xxh3_64_intdigest(name.encode()) if name else 0


def split_origins(
    columns: Mapping[str, pa.Array], path: Path, by_channel: bool, last: Any = None
) -> Iterator[np.ndarray]:
    """Yield the origins of the messages, except empty ones, in each of the lists of `split_chats`, (num_messages,)."""
    origins = read_origins(columns)
    has_text = np.array([bool(clean(message)) for message in columns["message"].to_pylist()], bool)
    places = columns | {"message": pa.array(range(len(origins)))}
    for _, rows in split_chats(places, path, by_channel, last):
        sent = np.array(rows, int)
        yield origins[sent[has_text[sent]]]


def count_test_blocks(num_blocks: int, test_size: float) -> int:
    """Return how many of some blocks are for testing: at least one, if there are two, and never all."""
    return min(max(round(num_blocks * test_size), 1), num_blocks - 1)


def count_unknown(origins: np.ndarray) -> dict[str, int]:
    """Return how many blocks have no channel, and how many have no time."""
    counts = {"without a channel": origins["channel"] == 0, "without a date": np.isnat(origins["moment"])}
    return {f"blocks {name}": int(is_unknown.sum()) for name, is_unknown in counts.items()}


def find_newest(origins: np.ndarray, test_size: float) -> np.ndarray:
    """Return whether each block is among the newest of its channel, (num_blocks,) bool.

    `origins` is (num_blocks,) ORIGIN, of the first message in each block. Blocks of the same time stay in their order,
    and blocks without a time count as older than the others. Raises InputError if no channel has two blocks.
    """
    is_newest = np.zeros(len(origins), bool)
    moments = origins["moment"].astype(np.int64)  # NaT becomes the smallest number
    order = np.lexsort([moments, origins["channel"]])
    for blocks in np.split(order, np.flatnonzero(np.diff(origins["channel"][order])) + 1):
        is_newest[blocks[len(blocks) - count_test_blocks(len(blocks), test_size) :]] = True
    if not is_newest.any():
        raise InputError(
            "no channel has two blocks, one to train on and a newer one for the test split. Leave out --test-last, or "
            "pass a smaller --block-size or a larger --max-tokens."
        )
    return is_newest


def split_blocks(
    num_blocks: int, test_size: float, seed: int, origins: np.ndarray | None = None, max_blocks: int | None = None
) -> dict[str, np.ndarray]:
    """Return the numbers of the blocks of each split, shuffled.

    The split `test` is a random share of the blocks or, with `origins` as in `find_newest`, the newest of each channel.
    At most `max_blocks` blocks, picked at random, are in one of the splits.
    """
    order = np.random.default_rng(seed).permutation(num_blocks)[:max_blocks]
    if origins is None:
        num_test = count_test_blocks(len(order), test_size)
        return {"train": order[num_test:], "test": order[:num_test]}
    kept = np.sort(order)
    is_newest = np.isin(order, kept[find_newest(origins[kept], test_size)])
    return {"train": order[~is_newest], "test": order[is_newest]}
