"""A chat as tokens, and tokens as chat: the start token, then each message followed by a newline token.

What a chatter types is always text: "<|endoftext|>" in a message becomes the tokens of these letters, never the control
token, which would let a chatter forge the borders of a chat. Each message is tokenized for itself, since some models
have tokens such as "!\n" that the end of a message would disappear in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.cli import InputError, log
from chatter.hub import fetch_model
from chatter.wording.lookalikes import MAX_CHARACTERS, visible

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

START_TOKEN = "<|endoftext|>"
PAD_TOKEN = "[PAD]"
FORMAT_FILE = "chat_format.json"  # beside a model
ENDS = [".", "!", "?!", "...", ")", ":", '"', "'", "]", "}", "*", "~", "\u3002", "\U0001f602"]  # of messages
# A token that ends a message and its line at once, as Llama 3 has them for punctuation and a line break.
MERGED = re.compile(r"[^\s\u0109\u010a\u010d\u0120\u2581][\n\u010a]")


@dataclass(frozen=True)
class ChatFormat:
    """The ids that give a model's chat its form, and how much of it the model sees."""

    start: int  # the token before the first message
    newline: int  # the token that ends a message
    pad: int
    block_size: int  # tokens that the model sees at most
    end: int  # the model's own token for the end of a text, which a chat never has

    @property
    def never(self) -> list[int]:
        """The tokens that no message contains."""
        return [*dict.fromkeys([self.start, self.pad, self.end])]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, block_size: int) -> ChatFormat:
        """Return the format of the blocks that a tokenizer of `load_tokenizer` makes."""
        pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
        return cls(tokenizer.bos_token_id, newline_id(tokenizer), pad, block_size, end)

    @classmethod
    def load(cls, folder: Path) -> ChatFormat:
        """Load the format of a model; raise OSError, KeyError, TypeError or ValueError if train.py did not write it."""
        path = folder / FORMAT_FILE
        if path.exists():
            ids = json.loads(path.read_bytes())
            return cls(**{field.name: int(ids[field.name]) for field in fields(cls)})
        # GPT-2 as train.py wrote it at first
        generation = json.loads((folder / "generation_config.json").read_bytes())
        newline, start = generation["eos_token_id"]
        block_size = json.loads((folder / "config.json").read_bytes())["n_positions"]
        return cls(start, newline, int(generation["pad_token_id"]), block_size, start)

    def save(self, folder: Path) -> None:
        """Write the format beside a model."""
        (folder / FORMAT_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model on the hub or in a folder, with a token for the start and one for padding.

    The start is the model's own token for the beginning of a text or, if it has none, for the end. Padding is [PAD], as
    the last id, unless the model has a token for nothing else. Raises InputError if there is no tokenizer, or none that
    can tell messages apart.
    """
    from transformers import PreTrainedTokenizerFast

    folder = fetch_model(model, weights=False)
    try:
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)  # reads tokenizer.json without importing torch
        except ValueError:  # an older model, with a vocabulary and merges
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises nothing more specific
        raise InputError(f"the tokenizer of {model} cannot be read ({error}). Check the files in {folder}.") from error
    if tokenizer.eos_token is None:  # GPT-2's files do not name it
        if START_TOKEN not in tokenizer.get_vocab():
            raise InputError(f"the tokenizer of {model} has no token for the end of a text. Use another model.")
        tokenizer.add_special_tokens({"eos_token": START_TOKEN})
    # Qwen's models begin a text as they end it. CTranslate2 loads no model without a token for unknown text.
    for name in ("bos_token", "unk_token"):
        if getattr(tokenizer, name) is None:
            tokenizer.add_special_tokens({name: tokenizer.eos_token})
    if tokenizer.pad_token in (None, tokenizer.bos_token, tokenizer.eos_token):
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    try:
        newline_id(tokenizer)
    except ValueError as error:
        raise InputError(f"the tokenizer of {model} {error}. Use another model.") from error
    return tokenizer


def clean(message: str) -> str:
    """Strip white space at the ends and replace line breaks by blanks, so that a newline always ends a message."""
    message = message.strip()
    return re.sub(r"[\r\n]+", " ", message) if "\n" in message or "\r" in message else message


def encode(tokenizer: PreTrainedTokenizerBase | Tokenizer, messages: list[str]) -> list[list[int]]:
    """Tokenize messages, one list of ids each, with a tokenizer of transformers or of tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(messages, add_special_tokens=False)]


