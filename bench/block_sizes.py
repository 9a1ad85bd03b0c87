"""The cost of a block size: padding, and messages that are cut. For notebook.ipynb."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def count_blocks(lengths: Iterable[int], room: int) -> int:
    """Return how many blocks the messages of a chat fill, with room for this many tokens in each block.

    As in tokenize_logs.py, messages stay whole and in order, and a message longer than a block is cut.

    >>> count_blocks([3, 2, 2, 9], room=6)
    3
    """
    num_blocks, free = 0, 0
    for length in lengths:
        length = min(length, room)
        if length > free:
            num_blocks += 1
            free = room
        free -= length
    return num_blocks


def cost_of(block_size: int, chats: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return the share of tokens that are padding, and the share of messages that are cut.

    `chats` has the lengths of each chat's messages in tokens, with the newline. A block begins with a start token.

    >>> cost_of(8, [[5, 2, 5, 9], [6]])
    {'tokens that are padding': 0.09375, 'messages that are cut': 0.2}
    """
    room = block_size - 1
    num_blocks = sum(count_blocks(lengths, room) for lengths in chats)
    lengths = [length for chat in chats for length in chat]
    num_tokens = num_blocks + sum(min(length, room) for length in lengths)
    return {
        "tokens that are padding": 1 - num_tokens / (num_blocks * block_size),
        "messages that are cut": sum(length > room for length in lengths) / len(lengths),
    }
