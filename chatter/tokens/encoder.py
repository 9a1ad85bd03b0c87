"""Fast encoders of messages. They do not import transformers, so that processes that only encode start quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

Encoder = Callable[[list[str]], np.ndarray]  # messages -> the ids of all, each followed by the newline's, uint32


def encode_slowly(text: str, newline: int) -> Encoder:
    """Return an encoder that uses the library tokenizers. `text` is a tokenizer.json."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True  # once, as several threads encode with it

    def encode_all(messages: list[str]) -> np.ndarray:
        encoded = tokenizer.encode_batch_fast(messages, add_special_tokens=False)
        return join_ids([each.ids for each in encoded], newline)

    return encode_all


def join_ids(messages: list[list[int]], newline: int) -> np.ndarray:
    """Return the ids of all messages, each followed by the newline's."""
    return np.array([token for ids in messages for token in (*ids, newline)], np.uint32)


@lru_cache(maxsize=1)  # so that the process which chose an encoder does not build it again
def encode_each(text: str, newline: int) -> Encoder:
    """Return an encoder that uses fastokens. Raises ValueError if it cannot read the tokenizer."""
    import fastokens

    tokenizer = fastokens.Tokenizer.from_json_str(text)

    def encode_all(messages: list[str]) -> np.ndarray:
        ids, offsets = tokenizer.encode_batch_flat(messages, split_special_tokens=True)
        return np.insert(np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64)[1:].astype(np.int64), newline)

    return encode_all


@lru_cache(maxsize=1)
def encode_joined(text: str, newline: int) -> Encoder:
    """Return an encoder that uses fastokens on all messages as one text, which is faster. Raises as `encode_each`."""
    import fastokens

    tokenizer = fastokens.Tokenizer.from_json_str(text)

    def encode_all(messages: list[str]) -> np.ndarray:
        joined = "".join(f"{message}\n" for message in messages)
        ids, _ = tokenizer.encode_batch_flat([joined], split_special_tokens=True)
        return np.frombuffer(ids, np.uint32)

    return encode_all


@dataclass(frozen=True)
class SavedEncoder:
    """An encoder in a file, which other processes load."""

    path: Path  # a tokenizer.json
    make: Callable[[str, int], Encoder]  # one of the functions above
    newline: int

    @lru_cache(maxsize=1)  # noqa: B019 (a process encodes for one tokenizer)
    def load(self) -> Encoder:
        return self.make(self.path.read_text(encoding="utf-8"), self.newline)
