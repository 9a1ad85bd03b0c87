"""chatter.tokens.chat_template: what a server makes of a chat is what train.py and generate.py make of it."""

import json

import pytest
from conftest import TINY
from families import FAMILIES, LLAMA3, byte_fallback, byte_level, make_family, sample_lines
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from chatter.tokens.chat import ChatFormat, clean, encode_chat
from chatter.tokens.chat_template import break_tokens, control_tokens
from chatter.tokens.tokenizer import load_tokenizer
from chatter.training.metadata import write_tokenizer

SENTENCEPIECE = FAMILIES["gemma"].special
CHATML = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
TEXTS = [
    "hi!",
    "ok.",
    "why?!",
    ":)",
    "(",
    "a  b",
    "no\u3002",
    "\U0001f602",
    "x" * 99,
    "12345",
    " two \r\n\n lines ",
    "",
    "\n",
]


def legacy_llama(lines):
    """As Llama 2 has it: a blank in front of every text."""
    tokenizer = byte_fallback(lines)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    return tokenizer


def metaspace(scheme):
    def train(lines):
        tokenizer = byte_fallback(lines)
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        return tokenizer

    return train


def changed(train, change):
    """Return a function that trains a tokenizer and changes its tokenizer.json."""

    def train_changed(lines):
        state = json.loads(train(lines).to_str())
        change(state)
        return Tokenizer.from_str(json.dumps(state))

    return train_changed


def normalize_all(state):
    state["normalizer"] = {"type": "NFKC"}
    for token in state["added_tokens"]:
        token["normalized"] = True


LLAMA = FAMILIES["llama"]
MORE = {  # name -> how the tokenizer is made, its special tokens
    "Llama 2": (legacy_llama, SENTENCEPIECE),
    "first": (metaspace("first"), SENTENCEPIECE),
    "always": (metaspace("always"), SENTENCEPIECE),
    "Llama 3": (changed(LLAMA.train, lambda state: state["model"].update(ignore_merges=True)), LLAMA.special),
    "NFKC": (changed(FAMILIES["qwen2"].train, normalize_all), {"eos_token": "<|endoftext|>"}),
    "nested": (byte_level(LLAMA3, ["<s>", "<s><s>", "a<s>", "'\\", "{%s%}", "#}", "\u00a7"]), {"eos_token": "<s>"}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function that makes the folder of a family or of a tokenizer of MORE once."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("tokenizers") / "model"
            if name in FAMILIES:
                make_family(name, made[name])
            else:
                train, special = MORE[name]
                PreTrainedTokenizerFast(tokenizer_object=train(sample_lines()), **special).save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="module")
def load(folders, tmp_path_factory):
    """Return a function that gives a tokenizer, the format of its chat, and what train.py saves of it, loaded."""
    made = {}

    def load_once(name, channels=()):
        if (name, channels) not in made:
            tokenizer = load_tokenizer(str(folders(name)))
            chat_format = ChatFormat.of(tokenizer, 64, channels)
            folder = tmp_path_factory.mktemp("saved")
            if (folders(name) / "config.json").exists():  # from which AutoTokenizer takes a class
                (folder / "config.json").write_bytes((folders(name) / "config.json").read_bytes())
            write_tokenizer(folder, tokenizer, chat_format, 64)
            made[name, channels] = tokenizer, chat_format, AutoTokenizer.from_pretrained(folder)
        return made[name, channels]

    return load_once


def render(tokenizer, texts, **options):
    messages = [{"role": "user", "content": text} for text in texts]
    return tokenizer.apply_chat_template(messages, return_dict=False, **options)


each = pytest.mark.parametrize("name", [*FAMILIES, *MORE])


@each
@pytest.mark.parametrize("channels", [(), ("forsen", "it's")], ids=["", "channels"])
def test_the_ids_are_those_of_the_chat(name, channels, load):
    tokenizer, chat_format, saved = load(name, channels)
    texts = [*sample_lines()[:300], *TEXTS]
    assert not any(token in text for text in texts for token in control_tokens(tokenizer) if len(token) > 1)
    header = "#forsen" if channels else ""
    assert render(saved, texts) == encode_chat(tokenizer, chat_format, texts, 1 << 40, header)
    if channels:
        expected = encode_chat(tokenizer, chat_format, texts, 1 << 40, "#it's")
        assert render(saved, texts, channel="it's") == expected != render(saved, texts)


@each
def test_control_tokens_cannot_be_forged(name, load):
    """In no text: the ids are those of the messages with U+200B in the tokens, and unbroken they would be tokens."""
    tokenizer, chat_format, saved = load(name)
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder().items()
    added = {number: token.content for number, token in added if token.content.strip()}  # runs of blanks are text
    tokens = sorted(added.values(), key=len, reverse=True)
    texts = [f"x {token}y{token}{token} {token[0]}{token[1:]}" for token in tokens]
    texts += [f"{outer[:2]}{inner}{outer[2:]}" for outer in tokens for inner in tokens] + ["".join(tokens)]
    broken = texts
    for token in tokens:
        broken = [
            text.replace(token, f"{token[0]}\u200b{token[1:]}" if len(token) > 1 else "\u200b") for text in broken
        ]
    ids = render(saved, texts)
    assert ids == encode_chat(tokenizer, chat_format, broken, 1 << 40)
    control = {*added}
    unknown = {tokenizer.unk_token_id} if name in ("gemma", "Llama 2", "first", "always") else set()
    assert ids[0] == chat_format.start and not {*ids[1:]} & control - unknown
    assert {*saved("".join(tokens))["input_ids"]} >= control - unknown


@each
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_any_text_stays_text(name, load, texts):
    """Also text that normalization turns into control tokens."""
    tokenizer, chat_format, saved = load(name)
    texts = [*texts, "\uff1c|endoftext|\uff1e \uff1cs\uff1e"]
    broken = [break_tokens(text, tokenizer) for text in texts]
    if name == "qwen2":  # transformers 5 gives it the normalizer of the real one
        broken = [text for text in broken if normalizers.NFC().normalize_str(text) == text]
        texts = [text for text in texts if break_tokens(text, tokenizer) in broken]
    assert render(saved, texts) == encode_chat(tokenizer, chat_format, broken, 1 << 40)


def test_one_tokenizer_does_both(load):
    _, chat_format, saved = load("gpt_neox")
    before = render(saved, ["hi"])
    assert before == encode_chat(saved, chat_format, ["hi"], 1 << 40) == render(saved, ["hi"])


def test_roles_are_not_shown_and_contents_may_have_parts(load):
    tokenizer, chat_format, saved = load("gpt_neox")
    messages = [
        {"role": "system", "content": "one"},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]},
        {"role": "tool", "content": [{"type": "image", "url": "x"}, {"type": "text", "text": "<|end"}]},
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "user", "content": [{"type": "text", "text": "<|endof"}, {"type": "text", "text": "text|>"}]},
    ]
    ids = saved.apply_chat_template(messages, return_dict=False, add_generation_prompt=True)
    lines = ["one", "two three", "<|end", "<|endof text|>"]
    assert ids == encode_chat(tokenizer, chat_format, lines, 1 << 40)


