"""Messages packed into blocks: whole, in order, and each block with the same beginning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    import numpy as np


def truncate(ids: np.ndarray, newline: int, max_tokens: int) -> tuple[np.ndarray, int]:
    """Cut messages of more than `max_tokens` tokens, including the newline, which stays; count them.

    `ids` is (num_tokens,), the ids of whole messages, each with its newline.
    """
    import numpy as np

    ends = np.flatnonzero(ids == newline) + 1
    lengths = np.diff(ends, prepend=0)
    num_long = int((lengths > max_tokens).sum())
    if num_long:
        places = np.arange(len(ids)) - np.repeat(ends - lengths, lengths)  # (num_tokens,), in their messages
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
        import numpy as np

        ids = ids if self.rest is None else np.concatenate([self.rest, ids])
        ends = np.flatnonzero(ids == self.newline) + 1
        contents, first = [], 0
        while len(ids) - first > self.room:
            last = ends[np.searchsorted(ends, first + self.room, side="right") - 1]
            contents.append(ids[first:last])
            first = last
        self.rest = ids[first:]
        return self.frame(contents)

    def finish(self) -> np.ndarray:
        """Return the last block, (1, block_size), or none."""
        contents = [] if self.rest is None or not len(self.rest) else [self.rest]
        return self.frame(contents)

    def frame(self, contents: list[np.ndarray]) -> np.ndarray:
        import numpy as np

        dtype = None if self.rest is None else self.rest.dtype
        blocks = np.full((len(contents), self.block_size), self.pad, dtype)
        blocks[:, : len(self.begin)] = self.begin
        for block, content in zip(blocks, contents, strict=True):
            block[len(self.begin) : len(self.begin) + len(content)] = content
        return blocks
