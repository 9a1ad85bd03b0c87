"""The chat as a Jinja template, so that `apply_chat_template` of transformers, and servers, encode it as in training.

A server tokenizes the rendered text as a whole, and control tokens in it become control tokens. So the template breaks
up each one that a message contains with a zero-width space behind its first character.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from chatter.tokens.chat import ChatFormat, channel_header, clean, control_tokens, encode_chat
from chatter.tokens.tokenizer import sample_texts

BREAK = "\u200b"
# llama.cpp refuses a model if it cannot read the template, for example because of `select` without arguments.
TEMPLATE = """\
{#- One line for each message, whatever its role. U+200B breaks up control tokens that somebody typed. -#}
{%- set chat = namespace(text='', prefix=FIRST) -%}
{{- bos_token -}}
{%- set channels = CHANNELS -%}
{%- if channels -%}
{%- set channel = channel | default(channels[0]) -%}
{%- if channel not in channels -%}{{- raise_exception('the model does not know this channel') -}}{%- endif -%}
{{- chat.prefix + '#' + channel + '\\n' -}}
{%- set chat.prefix = LATER -%}
{%- endif -%}
{%- for message in messages -%}
{%- set chat.text = '' -%}
{%- if message.content is string -%}
{%- set chat.text = message.content -%}
{%- elif message.content -%}
{%- for part in message.content -%}
{%- if part.text is string -%}{%- set chat.text = chat.text + '\\n' + part.text -%}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set lines = (chat.text | trim | replace('\\r', '\\n')).split('\\n') -%}
{%- set chat.text = '' -%}
{%- for line in lines -%}
{%- if line -%}{%- set chat.text = (chat.text + ' ' + line) if chat.text else line -%}{%- endif -%}
{%- endfor -%}
{%- for token, broken in TOKENS -%}
{%- set chat.text = chat.text | replace(token, broken) -%}
{%- endfor -%}
{%- if chat.text -%}
{{- chat.prefix + chat.text + '\\n' -}}
{%- set chat.prefix = LATER -%}
{%- endif -%}
{%- endfor -%}
"""
NEWLINE, BLANKS = "\u010a", "\u010a\u010d\u0120\u0109"  # in byte-level vocabularies
# In front of the first line and of later ones: some tokenizers begin each text that they are given with a blank.
PREFIXES = [("", ""), ("", " "), (" ", " ")]


def add_chat_template(tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat) -> Iterator[PreTrainedTokenizerBase]:
    """Yield copies of a tokenizer of `load_tokenizer` with a chat template, from the least to the most changed one.

    Use the first that `encodes_as_trained`.
    """
    for change in (lambda state: None, unmerge_newlines, split_at_newlines):
        changed = for_whole_chats(tokenizer, change)
        for first, later in PREFIXES:
            changed.chat_template = make_template(tokenizer, chat_format, first, later)
            yield changed


def encodes_as_trained(
    loaded: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat
) -> bool:
    """Return whether `apply_chat_template` of a loaded tokenizer gives the ids of `encode_chat` with the original one.

    Control tokens in messages are broken up in both.
    """
    texts = check_texts(tokenizer)
    messages = [{"role": "user", "content": text} for text in texts]
    header = channel_header(chat_format.channels[0]) if chat_format.channels else ""
    broken = [break_tokens(text, tokenizer) for text in texts]
    expected = encode_chat(tokenizer, chat_format, broken, 1 << 40, header)
    return loaded.apply_chat_template(messages, return_dict=False) == expected


def make_template(tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, first: str = "", later: str = "") -> str:
    """Return the template for a tokenizer; its first line begins with `first`, and the others with `later`."""
    values = {
        "FIRST": first,
        "LATER": later,
        "CHANNELS": [break_tokens(channel, tokenizer) for channel in chat_format.channels],
        "TOKENS": [[token, break_token(token)] for token in control_tokens(tokenizer)],
    }
    template = TEMPLATE
    for name, value in values.items():
        template = template.replace(name, literal(value))
    return template


def break_token(token: str) -> str:
    """Return a token with a zero-width space behind its first character, or in place of its only one."""
    return token[0] + BREAK + token[1:] if len(token) > 1 else BREAK


def break_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a message as the template renders it: clean, with all added tokens broken up."""
    text = clean(text)
    for token in control_tokens(tokenizer):
        text = text.replace(token, break_token(token))
    return text


def for_whole_chats(
    tokenizer: PreTrainedTokenizerBase, change: Callable[[dict[str, Any]], None]
) -> PreTrainedTokenizerBase:
    """Return a copy of a tokenizer whose tokenizer.json was changed by a function.

    It finds special tokens only where a text contains them exactly. Otherwise normalization could turn a message into
    one, such as U+FF1C into "<".
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in state["added_tokens"]:
        token["normalized"] &= not token["special"]
    change(state)
    changed = copy.deepcopy(tokenizer)
    changed._tokenizer = Tokenizer.from_str(json.dumps(state))
    return changed


def unmerge_newlines(state: dict[str, Any]) -> None:
    """Remove the merges of a byte-level tokenizer that join a newline and other text, such as "!\\n".

    In llama.cpp, too, the end of a message is then no longer merged with its newline. Messages are encoded as before.
    """
    merges = state["model"].get("merges", [])
    joined = ["".join(pair) if isinstance(pair, list) else pair.replace(" ", "") for pair in merges]
    kept = [pair for pair, token in zip(merges, joined, strict=True) if NEWLINE not in token or not token.strip(BLANKS)]
    if merges:
        state["model"]["merges"] = kept


def split_at_newlines(state: dict[str, Any]) -> None:
    """Let a tokenizer split its text at newlines first. llama.cpp knows no such tokenizer."""
    split = {"type": "Split", "pattern": {"String": "\n"}, "behavior": "Isolated", "invert": False}
    steps = [split, *filter(None, [state["pre_tokenizer"]])]
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}


def check_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return messages to try a template on: tokens, ends of messages, white space, forged and nested control tokens."""
    tokens = control_tokens(tokenizer)
    forged = [f"a {token}b{token}{token}" for token in tokens]
    nested = [f"{outer[:3]}{inner}{outer[3:]}" for outer, inner in zip(tokens, reversed(tokens), strict=True)]
    return [*sample_texts(tokenizer), "two\r\n\nlines", "a  b", *forged, *nested]


def literal(value: str | list) -> str:
    """Return a string, or a list of strings or lists, as it is written in a template."""
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    for character, escaped in {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"}.items():
        value = value.replace(character, escaped)
    return f"'{value}'"
