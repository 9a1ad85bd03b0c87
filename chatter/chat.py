"""A chat as tokens, and tokens as chat: the start token, then each message followed by a newline token.

What a chatter types is always text: "<|endoftext|>" in a message becomes the tokens of these letters, never the control
token, which would let a chatter forge the borders of a chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatter.command import InputError, log
from chatter.hub import fetch_model
from chatter.lookalikes import visible

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import numpy as np
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

START_TOKEN = "<|endoftext|>"
PAD_TOKEN = "[PAD]"
MAX_CHARACTERS = 500  # of a message on Twitch


@dataclass(frozen=True)
class ChatFormat:
    """The ids that give a model's chat its form, and how much of it the model sees."""

    start: int  # the token before the first message
    newline: int  # the token that ends a message
    pad: int
    block_size: int  # tokens that the model sees at most

    @classmethod
    def from_config(cls, config: dict) -> ChatFormat:
        """Return the format in a model's config.json and generation_config.json, merged.

        Raises KeyError, TypeError or ValueError if train.py did not write them.
        """
        newline, start = config["eos_token_id"]
        return cls(start, newline, int(config["pad_token_id"]), config["n_positions"])


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model on the hub or in a folder, with [PAD] as its last id if it has no padding token.

    Raises InputError if there is none, or none that can tell messages apart.
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
            raise InputError(f"the tokenizer of {model} has no token for the end of a text. Use a GPT-2 model.")
        tokenizer.add_special_tokens({"eos_token": START_TOKEN})
    for name in ("bos_token", "unk_token"):  # not used here, but CTranslate2 loads no model without them
        if getattr(tokenizer, name) is None:
            tokenizer.add_special_tokens({name: tokenizer.eos_token})
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if tokenizer.decode([newline_id(tokenizer)]) != "\n":
        raise InputError(f"the tokenizer of {model} has no separate token for a line break. Use a GPT-2 model.")
    return tokenizer


def clean(message: str) -> str:
    """Strip white space at the ends and replace inner line breaks by blanks, so that a newline always ends a message.

    GPT-2 then never merges a message's last token with the newline: its pre-tokenizer separates white space at the end
    of a text from white space that more text follows.
    """
    message = message.strip()
    return re.sub(r"[\r\n]+", " ", message) if "\n" in message or "\r" in message else message


def encode(tokenizer: PreTrainedTokenizerBase | Tokenizer, messages: list[str]) -> list[list[int]]:
    """Tokenize messages, one list of ids each, with a tokenizer of transformers or of tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(messages, add_special_tokens=False)]


def newline_id(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> int:
    """Return the token that ends a message."""
    [[newline, *_]] = encode(tokenizer, ["\n"])
    return newline


def load_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], np.ndarray]:
    """Return the fastest function that tokenizes clean messages as `encode` does.

    It returns the ids of all messages, each followed by the newline's, as one array (num_tokens,) uint32.

    fastokens is some fifty times as fast as the Hugging Face tokenizer on many lines at once. It is used if it can read
    the tokenizer and gives the same ids for a tenth of the vocabulary; the tests compare all of it, and real chat.
    """
    import fastokens
    import numpy as np

    newline = newline_id(tokenizer)

    def encode_each(messages: list[str]) -> np.ndarray:
        return np.array([token for ids in encode(tokenizer, messages) for token in (*ids, newline)], np.uint32)

    def encode_joined(messages: list[str]) -> np.ndarray:
        ids, _ = fast.encode_batch_flat(["".join(f"{message}\n" for message in messages)], split_special_tokens=True)
        return np.frombuffer(ids, np.uint32)

    some = tokenizer.backend_tokenizer.decode_batch([[token] for token in range(0, len(tokenizer), 10)], False)
    words = [*filter(None, map(clean, some))]
    try:
        fast = fastokens.Tokenizer.from_json_str(tokenizer.backend_tokenizer.to_str())
        if np.array_equal(encode_joined(words), encode_each(words)):
            return encode_joined
        reason = "its ids differ"
    except ValueError as error:
        reason = str(error)
    log(f"fastokens cannot be used for this tokenizer ({reason}): using the slower tokenizers library")
    return encode_each


def encode_chat(
    tokenizer: PreTrainedTokenizerBase | Tokenizer, chat_format: ChatFormat, lines: Iterable[str], max_tokens: int
) -> list[int]:
    """Tokenize the chat so far as in training: the start token, then each line and a newline.

    A chat of more than `max_tokens` loses its oldest lines; a single line longer than that loses its beginning.
    """
    lines = [line for line in map(clean, lines) if line]
    ids = []
    for line in reversed(encode(tokenizer, lines)):
        if ids and len(line) + 1 + len(ids) > max_tokens - 1:
            break
        ids = [*line, chat_format.newline, *ids]
    return [chat_format.start, *ids[max(len(ids) - max_tokens + 1, 0) :]]


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
