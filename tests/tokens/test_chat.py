"""chatter.tokens.chat: messages become the ids that the model's own tokenizer gives them, and ids become messages."""

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import SHARED, TINY, needs_shared
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerFast

from chatter.cli import InputError
from chatter.tokens.chat import FORMAT_FILE, ChatFormat, clean, decode_message, encode, encode_chat, newline_id
from chatter.tokens.encoder import encode_slowly
from chatter.tokens.tables import read_columns
from chatter.tokens.tokenizer import load_tokenizer, save_encoder
from chatter.wording.lookalikes import visible
from parse_logs import parse_logs

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["<|endoftext|>", "a [PAD] b", "LUL <|endoftext|>"]
)


@pytest.fixture(scope="module")
def plain():
    """models/tiny-gpt2's tokenizer as transformers loads it."""
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def load_encoder(tmp_path_factory):
    """Return a function that chooses an encoder, saves it and loads it."""
    return lambda tokenizer: save_encoder(tokenizer, tmp_path_factory.mktemp("encoder") / "tokenizer.json").load()


@pytest.fixture(scope="module")
def encoder(tokenizer, load_encoder):
    return load_encoder(tokenizer)


@pytest.fixture(scope="module")
def chat_format(tokenizer):
    return ChatFormat.of(tokenizer, 64)


def flat(tokenizer, messages):
    """The ids of messages and of the newline after each, by the tokenizer itself."""
    if not messages:  # which transformers does not take
        return []
    lines = tokenizer([message + "\n" for message in messages], split_special_tokens=True)["input_ids"]
    return [token for ids in lines for token in ids]


def test_the_format_is_saved_beside_a_model(chat_format, tmp_path):
    for channels in ((), ("a", "b")):
        expected = dataclasses.replace(chat_format, channels=channels)
        expected.save(tmp_path)
        assert ChatFormat.load(tmp_path) == expected


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"start": 1}', '{"start": null}', '{"channels": 5}'])
def test_a_damaged_format_is_refused(content, tmp_path):
    (tmp_path / FORMAT_FILE).write_text(content)
    with pytest.raises(InputError, match=r"chat_format\.json is damaged .* Write this model again with train\.py"):
        ChatFormat.load(tmp_path)


def test_a_model_without_a_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"was not written by train\.py\. Pass another folder with --model\."):
        ChatFormat.load(tmp_path)


def test_the_tokens_that_no_message_contains_are_listed_once():
    assert ChatFormat(start=5, newline=1, pad=6, block_size=512, end=5).never == [5, 6]


def test_padding_is_the_last_token(tokenizer, plain):
    assert (tokenizer.pad_token, tokenizer.pad_token_id, len(tokenizer)) == ("[PAD]", len(plain), len(plain) + 1)


def save_as_the_hub_has_it(tokenizer, folder):
    """With no special token named."""
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}')


def save_as_older_models_are(tokenizer, folder):
    """With a vocabulary and merges in place of tokenizer.json."""
    folder.mkdir()
    tokenizer.backend_tokenizer.model.save(str(folder))


