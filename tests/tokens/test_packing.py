"""chatter.tokens.packing: whole messages in blocks, as the obvious and slow way would pack them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatter.tokens.packing import Packer, truncate

NEWLINE, START, PAD = 91, 90, 92
token_lists = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), max_size=30)


def slow_blocks(encoded, block_size, begin):
    """The obvious way: a list of messages a block, then padding."""
    blocks = []
    for ids in encoded:
        line = [*ids[: block_size - len(begin) - 1], NEWLINE]
        if not blocks or len(blocks[-1]) + len(line) > block_size:
            blocks.append([*begin])
        blocks[-1] = blocks[-1] + line
    return [block + [PAD] * (block_size - len(block)) for block in blocks]


@pytest.mark.parametrize("begin", [[START], [START, 5, 6, NEWLINE]], ids=["plain", "with a header"])
@given(batches=st.lists(token_lists, max_size=4), room=st.integers(2, 16))
def test_truncate_and_pack(begin, batches, room):
    packer, blocks, num_truncated = Packer(len(begin) + room, begin, NEWLINE, PAD), [], 0
    for encoded in batches:
        ids = np.array([token for ids in encoded for token in [*ids, NEWLINE]], np.uint16)
        ids, num_long = truncate(ids, NEWLINE, packer.room)
        num_truncated += num_long
        blocks += packer.add(ids).tolist()
    blocks += packer.finish().tolist()
    everything = [ids for encoded in batches for ids in encoded]
    assert blocks == slow_blocks(everything, len(begin) + room, begin)
    assert num_truncated == sum(len(ids) > room - 1 for ids in everything)


def test_blocks_have_the_type_of_the_ids():
    packer = Packer(4, [START], NEWLINE, PAD)
    assert packer.add(np.array([1, NEWLINE, 2, NEWLINE], np.uint16)).dtype == packer.finish().dtype == np.uint16
