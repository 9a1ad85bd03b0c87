"""Encode a chat as tokens, and decode it: the start token, then each message followed by a newline token.

Messages are always text: "<|endoftext|>" in a message becomes the tokens of these letters, never the control
token, with which anyone could fake the beginning of a chat. Each message is tokenized on its own, since some models
have tokens such as "!\\n" that would hide the end of a message.

A block may begin with a header, the line `#channel` after the start token. Only that line is a header: "#channel" that
a chatter types is a message in a later line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.cli import InputError
from chatter.wording.lookalikes import MAX_CHARACTERS, visible

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

FORMAT_FILE = "chat_format.json"  # beside a model
SMALLEST_BLOCK = 3  # the start token, one token and a newline


@dataclass(frozen=True)
class ChatFormat:
    """The token ids that structure a model's chat, how much of it the model sees, and the channels it knows."""

    start: int  # the token before the first message
    newline: int  # the token that ends a message
    pad: int
    block_size: int  # tokens that the model sees at most
    end: int  # the model's own token for the end of a text, which a chat never contains
    channels: tuple[str, ...] = ()  # whose headers the model was trained with

    @property
    def never(self) -> list[int]:
        """The ids of the tokens that no message contains."""
        return [*dict.fromkeys([self.start, self.pad, self.end])]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, block_size: int, channels: Iterable[str] = ()) -> ChatFormat:
        """Return the format of blocks that were made with a tokenizer of `load_tokenizer`."""
        pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
        return cls(tokenizer.bos_token_id, newline_id(tokenizer), pad, block_size, end, tuple(dict.fromkeys(channels)))

    @classmethod
    def load(cls, folder: Path) -> ChatFormat:
        """Load the format of a model. Raises InputError if train.py did not write it, or if it is damaged."""
        path = folder / FORMAT_FILE
        try:
            values = dict(json.loads(path.read_bytes()))
            channels = tuple(str(channel) for channel in values.pop("channels", ()))
            loaded = cls(**{name: int(value) for name, value in values.items()}, channels=channels)
            if loaded.block_size < SMALLEST_BLOCK:
                raise ValueError(f"a block size of {loaded.block_size}")
            return loaded
        except FileNotFoundError:
            raise InputError(
                f"the model in {folder} was not written by train.py. Pass another folder with --model."
            ) from None
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path} is damaged ({error}). Write this model again with train.py --overwrite."
            ) from error

    def save(self, folder: Path) -> None:
        """Write the format beside a model."""
        (folder / FORMAT_FILE).write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def channel_header(channel: str) -> str:
    """Return the line that begins the blocks of a channel."""
    return f"#{channel}"


def clean(message: str) -> str:
    """Strip whitespace and replace line breaks with spaces, so that a newline always ends a message."""
    message = message.strip()
    return re.sub(r"[\r\n]+", " ", message) if "\n" in message or "\r" in message else message


def encode(tokenizer: PreTrainedTokenizerBase | Tokenizer, messages: list[str]) -> list[list[int]]:
    """Tokenize messages, one list of ids each, with a tokenizer of transformers or of tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    before, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        return [encoding.ids for encoding in backend.encode_batch_fast(messages, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before  # so that a chat template's control tokens stay what they are


def newline_id(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> int:
    """Return the id of the line-break token, which ends a message. Raises ValueError if it does not exist."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    for name in ("\u010a", "\n", "<0x0A>"):  # in byte-level vocabularies, in Gemma's, and with byte fallback
        token = backend.token_to_id(name)
        if token is not None and backend.decode([token], skip_special_tokens=False) == "\n":
            return token
    raise ValueError("has no separate token for a line break")


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


def control_tokens(tokenizer: PreTrainedTokenizerBase | Tokenizer) -> list[str]:
    """Return the added tokens, the longest first: a tokenizer finds them anywhere in a text.

    Blanks and single characters that are not special are left out. They are text in training, too.
    """
    added = getattr(tokenizer, "backend_tokenizer", tokenizer).get_added_tokens_decoder().values()
    contents = {token.content for token in added if token.special or len(token.content.strip()) > 1}
    return sorted(contents, key=lambda content: (-len(content), content))


def decode_message(tokenizer: PreTrainedTokenizerBase | Tokenizer, ids: list[int]) -> str:
    """Return one message: one line of whole, visible characters, without anything that looks like a control token.

    Return "" if nothing of it is visible.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True).replace("\ufffd", "")
    control = "|".join(map(re.escape, control_tokens(tokenizer)))
    while control and re.search(control, text):  # repeatedly, for cases such as "<|endof[PAD]text|>"
        text = re.sub(control, "", text)
    return visible(visible(text)[:MAX_CHARACTERS])
