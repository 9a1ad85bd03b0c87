"""The tokenizer of a model, with tokens for the start and for padding, and its fastest encoder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from chatter.cli import InputError, log
from chatter.hub import fetch_model
from chatter.tokens.chat import clean, encode, newline_id
from chatter.tokens.encoder import Encoder, SavedEncoder, encode_each, encode_joined, encode_slowly, join_ids

START_TOKEN = "<|endoftext|>"
PAD_TOKEN = "[PAD]"
ENDS = [".", "!", "?!", "...", ")", ":", '"', "'", "]", "}", "*", "~", "\u3002", "\U0001f602"]  # of messages
# A token of punctuation and a line break, as in Llama 3: it merges the end of a message with its newline.
MERGED = re.compile(r"[^\s\u0109\u010a\u010d\u0120\u2581][\n\u010a]")


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model on the hub or in a folder, with a token for the start and one for padding.

    The start is the model's own token for the beginning of a text or, if it has none, for the end. Padding is [PAD], as
    the last id, unless the model has a padding token of its own. Raises InputError if there is no tokenizer, or if it
    has no token for a line break.
    """
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
    # Qwen's models begin a text as they end it. CTranslate2 cannot load a model without a token for unknown text.
    for name in ("bos_token", "unk_token"):
        if getattr(tokenizer, name) is None:
            tokenizer.add_special_tokens({name: tokenizer.eos_token})
    tokenizer.chat_template = None  # of an assistant; the model gets its own
    if tokenizer.pad_token in (None, tokenizer.bos_token, tokenizer.eos_token):
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    try:
        newline_id(tokenizer)
    except ValueError as error:
        raise InputError(f"the tokenizer of {model} {error}. Use another model.") from error
    return tokenizer


def choose_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str, int], Encoder]:
    """Return the fastest of the functions in `encoder` whose encoders give the same ids as `encode`.

    fastokens is about 50 times as fast as the Hugging Face tokenizer on many lines at once. It is used if it can read
    the tokenizer and gives the same ids for a tenth of the vocabulary; the tests compare all of it, and real chat.
    Messages are joined into one text if that does not change their ids, because it is faster.
    """
    text, newline = tokenizer.backend_tokenizer.to_str(), newline_id(tokenizer)
    words = [*filter(None, map(clean, sample_texts(tokenizer)))]
    expected = join_ids(encode(tokenizer, words), newline)
    merges = any(MERGED.search(token) for token in tokenizer.get_vocab())
    try:
        for make in (encode_each,) if merges else (encode_joined, encode_each):
            if np.array_equal(make(text, newline)(words), expected):
                return make
        reason = "its ids differ"
    except ValueError as error:
        reason = str(error)
    log(f"fastokens cannot be used for this tokenizer ({reason}): using the slower tokenizers library")
    return encode_slowly


def sample_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return texts that show what a tokenizer does: a tenth of its tokens, and ends of messages."""
    some = tokenizer.backend_tokenizer.decode_batch([[token] for token in range(0, len(tokenizer), 10)], False)
    return [*some, *(f"hi{mark}" for mark in ENDS)]


def save_encoder(tokenizer: PreTrainedTokenizerBase, path: Path) -> SavedEncoder:
    """Save the fastest encoder for clean messages, for other processes."""
    path.write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    return SavedEncoder(path, choose_encoder(tokenizer), newline_id(tokenizer))