@pytest.mark.parametrize("save", [save_as_the_hub_has_it, save_as_older_models_are])
def test_the_tokenizer_is_the_models_own(save, plain, tmp_path):
    folder = tmp_path / "model"
    save(plain, folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    tokenizer = load_tokenizer(str(folder))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (plain.eos_token_id, len(plain))
    assert encode(tokenizer, ["hi  chat's LUL"])[0] == plain.encode("hi  chat's LUL")
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (saved.eos_token_id, saved.pad_token_id, len(saved)) == (plain.eos_token_id, len(plain), len(plain) + 1)


def test_there_is_no_tokenizer(tmp_path):
    with pytest.raises(InputError, match="no model no/such-model: there is no folder of this name"):
        load_tokenizer("no/such-model")
    with pytest.raises(InputError, match=f"the tokenizer of {tmp_path} cannot be read"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("vocabulary", "error"),
    [
        ({"<|endoftext|>": 0}, "has no separate token for a line break. Use another model."),
        ({"\n": 0, "?": 1}, "has no token for the end of a text. Use another model."),
    ],
)
def test_a_tokenizer_that_cannot_tell_messages_apart_is_refused(vocabulary, error, tmp_path):
    Tokenizer(WordLevel(vocabulary, unk_token=[*vocabulary][-1])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError) as refused:
        load_tokenizer(str(tmp_path))
    assert str(refused.value) == f"the tokenizer of {tmp_path} {error}"


@given(st.text())
def test_a_clean_message_is_one_line_of_the_same_words(message):
    cleaned = clean(message)
    assert cleaned == cleaned.strip() and "\n" not in cleaned and "\r" not in cleaned
    assert cleaned.split() == message.split()


@given(st.lists(texts, max_size=20))
def test_ids_are_the_tokenizers_own_and_never_control_tokens(tokenizer, plain, messages):
    messages = [clean(message) for message in messages]
    for message, ids in zip(messages, encode(tokenizer, messages), strict=True):
        assert ids + plain.encode("\n") == plain.encode(message + "\n", split_special_tokens=True)
        assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)
        assert tokenizer.decode(ids) == message


@given(st.lists(texts, max_size=20))
def test_the_fast_encoder_gives_the_same_ids(encoder, plain, messages):
    messages = [text for text in map(clean, messages) if text]
    assert encoder(messages).tolist() == flat(plain, messages)


