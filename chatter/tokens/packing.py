"""Messages packed into blocks: whole, in order, and each block with the same beginning."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from transformers import PreTrainedTokenizerBase

from chatter.cli import InputError
from chatter.tokens.chat import begin_chat, channel_header, newline_id


def block_dtype(tokenizer: PreTrainedTokenizerBase) -> np.dtype:
    """Return the smallest integer type that fits the vocabulary and that PyTorch supports: uint16, or int32."""
    return np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)


def truncate(ids: np.ndarray, newline: int, max_tokens: int) -> tuple[np.ndarray, int]:
    """Cut messages to at most `max_tokens` tokens, including the newline; return the ids and how many were cut.

    `ids` is (num_tokens,), the ids of whole messages, each with its newline.
    """
    ends = np.flatnonzero(ids == newline) + 1
    lengths = np.diff(ends, prepend=0)
    num_long = int((lengths > max_tokens).sum())
    if num_long:
        places = np.arange(len(ids)) - np.repeat(ends - lengths, lengths)  # (num_tokens,), positions in the messages
        ids = ids[(places < max_tokens - 1) | (ids == newline)]
    return ids, num_long


class Packer:
    """Groups the messages of one chat into blocks that begin with the tokens `begin` and end with padding.

    >>> packer = Packer(6, [90], newline=91, pad=92)
    >>> packer.add(np.array([1, 2, 91, 3, 91, 4, 91]))
    array([[90,  1,  2, 91,  3, 91]])
    >>> packer.finish()
    array([[90,  4, 91, 92, 92, 92]])
    """

    def __init__(self, block_size: int, begin: Sequence[int], newline: int, pad: int) -> None:
        self.block_size, self.begin, self.newline, self.pad = block_size, begin, newline, pad
        self.room = block_size - len(begin)  # for messages, in a block
        self.rest = None  # messages of the block that is not full yet

    def add(self, ids: np.ndarray) -> np.ndarray:
        """Return the blocks that more messages fill, (num_blocks, block_size).

        `ids` is (num_tokens,), the ids of whole messages of at most `room` tokens, each with its newline.
        """
        ids = ids if self.rest is None else np.concatenate([self.rest, ids])
        ends = (np.flatnonzero(ids == self.newline) + 1).tolist()  # a list, as bisect is faster than np.searchsorted
        begins = [0]
        while len(ids) - begins[-1] > self.room:
            begins.append(ends[bisect_right(ends, begins[-1] + self.room) - 1])
        self.rest = ids[begins[-1] :]
        return self.frame(ids, begins)

    def finish(self) -> np.ndarray:
        """Return the last block, (1, block_size), or (0, block_size) if nothing is left."""
        rest = np.empty(0) if self.rest is None else self.rest
        return self.frame(rest, [0, len(rest)] if len(rest) else [0])

    def frame(self, ids: np.ndarray, begins: Sequence[int]) -> np.ndarray:
        """Return a block for the ids between each two of `begins`, which are positions in `ids`, beginning with 0."""
        blocks = np.full((len(begins) - 1, self.block_size), self.pad, ids.dtype)
        blocks[:, : len(self.begin)] = self.begin
        is_taken = np.arange(self.room) < np.diff(begins)[:, None]  # (num_blocks, room)
        blocks[:, len(self.begin) :][is_taken] = ids[: begins[-1]]
        return blocks


class BlockWriter:
    """Writes tokenized messages as blocks. Each block has the messages of one CSV and one channel.

    `counts` has the numbers of truncated messages, of blocks, and of tokens without padding. `origins` has an entry for
    each block, if the origins of messages are given.
    """

    def __init__(self, file: BinaryIO, tokenizer: PreTrainedTokenizerBase, block_size: int) -> None:
        self.file, self.tokenizer, self.block_size = file, tokenizer, block_size
        self.newline, self.dtype = newline_id(tokenizer), block_dtype(tokenizer)
        self.counts = Counter({"truncated messages": 0, "blocks": 0, "tokens": 0})
        self.begins: dict[str, list[int]] = {}  # channel -> the first tokens of its blocks
        self.packers: dict[str, Packer] = {}  # channel -> its packer, for the current CSV
        self.waiting: dict[str, np.ndarray] = {}  # channel -> origins of the messages that are not in a block yet
        self.origins: list[np.ndarray] = []  # of the first message of each block

    def add(self, channel: str, ids: np.ndarray, origins: np.ndarray | None = None) -> None:
        """Write the blocks that messages fill. If `channel` is not "", its header begins its blocks.

        `ids` is (num_tokens,), in the type of the blocks: the ids of whole messages, each with its newline. `origins`
        has an entry for each message; None if nobody needs them.
        """
        if channel not in self.packers:
            self.packers[channel] = self.make_packer(channel)
        packer = self.packers[channel]
        ids, num_truncated = truncate(ids, self.newline, packer.room)
        self.counts["truncated messages"] += num_truncated
        if origins is not None:
            self.waiting[channel] = np.concatenate([self.waiting.get(channel, origins[:0]), origins])
        self.write(channel, packer.add(ids))

    def finish_file(self) -> None:
        """Write the last blocks of a CSV or of a stream in it, so that no block contains messages of two of them."""
        for channel, packer in self.packers.items():
            self.write(channel, packer.finish())
        self.packers = {}

    def make_packer(self, channel: str) -> Packer:
        """Return a packer for a channel. Raises InputError if its header leaves no room for a message."""
        if channel not in self.begins:
            header = channel_header(channel) if channel else ""
            begin = begin_chat(self.tokenizer, self.tokenizer.bos_token_id, self.newline, header)
            if len(begin) > self.block_size - 2:
                raise InputError(
                    f"the header of channel {channel} leaves no room for a message in a block of {self.block_size} "
                    "tokens. Pass a larger --block-size."
                )
            self.begins[channel] = begin
        return Packer(self.block_size, self.begins[channel], self.newline, self.tokenizer.pad_token_id)

    def write(self, channel: str, blocks: np.ndarray) -> None:
        self.file.write(blocks)
        self.counts["blocks"] += len(blocks)
        self.counts["tokens"] += int((blocks != self.tokenizer.pad_token_id).sum())
        if channel in self.waiting:
            in_header = self.packers[channel].begin.count(self.newline)
            sizes = (blocks == self.newline).sum(axis=1) - in_header  # in messages
            ends = sizes.cumsum()
            self.origins.append(self.waiting[channel][ends - sizes])
            self.waiting[channel] = self.waiting[channel][sizes.sum() :]
