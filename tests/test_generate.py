"""generate.py: one clean chat message a line, whatever the model comes up with."""

import pytest
import torch
from conftest import ROOT, error_of, run

from generate import decode_message, encode_chat, generate, load
from parse_logs import InputError
from tokenize_logs import load_tokenizer
from train import load_model


@pytest.fixture(scope="module")
def random_model(small_model, tmp_path_factory):
    """A folder as train.py writes it, with random weights: there is no worse text than what such a model says."""
    tokenizer = load_tokenizer(str(small_model))
    folder = tmp_path_factory.mktemp("models") / "random"
    load_model(str(small_model), tokenizer, 64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(random_model):
    return load(str(random_model))


def test_whatever_a_model_says_is_one_clean_line(loaded):
    torch.manual_seed(0)
    messages = generate(*loaded, "hello chat", num_messages=500, temperature=2.0, top_p=1.0, max_new_tokens=30)
    assert len(messages) == 500 and len(set(messages)) > 490
    for message in messages:
        assert message and message == message.strip() and len(message.splitlines()) == 1
        assert "<|endoftext|>" not in message and "[PAD]" not in message and "\ufffd" not in message
        assert message.encode().decode() == message  # whole characters: no lone surrogate


def test_the_prompt_is_read_as_training_showed_it(loaded):
    _, tokenizer = loaded
    end = tokenizer.eos_token_id
    assert encode_chat(tokenizer, "", 50) == [end]
    ids = encode_chat(tokenizer, " hello chat\r\n\nhi [PAD]<|endoftext|> ", 50)
    assert tokenizer.decode(ids) == "<|endoftext|>hello chat\nhi [PAD]<|endoftext|>\n"
    assert ids.count(end) == 1 and tokenizer.pad_token_id not in ids


def test_a_long_chat_loses_its_oldest_lines(loaded):
    _, tokenizer = loaded
    chat = "\n".join(f"line {n}" for n in range(100))
    ids = encode_chat(tokenizer, chat, 30)
    lines = tokenizer.decode(ids[1:]).split("\n")
    assert len(ids) <= 30 and lines == [f"line {n}" for n in range(101 - len(lines), 100)] + [""] and len(lines) > 3
    assert len(encode_chat(tokenizer, "one line " * 100, 30)) == 30


def test_decode_message(loaded):
    _, tokenizer = loaded

    def ids(text):
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    assert decode_message(tokenizer, ids(" hi there \nnext line\n")) == "hi there"
    assert decode_message(tokenizer, ids("a\rb\u2028c")) == "a b c"
    assert decode_message(tokenizer, ids("half of an otter 🦦")[:-1]) == "half of an otter"
    assert decode_message(tokenizer, [*ids("hi"), tokenizer.pad_token_id]) == "hi"
    assert len(decode_message(tokenizer, ids("LUL " * 300))) == 499  # the 500th is a blank
    assert decode_message(tokenizer, ids("\n")) == ""


def test_command(random_model):
    args = ["generate.py", "hello chat", "--model", random_model, "--max-new-tokens", 20]
    first = run(*args, "-n", 3, "--seed", 7)
    assert first.stderr == "" and len(first.stdout.splitlines()) == 3 and first.stdout.endswith("\n")
    assert run(*args, "-n", 3, "--seed", 7).stdout == first.stdout
    assert run(*args, "-n", 3, "--seed", 8).stdout != first.stdout
    assert len(run(*args).stdout.splitlines()) == 1
    assert len(run(*args[:1], *args[2:]).stdout.splitlines()) == 1  # no prompt


def test_errors(random_model, tmp_path):
    assert "nowhere holds no model; run train.py first" in error_of("generate.py", "--model", tmp_path / "nowhere")
    assert "holds no model" in error_of("generate.py", "--model", ROOT / "models/tiny-gpt2")  # no weights
    error = error_of("generate.py", "--model", random_model, "--max-new-tokens", 63)
    assert "--max-new-tokens 63 leaves no room" in error
    for wrong in [["--temperature", "0"], ["--top-p", "1.5"], ["-n", "0"]]:
        assert run("generate.py", *wrong, check=False).returncode == 2


def test_a_model_that_says_nothing(loaded, monkeypatch):
    model, tokenizer = loaded
    blank = tokenizer.encode(" ")[0]
    bias = torch.full((len(tokenizer),), -1e9)
    bias[blank] = 0
    monkeypatch.setattr(model.lm_head, "forward", lambda hidden: bias.expand(*hidden.shape[:-1], -1))
    with pytest.raises(InputError, match="said nothing visible in 10 tries"):
        generate(model, tokenizer, max_new_tokens=5)