def newline_id(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> int:
    """Return the token of a line break, which ends a message. Raises ValueError if there is none."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    for name in ("\u010a", "\n", "<0x0A>"):  # of byte-level vocabularies, Gemma's, and those with bytes to fall back on
        token = backend.token_to_id(name)
        if token is not None and backend.decode([token], skip_special_tokens=False) == "\n":
            return token
    raise ValueError("has no separate token for a line break")


def load_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], np.ndarray]:
    """Return the fastest function that tokenizes clean messages as `encode` does.

    It returns the ids of all messages, each followed by the newline's, as one array (num_tokens,) uint32.

    fastokens is some fifty times as fast as the Hugging Face tokenizer on many lines at once. It is used if it can read
    the tokenizer and gives the same ids for a tenth of the vocabulary; the tests compare all of it, and real chat. Many
    messages at once are joined to one text, which is faster, where that gives the same ids.
    """
    import fastokens
    import numpy as np

    newline = newline_id(tokenizer)

    def encode_slowly(messages: list[str]) -> np.ndarray:
        return np.array([token for ids in encode(tokenizer, messages) for token in (*ids, newline)], np.uint32)

    def encode_joined(messages: list[str]) -> np.ndarray:
        ids, _ = fast.encode_batch_flat(["".join(f"{message}\n" for message in messages)], split_special_tokens=True)
        return np.frombuffer(ids, np.uint32)

    def encode_each(messages: list[str]) -> np.ndarray:
        ids, offsets = fast.encode_batch_flat(messages, split_special_tokens=True)
        return np.insert(np.frombuffer(ids, np.uint32), np.frombuffer(offsets, np.uint64)[1:].astype(np.int64), newline)

    some = tokenizer.backend_tokenizer.decode_batch([[token] for token in range(0, len(tokenizer), 10)], False)
    words = [*filter(None, map(clean, some)), *(f"hi{mark}" for mark in ENDS)]
    try:
        fast = fastokens.Tokenizer.from_json_str(tokenizer.backend_tokenizer.to_str())
        expected = encode_slowly(words)
        merges = any(MERGED.search(token) for token in tokenizer.get_vocab())
        for encoder in (encode_each,) if merges else (encode_joined, encode_each):
            if np.array_equal(encoder(words), expected):
                return encoder
        reason = "its ids differ"
    except ValueError as error:
        reason = str(error)
    log(f"fastokens cannot be used for this tokenizer ({reason}): using the slower tokenizers library")
    return encode_slowly


def begin_chat(tokenizer: PreTrainedTokenizerBase | Tokenizer, start: int, newline: int, header: str = "") -> list[int]:
    """Return the tokens before the first message: the start token and, if there is a header, its line."""
    return [start, *encode(tokenizer, [header])[0], newline] if header else [start]


def encode_chat(
    tokenizer: PreTrainedTokenizerBase | Tokenizer,
    chat_format: ChatFormat,
    lines: Iterable[str],
    max_tokens: int,
    header: str = "",
) -> list[int]:
    """Tokenize the chat so far as in training: the start token, the header if there is one, each line and a newline.

    A chat of more than `max_tokens` loses its oldest lines; a single line longer than that loses its beginning.
    """
    begin = begin_chat(tokenizer, chat_format.start, chat_format.newline, header)
    room = max_tokens - len(begin)
    lines = [line for line in map(clean, lines) if line]
    ids = []
    for line in reversed(encode(tokenizer, lines)):
        if ids and len(line) + 1 + len(ids) > room:
            break
        ids = [*line, chat_format.newline, *ids]
    return [*begin, *ids[max(len(ids) - room, 0) :]]


def decode_message(tokenizer: PreTrainedTokenizerBase | Tokenizer, ids: list[int]) -> str:
    """Decode one message: one line of whole, visible characters, with nothing that could pass for a control token.

    Return "" if nothing of it can be seen.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True).replace("\ufffd", "")
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    control = "|".join(re.escape(token.content) for token in backend.get_added_tokens_decoder().values())
    while control and re.search(control, text):  # again and again: "<|endof[PAD]text|>" becomes one
        text = re.sub(control, "", text)
    return visible(visible(text)[:MAX_CHARACTERS])