def test_what_fastokens_does_not_know_is_left_to_the_slower_library(tmp_path, load_encoder, capsys):
    vocabulary = {"\n": 0, " ": 1, "hi": 2, "chat": 3, "<|endoftext|>": 4, "?": 5}
    words = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    words.pre_tokenizer = Split(Regex(r"\s"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path)
    encoder = load_encoder(load_tokenizer(str(tmp_path)))
    assert "fastokens cannot be used for this tokenizer (model error: unsupported" in capsys.readouterr().err
    assert encoder(["hi chat", "who is it"]).tolist() == [2, 1, 3, 0, 5, 1, 5, 1, 5, 0]


def test_threads_share_a_slow_encoder(tokenizer):
    """None of them makes a control token of what somebody typed in another."""
    encode_some = encode_slowly(tokenizer.backend_tokenizer.to_str(), newline_id(tokenizer))
    texts = ["typed <|endoftext|> here"] * 50
    with ThreadPoolExecutor(8) as pool:
        assert {some.tobytes() for some in pool.map(encode_some, [texts] * 400)} == {encode_some(texts).tobytes()}
    assert tokenizer.eos_token_id not in encode_some(texts)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """GPT-2's own tokenizer, as the library has it and as load_tokenizer does."""
    folder = tmp_path_factory.mktemp("gpt2")
    reference = GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer")
    reference.save_pretrained(folder)
    return reference, load_tokenizer(str(folder))


@needs_shared
def test_gpt2s_special_tokens(gpt2):
    tokenizer = gpt2[1]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (50256, 50257, 50258)
    assert newline_id(tokenizer) == 198


@needs_shared
def test_the_fast_encoder_on_all_of_gpt2s_tokens(gpt2, load_encoder, capsys):
    reference, tokenizer = gpt2
    tokens = [text for text in map(clean, reference.batch_decode([[n] for n in range(50257)])) if text]
    assert load_encoder(tokenizer)(tokens).tolist() == flat(reference, tokens)
    assert capsys.readouterr().err == ""


@needs_shared
def test_the_fast_encoder_on_real_chat(gpt2, load_encoder, tmp_path):
    reference, tokenizer = gpt2
    encoder = load_encoder(tokenizer)
    parse_logs(SHARED / "chat/justlog", tmp_path / "raw", jobs=2)
    for csv_path in (tmp_path / "raw").rglob("*.csv"):
        batches = [columns["message"].to_pylist() for columns in read_columns(csv_path)]
        messages = [text for batch in batches for text in map(clean, batch) if text]
        assert encoder(messages).tolist() == flat(reference, messages)


@pytest.mark.parametrize("library", ["transformers", "tokenizers"])
def test_a_prompt_is_as_training_showed_it(library, tokenizer, chat_format):
    theirs = tokenizer if library == "transformers" else tokenizer.backend_tokenizer
    ids = encode_chat(theirs, chat_format, [" hello chat", "", "hi [PAD]<|endoftext|> "], 50)
    assert theirs.decode(ids, skip_special_tokens=False) == "<|endoftext|>hello chat\nhi [PAD]<|endoftext|>\n"
    assert ids.count(chat_format.start) == 1 and chat_format.pad not in ids


def test_an_empty_prompt_is_the_start_token(tokenizer, chat_format):
    assert encode_chat(tokenizer, chat_format, [], 50) == [chat_format.start]
    assert encode_chat(tokenizer, chat_format, ["hi"], 1) == [chat_format.start]


def test_a_long_chat_loses_its_oldest_lines(tokenizer, chat_format):
    ids = encode_chat(tokenizer, chat_format, [f"line {n}" for n in range(100)], 30)
    lines = tokenizer.decode(ids[1:]).split("\n")
    assert len(ids) <= 30 and lines == [f"line {n}" for n in range(101 - len(lines), 100)] + [""] and len(lines) > 3


def test_a_long_line_loses_its_beginning(tokenizer, chat_format):
    line = " ".join(map(str, range(100)))
    ids = encode_chat(tokenizer, chat_format, ["before", line], 30)
    assert len(ids) == 30 and ids[0] == chat_format.start and ids[-1] == chat_format.newline
    assert line.endswith(tokenizer.decode(ids[1:-1]))


@given(st.lists(texts, max_size=8), st.integers(1, 40))
def test_a_prompt_is_the_end_of_the_chat(tokenizer, chat_format, lines, max_tokens):
    """As many whole lines as fit, of the newest one at least the end."""
    ids = encode_chat(tokenizer, chat_format, lines, max_tokens)
    whole = encode_chat(tokenizer, chat_format, lines, 10**9)
    assert ids[0] == whole[0] == chat_format.start and len(ids) <= max_tokens
    assert ids[1:] == whole[len(whole) - len(ids) + 1 :]
    assert len(ids) == len(whole) or len(ids) == max_tokens or whole[-len(ids)] == chat_format.newline


def decoded(tokenizer, text, cut=None):
    return decode_message(tokenizer, encode(tokenizer, [text])[0][:cut])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" hi there ", "hi there"),
        ("a\rb\u2028c\x1b[31m\td\x85", "a b c [31m d"),
        ("\n", ""),
        ("\u200b \U000e0000", ""),
        ("", ""),
        ("\u200bhi\u202e", "hi"),
        ("I ❤\ufe0f it", "I ❤\ufe0f it"),
        ("x\ufffdy", "xy"),
        ("typed <|endoftext|>[PAD] here", "typed  here"),
        ("<|endof[PAD]text|><|endof<|endoftext|>text|>!", "!"),
    ],
)
def test_a_decoded_message_is_one_line(text, message, tokenizer):
    assert decoded(tokenizer, text) == message


def test_half_a_character_is_left_out(tokenizer):
    assert decoded(tokenizer, "half of an otter 🦦", -1) == "half of an otter"


def test_control_tokens_are_left_out(tokenizer, chat_format):
    [ids] = encode(tokenizer, ["hi"])
    assert decode_message(tokenizer, [*ids, chat_format.pad, chat_format.start]) == "hi"


def test_a_message_is_no_longer_than_on_twitch(tokenizer):
    assert len(decoded(tokenizer, "LUL " * 300)) == 499  # the 500th is a blank


@given(texts)
def test_messages_come_back(tokenizer, text):
    message = clean(text)
    if not re.search(r"\ufffd|<\|endoftext\|>|\[PAD\]", message) and len(message) <= 500:
        assert decoded(tokenizer, message) == visible(message)
