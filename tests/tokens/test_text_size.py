"""chatter.tokens.text_size: how much text blocks contain, by the channel that their header names."""

import numpy as np
import pytest
from conftest import ROOT
from datasets import Dataset

from chatter.tokens.chat import begin_chat, encode, newline_id
from chatter.tokens.text_size import UNKNOWN, TextSize, count_text
from chatter.tokens.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tiny():
    return load_tokenizer(str(ROOT / "models/tiny-gpt2"))


def make_block(tokenizer, messages, header="", size=64):
    newline = newline_id(tokenizer)
    ids = begin_chat(tokenizer, tokenizer.bos_token_id, newline, header)
    ids += [token for text in encode(tokenizer, messages) for token in (*text, newline)]
    return [*ids, *[tokenizer.pad_token_id] * (size - len(ids))]


def tokens_of(block, tokenizer):
    return sum(token != tokenizer.pad_token_id for token in block) - 1


def size_of(messages, blocks, tokenizer):
    num_bytes = sum(len(text.encode()) + 1 for text in messages)
    return TextSize(sum(tokens_of(block, tokenizer) for block in blocks), num_bytes)


def test_the_start_the_header_and_padding_have_no_bytes(tiny):
    """The header is predicted. The same line in a later place is a message."""
    messages = ["hi", "#alpha", "\u00e9t\u00e9 \U0001f602"]
    block = make_block(tiny, messages, "#alpha")
    text = count_text(Dataset.from_dict({"input_ids": [block]}), tiny, ["alpha"])
    assert text.total == text.by_channel["alpha"] == size_of(messages, [block], tiny)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_channels_are_counted_apart_and_others_as_unknown(dtype, tiny):
    alpha, beta = ["hi all", "LUL"], ["#alpha"]
    blocks = [make_block(tiny, alpha, "#alpha"), make_block(tiny, beta, "#beta"), make_block(tiny, ["hm"], "#alpha")]
    blocks += [make_block(tiny, ["what?"], "#alphabet"), make_block(tiny, ["no header"])]
    split = Dataset.from_dict({"input_ids": np.array(blocks, dtype), "more": range(5)})
    text = count_text(split, tiny, ["beta", "alpha", "silent"])
    assert text.by_channel == {
        "beta": size_of(beta, blocks[1:2], tiny),
        "alpha": size_of([*alpha, "hm"], [blocks[0], blocks[2]], tiny),
        UNKNOWN: size_of(["#alphabet", "what?", "no header"], blocks[3:], tiny),
    }
    assert list(text.by_channel) == ["beta", "alpha", UNKNOWN]
    assert text.total == TextSize(
        sum(size.tokens for size in text.by_channel.values()), sum(size.bytes for size in text.by_channel.values())
    )


def test_without_channels_all_lines_are_messages(tiny):
    block = make_block(tiny, ["#alpha", "hi"])
    text = count_text(Dataset.from_dict({"input_ids": [block]}), tiny)
    assert text.by_channel == {UNKNOWN: size_of(["#alpha", "hi"], [block], tiny)}


def test_one_unknown_size_makes_the_total_unknown(tiny):
    text = count_text(Dataset.from_dict({"input_ids": [make_block(tiny, ["hi"])]}), tiny)
    text.by_channel["alpha"] = TextSize(7, None)
    assert text.total == TextSize(text.by_channel[UNKNOWN].tokens + 7, None)


def test_as_many_blocks_as_do_not_fit_into_memory_at_once(tiny, monkeypatch):
    monkeypatch.setattr("chatter.tokens.text_size.COUNTED_BLOCKS", 2)
    messages = [f"message {number}" for number in range(5)]
    blocks = [make_block(tiny, [message]) for message in messages]
    split = Dataset.from_dict({"input_ids": blocks})
    assert count_text(split, tiny).total == size_of(messages, blocks, tiny)
    some = split.with_format("numpy").select([4, 0])
    assert count_text(some, tiny).total == size_of([messages[4], messages[0]], [blocks[4], blocks[0]], tiny)