def test_a_channel_that_the_model_does_not_know_is_an_error(load):
    with pytest.raises(Exception, match="the model does not know this channel"):
        render(load("gpt_neox", ("a",))[2], ["hi"], channel="<|endoftext|>")


def test_a_message_can_be_continued(load):
    """As with generate.py --complete."""
    tokenizer, chat_format, saved = load("gpt_neox")
    ids = render(saved, ["hello chat", "the best game is"], continue_final_message=True)
    assert ids == encode_chat(tokenizer, chat_format, ["hello chat", "the best game is"], 1 << 40)[:-1]


def test_the_template_of_an_assistant_does_not_come_along(tmp_path, load):
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    assert "im_start" in (tmp_path / "chat_template.jinja").read_text()
    assert load_tokenizer(str(tmp_path)).chat_template is None


def test_messages_are_tokenized_as_before(load):
    for name in FAMILIES:
        tokenizer, _, saved = load(name)
        for line in map(clean, sample_lines()[:200]):
            assert (
                saved(line, add_special_tokens=False)["input_ids"]
                == tokenizer(line, add_special_tokens=False)["input_ids"]
            )


def test_without_a_way_to_the_same_ids_there_is_no_template(tmp_path, capsys):
    """Here a normalizer takes the newlines away, and a message on its own has none."""
    train = changed(
        FAMILIES["gpt_neox"].train,
        lambda state: state.update(normalizer={"type": "Replace", "pattern": {"String": "\n"}, "content": ""}),
    )
    PreTrainedTokenizerFast(tokenizer_object=train(sample_lines()), eos_token="<|endoftext|>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    capsys.readouterr()
    write_tokenizer(tmp_path / "saved", tokenizer, ChatFormat.of(tokenizer, 64), 64)
    assert "the model has no chat template" in capsys.readouterr().err
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template is None
