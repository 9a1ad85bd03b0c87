"""Blocks of token ids as text that people can read, for notebook.ipynb.

The blocks are the ones that `tokenize_logs.py --with-channel` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from transformers.convert_slow_tokenizer import bytes_to_unicode

from chatter.tokens.chat import newline_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BYTES = {letter: byte for byte, letter in bytes_to_unicode().items()}  # GPT-2 writes each byte as a printable letter


def spell(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
    """Return the text of each token, or its bytes in hexadecimal if they are not ASCII."""
    tokens = [bytes(BYTES[letter] for letter in token) for token in tokenizer.convert_ids_to_tokens(ids)]
    return [token.decode() if token.isascii() else token.hex(" ") for token in tokens]


def content(tokenizer: PreTrainedTokenizerBase, block: Iterable[int]) -> list[int]:
    """Return the ids of a block without the start token and padding."""
    return [int(token) for token in block if token not in (tokenizer.bos_token_id, tokenizer.pad_token_id)]


def lines_of(tokenizer: PreTrainedTokenizerBase, block: Iterable[int]) -> list[str]:
    """Return the lines of a block: the header, and then the messages."""
    return tokenizer.decode(content(tokenizer, block)).removesuffix("\n").split("\n")


def token_kinds(tokenizer: PreTrainedTokenizerBase, block: Iterable[int]) -> list[str]:
    """Return the kind of each token of a block: <|endoftext|>, #channel, message, next message, or [PAD].

    Messages alternate between two kinds, so that a figure can show where one ends.
    """
    newline, line, kinds = newline_id(tokenizer), 0, []
    for token in block:
        if token == tokenizer.bos_token_id:
            kinds.append("<|endoftext|>")
        elif token == tokenizer.pad_token_id:
            kinds.append("[PAD]")
        elif line == 0:
            kinds.append("#channel")
        else:
            kinds.append("message" if line % 2 else "next message")
        line += int(token == newline)
    return kinds
