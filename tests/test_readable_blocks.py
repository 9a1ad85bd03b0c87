"""bench/readable_blocks.py, which the notebook uses."""

from conftest import TINY

from bench.readable_blocks import content, lines_of, spell, token_kinds
from chatter.tokens.chat import encode
from chatter.tokens.tokenizer import load_tokenizer

tokenizer = load_tokenizer(str(TINY))
HEADER, FIRST, SECOND = encode(tokenizer, ["#somechannel\n", "hello chat\n", "안녕 😂\n"])
BLOCK = [tokenizer.bos_token_id, *HEADER, *FIRST, *SECOND, tokenizer.pad_token_id, tokenizer.pad_token_id]


def test_the_lines_of_a_block():
    assert content(tokenizer, BLOCK) == [*HEADER, *FIRST, *SECOND]
    assert lines_of(tokenizer, BLOCK) == ["#somechannel", "hello chat", "안녕 😂"]


def test_each_token_has_a_kind():
    expected = ["<|endoftext|>", *["#channel"] * len(HEADER), *["message"] * len(FIRST)]
    assert token_kinds(tokenizer, BLOCK) == [*expected, *["next message"] * len(SECOND), "[PAD]", "[PAD]"]


def test_a_token_is_spelled_as_text_or_in_hexadecimal():
    assert "".join(spell(tokenizer, FIRST)) == "hello chat\n"
    assert spell(tokenizer, encode(tokenizer, ["é"])[0]) in (["c3 a9"], ["c3", "a9"])
