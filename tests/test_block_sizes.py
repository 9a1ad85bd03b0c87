"""bench/block_sizes.py, which the notebook uses."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import block_sizes
from chatter.tokens.packing import Packer, truncate

START, NEWLINE, PAD, LETTER = 90, 91, 92, 1


@given(st.lists(st.lists(st.integers(1, 12), min_size=1), min_size=1), st.integers(4, 16))
def test_the_cost_matches_the_blocks_of_tokenize_logs(chats, block_size):
    blocks, num_cut = [], 0
    for lengths in chats:
        ids = np.array([token for length in lengths for token in [LETTER] * (length - 1) + [NEWLINE]])
        packer = Packer(block_size, [START], NEWLINE, PAD)
        ids, num_long = truncate(ids, NEWLINE, packer.room)
        blocks += [*packer.add(ids), *packer.finish()]
        num_cut += num_long
    cost = block_sizes.cost_of(block_size, chats)
    assert cost["tokens that are padding"] == pytest.approx((np.array(blocks) == PAD).mean())
    assert cost["messages that are cut"] == num_cut / sum(map(len, chats))


def test_the_examples_are_right():
    assert doctest.testmod(block_sizes).failed == 0
