"""chatter.tokens.token_bytes: the bytes of messages, exactly, for tokenizers of any kind."""

import numpy as np
import pytest
from conftest import ROOT
from families import FAMILIES, byte_fallback, byte_level, sample_lines
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from chatter.tokens.chat import clean, encode, newline_id
from chatter.tokens.token_bytes import CountByName, CountDecoded, choose_count
from chatter.tokens.tokenizer import load_tokenizer

TRICKY = [
    "hi!",
    "a  b",
    "    x",
    "LUL " * 9,
    "\u00e9t\u00e9 \U0001f602\U0001f602",
    "\uc548\ub155",
    "\ufffd",
    "<0x0A>",
    "</s> [PAD]",
]
MESSAGES = [clean(text) for text in sample_lines()[:200] + TRICKY]


def llama2(lines):
    """Train a tokenizer that puts a blank before each text, and removes it when it decodes, as Llama 2's."""
    tokenizer = byte_fallback(lines)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), tokenizer.normalizer])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def metaspace(lines):
    tokenizer = byte_fallback(lines)
    tokenizer.normalizer, tokenizer.pre_tokenizer = None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    return tokenizer


def prefix_space(lines):
    """Train a byte-level tokenizer that puts a blank before each text, and leaves it there when it decodes."""
    tokenizer = byte_level(None, ["<|endoftext|>"])(lines)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def added_tokens(lines):
    """Train a byte-level tokenizer with added tokens of literal text, as GPT-NeoX's has runs of blanks."""
    tokenizer = byte_level(None, ["<|endoftext|>"])(lines)
    tokenizer.add_tokens([AddedToken("  ", normalized=False), AddedToken("\u00e9t\u00e9", normalized=False)])
    return tokenizer


def other_decoder(lines):
    """Train a tokenizer whose decoder does more than join the names of tokens."""
    tokenizer = byte_fallback(lines)
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("never", "")]
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


END = {"eos_token": "<|endoftext|>"}
SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
KINDS = {name: (family.train, family.special, CountByName) for name, family in FAMILIES.items()} | {
    "llama2": (llama2, SPECIAL, CountByName),
    "metaspace": (metaspace, SPECIAL, CountByName),
    "prefix space": (prefix_space, END, CountByName),
    "added tokens": (added_tokens, END, CountByName),
    "other decoder": (other_decoder, SPECIAL, CountDecoded),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """A tokenizer as it is loaded for a model, and how its bytes should be counted."""
    train, special, count = KINDS[request.param]
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=train(sample_lines()[:2000]), **special).save_pretrained(folder)
    return load_tokenizer(str(folder)), count


def block_of(tokenizer, messages):
    """Return a block of messages with padding, and which of its tokens are text, both (1, block_size)."""
    newline = newline_id(tokenizer)
    text = [token for ids in encode(tokenizer, messages) for token in (*ids, newline)]
    ids = np.array([[tokenizer.bos_token_id, *text, *[tokenizer.pad_token_id] * 5]], np.int32)
    return ids, (ids != tokenizer.pad_token_id) & (np.arange(ids.size) > 0)


def size_of(messages):
    return sum(len(text.encode()) + 1 for text in messages)


def test_the_bytes_of_messages_are_counted_for_each_kind_of_tokenizer(kind):
    tokenizer, count = kind
    count_bytes = choose_count(tokenizer)
    assert isinstance(count_bytes, count)
    for messages in (MESSAGES, *([text] for text in MESSAGES)):
        assert count_bytes(*block_of(tokenizer, messages)) == [size_of(messages)], messages


def test_decoding_gives_the_same_bytes(kind):
    """Except of added tokens beyond ASCII, which the byte-level decoder takes for bytes."""
    tokenizer, _ = kind
    messages = [text for text in MESSAGES if "\u00e9" not in text]
    assert CountDecoded(tokenizer)(*block_of(tokenizer, messages)) == [size_of(messages)]


def test_a_message_that_is_cut_within_a_character_has_the_bytes_that_are_left(kind):
    tokenizer, count = kind
    if count is CountDecoded:  # a decoder replaces half a character
        return
    ids, is_text = block_of(tokenizer, ["hi", "\U0001f9ff"])
    whole = choose_count(tokenizer)(ids, is_text)
    last = np.flatnonzero(is_text[0])[-2]  # the last byte of the emoji
    is_text[0, last] = False
    assert whole == 3 + 5 and choose_count(tokenizer)(ids, is_text) == 3 + 4


@pytest.fixture(scope="module")
def tiny():
    return load_tokenizer(str(ROOT / "models/tiny-gpt2"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).map(clean).filter(bool)))
def test_any_text_has_its_bytes(tiny, messages):
    assert choose_count(tiny)(*block_of(tiny, messages)) == [size_of(messages)]


def test_control_tokens_are_not_text(tiny):
    ids = np.array([[tiny.bos_token_id, *encode(tiny, ["hi"])[0], tiny.eos_token_id, newline_id(tiny)]])
    assert choose_count(tiny)(ids, np.ones_like(ids, bool)) == [3]


def test_text_that_the_vocabulary_cannot_spell_is_unknown(tmp_path):
    """Other blocks are not."""
    backend = Tokenizer(WordLevel({"<unk>": 0, "<eos>": 1, "\n": 2, "hi": 3}, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    (known, is_text), (unknown, _) = block_of(tokenizer, ["hi", "hi"]), block_of(tokenizer, ["hi", "hello"])
    sizes = choose_count(tokenizer)(np.concatenate([known, unknown]), np.concatenate([is_text, is_text]))
    assert sizes[0] == 6 and np.isnan(sizes[1])
