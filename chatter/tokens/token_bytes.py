"""The bytes of text that tokens stand for, exactly, also where a message was cut within a character."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from chatter.tokens.chat import encode, newline_id

# Token ids, and which of them are text, both (num_blocks, block_size) -> the bytes of each block, NaN if unknown
CountBytes = Callable[[np.ndarray, np.ndarray], np.ndarray]

BYTE_LEVEL = "ByteLevel"
BYTE_LETTERS = frozenset(pre_tokenizers.ByteLevel.alphabet())  # byte-level vocabularies write each byte as one of them
BLANK = {BYTE_LEVEL: "\u0120", "SentencePiece": "\u2581"}  # how the names of tokens spell a blank
BYTE_TOKENS = frozenset(f"<0x{byte:02X}>" for byte in range(256))  # of vocabularies that fall back on bytes
# Steps of SentencePiece's decoders. The first two replace blanks, the others join tokens and remove an added blank.
REPLACE = [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "Metaspace", "replacement": "\u2581"},
]
JOIN = [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]


def choose_count(tokenizer: PreTrainedTokenizerBase) -> CountBytes:
    """Return a function that counts bytes by the names of tokens if they spell text, and otherwise decodes blocks."""
    spelling = find_spelling(tokenizer)
    return CountByName(tokenizer, spelling) if spelling else CountDecoded(tokenizer)


def find_spelling(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return how the names of tokens spell text, a key of BLANK, or None if it is not known."""
    decoder = tokenizer.backend_tokenizer.decoder
    state = json.loads(decoder.__getstate__()) if decoder else {"type": None}
    steps = state["decoders"] if state["type"] == "Sequence" else [state]
    if [step["type"] for step in steps] == [BYTE_LEVEL]:
        return BYTE_LEVEL
    replacing = [step for step in steps if any(step.items() >= known.items() for known in REPLACE)]
    is_known = all(step in replacing or step in JOIN for step in steps)
    return "SentencePiece" if replacing and is_known else None


class TokenKinds:
    """Which tokens are not text of their own.

    `control` are never text, `unknown` stand for text that the vocabulary cannot spell, and a message begins after
    each of `breaks`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = tokenizer.backend_tokenizer
        names = {tokenizer.unk_token, getattr(backend.model, "unk_token", None)} - {None}
        apart = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        special = (token for token, added in backend.get_added_tokens_decoder().items() if added.special)
        self.newline = newline_id(tokenizer)
        self.unknown = [*{*map(tokenizer.convert_tokens_to_ids, names)} - apart]
        self.control = [*{*tokenizer.all_special_ids, *special} - {*self.unknown}]
        self.breaks = [tokenizer.bos_token_id, self.newline]


class CountByName:
    """Adds up the sizes of tokens, which it reads from their names when it first meets them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, spelling: str) -> None:
        self.backend, self.spelling = tokenizer.backend_tokenizer, spelling
        self.added = self.backend.get_added_tokens_decoder()
        self.kinds = TokenKinds(tokenizer)
        self.sizes = np.full(len(tokenizer), -1.0)  # in bytes; -1: not met yet
        self.sizes[self.kinds.control], self.sizes[self.kinds.unknown] = 0, np.nan
        self.begins_blank = np.zeros(len(tokenizer), bool)
        ids = np.array(encode(tokenizer, ["hi"]))  # (1, num_tokens)
        self.adds_blank = self.sizes_of(ids).sum() == len(" hi")  # encoding puts a blank before each message

    def __call__(self, ids: np.ndarray, is_text: np.ndarray) -> np.ndarray:
        sizes = np.where(is_text, self.sizes_of(ids), 0).sum(axis=1)
        if self.adds_blank:
            begins = is_text[:, 1:] & np.isin(ids[:, :-1], self.kinds.breaks)
            sizes -= (begins & self.begins_blank[ids[:, 1:]]).sum(axis=1)
        return sizes

    def sizes_of(self, ids: np.ndarray) -> np.ndarray:
        found = np.zeros(len(self.sizes), bool)
        found[ids.ravel()] = True
        for token in np.flatnonzero(found & (self.sizes < 0)).tolist():
            name = self.added[token].content if token in self.added else self.backend.id_to_token(token)
            self.sizes[token] = self.size_of(name, token in self.added)
            self.begins_blank[token] = name.startswith((" ", BLANK[self.spelling]))
        return self.sizes[ids]

    def size_of(self, name: str, is_added: bool) -> int:
        """Return the bytes of a token. The vocabulary spells it, but an added token is literal text."""
        if self.spelling != BYTE_LEVEL:
            return 1 if name in BYTE_TOKENS else len(name.replace(BLANK[self.spelling], " ").encode())
        return len(name.encode()) if is_added or not BYTE_LETTERS.issuperset(name) else len(name)


class CountDecoded:
    """Decodes messages and counts their bytes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.backend, self.kinds = tokenizer.backend_tokenizer, TokenKinds(tokenizer)
        self.added_blank = ""
        [hi] = self.decode(encode(tokenizer, ["hi"]))
        self.added_blank = hi.removesuffix("hi")

    def __call__(self, ids: np.ndarray, is_text: np.ndarray) -> np.ndarray:
        return np.array([self.count(row[some]) for row, some in zip(ids, is_text, strict=True)])

    def count(self, ids: np.ndarray) -> float:
        """Return the bytes of some messages, each of which ends with a newline."""
        if np.isin(ids, self.kinds.unknown).any():
            return np.nan
        newlines = np.flatnonzero(ids == self.kinds.newline)
        apart = [self.kinds.newline, *self.kinds.control]
        messages = [message[~np.isin(message, apart)].tolist() for message in np.split(ids, newlines)]
        return len(newlines) + sum(len(text.encode()) for text in self.decode(messages))

    def decode(self, messages: list[list[int]]) -> list[str]:
        texts = self.backend.decode_batch(messages, skip_special_tokens=False)
        return [text.removeprefix(self.added_blank) for text in texts]
