"""The tokens and bytes of the text in blocks, by channel. With them, a loss per token becomes bits per byte.

The bytes are the UTF-8 of the messages, each with its newline. The start token and the header of a block have none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from chatter.tokens.chat import begin_chat, channel_header, newline_id
from chatter.tokens.token_bytes import choose_count

UNKNOWN = "(unknown)"  # the channel of blocks without the header of a known one
COUNTED_BLOCKS = 1000  # in memory at a time


@dataclass(frozen=True)
class TextSize:
    """The size of the text in some blocks."""

    tokens: int  # that a model predicts: all but the first of each block, without padding
    bytes: int | None  # None if some tokens stand for text that is not known


class Headers:
    """The headers of channels as tokens, by which the channel of a block is found."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, channels: Iterable[str] = ()) -> None:
        start, self.newline = tokenizer.bos_token_id, newline_id(tokenizer)
        self.channels = {
            tuple(begin_chat(tokenizer, start, self.newline, channel_header(channel))): channel for channel in channels
        }

    def find(self, ids: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the channel of each block, and where its first message begins. `ids` is (num_blocks, block_size)."""
        channels, begins = [UNKNOWN] * len(ids), np.ones(len(ids), int)
        if self.channels:
            ends = (ids == self.newline).argmax(axis=1) + 1
            for row, end in enumerate(ends.tolist()):
                channel = self.channels.get(tuple(ids[row, :end].tolist()))
                if channel is not None:
                    channels[row], begins[row] = channel, end
        return channels, begins


@dataclass(frozen=True)
class SplitText:
    """The size of the text in a split, by channel. All of it is UNKNOWN if the blocks have no headers."""

    headers: Headers
    by_channel: dict[str, TextSize]

    @property
    def total(self) -> TextSize:
        sizes = self.by_channel.values()
        known = all(size.bytes is not None for size in sizes)
        return TextSize(sum(size.tokens for size in sizes), sum(size.bytes for size in sizes) if known else None)


def count_text(split: Dataset, tokenizer: PreTrainedTokenizerBase, channels: Iterable[str] = ()) -> SplitText:
    """Count the text in a split. `channels` are those whose headers begin its blocks, if there are any."""
    headers, count_bytes = Headers(tokenizer, channels), choose_count(tokenizer)
    tokens, sizes = Counter(), Counter()
    for table in split.select_columns(["input_ids"]).with_format("arrow").iter(batch_size=COUNTED_BLOCKS):
        rows = table["input_ids"].combine_chunks()
        ids = rows.flatten().to_numpy().reshape(len(rows), -1)  # (up to COUNTED_BLOCKS, block_size)
        found, begins = headers.find(ids)
        predicted = ids != tokenizer.pad_token_id
        predicted[:, 0] = False
        is_text = predicted & (np.arange(ids.shape[1]) >= begins[:, None])
        for channel, count, size in zip(found, predicted.sum(axis=1), count_bytes(ids, is_text), strict=True):
            tokens[channel] += int(count)
            sizes[channel] += size
    return SplitText(
        headers,
        {
            channel: TextSize(tokens[channel], None if math.isnan(sizes[channel]) else int(sizes[channel]))
            for channel in (*headers.channels.values(), UNKNOWN)
            if channel in tokens
        },
    )
