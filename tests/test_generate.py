"""generate.py: one clean chat message a line, whatever the model comes up with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata

import psutil
import pytest
import torch
from conftest import ROOT, error_of, run

import generate as script
from generate import Sampling, answer, decode_message, encode_chat, fold, generate, load, read_chat
from parse_logs import InputError
from tokenize_logs import encode, load_tokenizer
from train import load_model

ENGINES = ["transformers", "ctranslate2"]


def save(model, tokenizer, folder):
    """Write a folder as train.py does."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def random_model(small_model, tmp_path_factory):
    """A folder with random weights: there is no worse text than what such a model says."""
    tokenizer = load_tokenizer(str(small_model))
    return save(load_model(str(small_model), tokenizer, 64), tokenizer, tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, random_model):
    return load(random_model, "cpu", request.param)


@pytest.fixture(scope="module")
def parrot(small_model, tmp_path_factory):
    """A folder with a model that has learned a chat in which "what is it" follows "ping", and the other way round."""
    tokenizer = load_tokenizer(str(small_model))
    torch.manual_seed(0)
    model = load_model(str(small_model), tokenizer, 64).eval()
    chat = tokenizer("<|endoftext|>" + "ping\nwhat is it\n" * 20)["input_ids"][:64]
    turned = tokenizer("<|endoftext|>" + "what is it\nping\n" * 20)["input_ids"][:64]
    batch = torch.tensor([chat, turned])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = save(model, tokenizer, tmp_path_factory.mktemp("models") / "parrot")
    load(folder, "cpu")  # makes the fast copy
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def parrot_engine(request, parrot):
    return load(parrot, "cpu", request.param)


def assert_one_clean_line(message):
    assert message and message == message.strip() and len(message.splitlines()) == 1 and len(message) <= 500
    assert "<|endoftext|>" not in message and "[PAD]" not in message and "\ufffd" not in message
    assert message.encode().decode() == message  # whole characters: no lone surrogate
    categories = {unicodedata.category(character) for character in message}
    assert "Cc" not in categories and any(category[0] not in "CZ" for category in categories)


def test_whatever_a_model_says_is_one_clean_line(engine):
    engine.seed(0)
    sampling = Sampling(temperature=2.0, top_p=1.0, max_new_tokens=30)
    messages = [message.text for message in generate(engine, ["hello chat"], num_messages=500, sampling=sampling)]
    assert len(messages) == 500 and len(set(messages)) > 475
    for message in messages:
        assert_one_clean_line(message)


def test_the_prompt_is_read_as_training_showed_it(engine):
    assert encode_chat(engine, [], 50) == [engine.end]
    ids = encode_chat(engine, [" hello chat", "", "hi [PAD]<|endoftext|> "], 50)
    assert engine.tokenizer.decode(ids, skip_special_tokens=False) == "<|endoftext|>hello chat\nhi [PAD]<|endoftext|>\n"
    assert ids.count(engine.end) == 1 and engine.pad not in ids
    assert encode_chat(engine, ["hi"], 1) == [engine.end]


def test_a_long_chat_loses_its_oldest_lines(engine):
    ids = encode_chat(engine, [f"line {n}" for n in range(100)], 30)
    lines = engine.tokenizer.decode(ids[1:]).split("\n")
    assert len(ids) <= 30 and lines == [f"line {n}" for n in range(101 - len(lines), 100)] + [""] and len(lines) > 3
    assert len(encode_chat(engine, ["one line " * 100], 30)) == 30
    sampling = Sampling(max_new_tokens=40)  # of 64 positions
    assert len(generate(engine, ["one line " * 100], num_messages=2, sampling=sampling)) == 2
    assert len(generate(engine, ["one line " * 100], sampling=Sampling(max_new_tokens=1000))[0].ids) <= 32
    with pytest.raises(InputError, match="--complete has 399 tokens, and the model 64 positions"):
        generate(engine, begin="x " * 200)


def test_decode_message(engine):
    def decoded(text, cut=None):
        return decode_message(engine.tokenizer, encode(engine.tokenizer, [text])[0][:cut])

    assert decoded(" hi there ") == "hi there"
    assert decoded("a\rb\u2028c\x1b[31m\td\x85") == "a b c [31m d"
    assert decoded("half of an otter 🦦", -1) == "half of an otter"
    assert decode_message(engine.tokenizer, [*encode(engine.tokenizer, ["hi"])[0], engine.pad, engine.end]) == "hi"
    assert len(decoded("LUL " * 300)) == 499  # the 500th is a blank
    assert decoded("\n") == decoded("\u200b \U000e0000") == decoded("") == ""


def test_a_chat_of_two_lines_is_learned(parrot_engine):
    parrot_engine.seed(0)
    for prompt, reply in [(["ping"], "what is it"), (["ping", "what is it"], "ping")]:
        for sampling in (Sampling(greedy=True), Sampling(temperature=0.3), Sampling(top_k=1)):
            sampling = Sampling(**vars(sampling) | {"max_new_tokens": 20})
            assert [message.text for message in generate(parrot_engine, prompt, sampling=sampling)] == [reply]
    [message] = generate(parrot_engine, ["ping"], begin=" wh", sampling=Sampling(greedy=True, max_new_tokens=20))
    assert message.text.startswith("wh")
    assert generate(parrot_engine, ["ping"], begin="what", sampling=sampling)[0].text == "what is it"


def test_banned_words_are_never_said(parrot_engine):
    """The model says next to nothing else: it finds another message, or gives up."""
    parrot_engine.seed(0)
    banned = frozenset({fold("WHAT")})
    with pytest.raises(InputError, match="10 tries came to nothing that shows and holds no banned word"):
        generate(parrot_engine, ["ping"], sampling=Sampling(0.1, max_new_tokens=20, banned_words=banned))
    wild = Sampling(3.0, top_p=1.0, max_new_tokens=20, banned_words=frozenset({"what", "t is"}))
    messages = generate(parrot_engine, ["ping"], num_messages=300, sampling=wild)
    assert not [message.text for message in messages if "what" in fold(message.text) or "t is" in fold(message.text)]
    with pytest.raises(InputError, match="1 tries"):
        generate(parrot_engine, ["ping"], sampling=Sampling(greedy=True, max_new_tokens=20, banned_words=banned))


def test_fold():
    assert fold("ＢａＤ") == fold("b\u200ba\u00add") == fold("BAD") == "bad"
    assert fold("STRASSE") == fold("straße")


def test_log_probability(random_model):
    """The sum of what the model gives to each token; nearly the same by both engines."""
    reference, fast = (load(random_model, "cpu", name) for name in ENGINES)
    reference.seed(3)
    messages = generate(reference, ["hi"], num_messages=3, sampling=Sampling(max_new_tokens=20), score=True)
    prompt = encode_chat(reference, ["hi"], 40)
    for message in messages:
        ids = [*prompt, *message.ids, reference.newline]
        with torch.no_grad():
            logits = reference.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        slowly = sum(logits[place - 1, ids[place]].item() for place in range(len(prompt), len(ids)))
        assert message.log_probability == pytest.approx(slowly, abs=1e-3)
        assert fast.log_probability(prompt, ids[len(prompt) :]) == pytest.approx(slowly, rel=0.01)


def test_repetition_penalty(parrot_engine):
    """It divides what the message has already, and leaves alone what only the chat has."""
    base = {"greedy": True, "max_new_tokens": 30}
    said = [
        generate(parrot_engine, ["ping"], sampling=Sampling(**base, repetition_penalty=penalty))[0]
        for penalty in (1.0, 100.0)
    ]
    assert len(set(said[0].ids)) < len(said[0].ids) or said[0].ids == said[1].ids
    assert len(set(said[1].ids)) == len(said[1].ids)


def test_a_model_that_says_nothing(random_model, monkeypatch):
    engine = load(random_model, "cpu", "transformers")
    bias = torch.full((engine.tokenizer.get_vocab_size(),), -1e9)
    bias[encode(engine.tokenizer, [" "])[0][0]] = 0
    monkeypatch.setattr(engine.model.lm_head, "forward", lambda hidden: bias.expand(*hidden.shape[:-1], -1))
    with pytest.raises(InputError, match="10 tries came to nothing that shows; raise"):
        generate(engine, sampling=Sampling(max_new_tokens=5))


def test_read_chat():
    lines = b"hello\r\n\n[2024-03-7 21:05:09] #c u: hi\n[2024-03-7 21:05:11] #c u has been banned\n\xff\xfe\0 bytes\n"
    irc = b"@tmi-sent-ts=1709845509000 :u!u@u PRIVMSG #c :raw\r\nPING :tmi.twitch.tv\r\nlast"
    chat = list(read_chat((lines + irc).splitlines(keepends=True)))
    assert chat == ["hello", "hi", "\ufffd\ufffd\0 bytes", "raw", "last"]


def test_answers(parrot_engine):
    lines = ["ping", "Bot: hello", "ping @BOT", "and so on"]
    sampling = Sampling(max_new_tokens=20)
    said = list(answer(parrot_engine, lines, "bot", sampling=sampling))
    assert [line for line, _ in said] == [lines[1], lines[2]]
    [(_, message)] = answer(parrot_engine, ["ping"], "", sampling=Sampling(greedy=True, max_new_tokens=20))
    assert message.text == "what is it"


def test_the_chat_of_a_stream_does_not_grow(random_model, monkeypatch):
    """A million lines; the reading and the history are real, the drawing is switched off."""
    seen = []
    monkeypatch.setattr(
        script, "generate", lambda engine, chat, **_: seen.append(len(chat)) or [script.Message("", [])]
    )
    engine = load(random_model, "cpu", "transformers")
    memory = psutil.Process().memory_info().rss
    for _ in answer(engine, read_chat(b"line %d of a long chat\n" % n for n in range(1_000_000)), "99"):
        pass
    assert len(seen) > 30_000 and max(seen) == 32
    assert psutil.Process().memory_info().rss - memory < 60e6  # the lines take 75 MB


def test_command(random_model):
    args = ["generate.py", "hello chat", "--model", random_model, "--max-new-tokens", 20]
    for engine in ENGINES:
        how = ["--engine", engine, "-n", 3]
        first = run(*args, *how, "--seed", 7)
        assert len(first.stdout.splitlines()) == 3 and first.stdout.endswith("\n")
        assert run(*args, *how, "--seed", 7).stdout == first.stdout
        assert run(*args, *how, "--seed", 8).stdout != first.stdout
    assert first.stderr == ""
    assert len(run(*args).stdout.splitlines()) == 1
    assert len(run(*args[:1], *args[2:]).stdout.splitlines()) == 1  # no prompt
    done = run(*args, "and more", "--complete", "I say", "--json", "--seed", 2**40, "-n", 2)
    for said in map(json.loads, done.stdout.splitlines()):
        assert said["message"].startswith("I say") and said["prompt"] == "hello chat\nand more"
        assert said["seed"] == 2**40 and 1 <= said["tokens"] <= 20 and said["log_probability"] < 0


def pipe(random_model, *args, **kwargs):
    command = [sys.executable, ROOT / "generate.py", "--model", random_model, "--max-new-tokens", "10", *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def test_standard_input(parrot):
    log = b"[2024-03-7 21:05:09] #c u: what is it\r\n[2024-03-7 21:05:09] #c v: ping\n"
    output, errors = pipe(parrot, "-", "--greedy", "--json").communicate(log)
    assert json.loads(output)["message"] == "what is it" and errors == b""
    assert json.loads(output)["prompt"] == "what is it\nping"


def test_stream(parrot):
    """An answer at once to each line, any bytes; it ends at the end of the input, on Ctrl-C, and when nobody reads."""
    process = pipe(parrot, "--stream", "--greedy", "--trigger", "ping")
    for line, reply in [(b"ping\n", b"what is it\n"), (b"nothing\n\0\xff\nping\n", b"\n")]:
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline().endswith(reply)
    output, errors = process.communicate(b"x" * 200_000 + b" ping\n")
    assert (process.returncode, output.count(b"\n"), errors) == (0, 1, b"")

    process = pipe(parrot, "--stream")
    process.stdin.write(b"ping\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0 and process.stderr.read() == b""

    process = pipe(parrot, "--stream")
    process.stdout.close()
    process.stdin.write(b"ping\n" * 5)
    process.stdin.close()
    assert process.wait(120) == 1 and process.stderr.read() == b""


def test_errors(random_model, tmp_path):
    assert "nowhere holds no model; run train.py first" in error_of("generate.py", "--model", tmp_path / "nowhere")
    assert "holds no model" in error_of("generate.py", "--model", ROOT / "models/tiny-gpt2")  # no weights
    assert "--complete has" in error_of("generate.py", "--model", random_model, "--complete", "x " * 99)
    assert "No such file" in error_of("generate.py", "--model", random_model, "--banned-words", tmp_path / "nowhere")
    if not torch.cuda.is_available():
        error = error_of("generate.py", "--model", random_model, "--device", "cuda")
        assert "no use of --device cuda" in error
    for wrong in [["--temperature", "0"], ["--top-p", "1.5"], ["-n", "0"], ["--stream", "hi"], ["--greedy", "-n", "2"]]:
        assert run("generate.py", *wrong, check=False).returncode == 2


def test_a_model_that_is_not_whole(random_model, tmp_path):
    half = shutil.copytree(random_model, tmp_path / "half", ignore=shutil.ignore_patterns("ctranslate2"))
    weights = (half / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    error = run("generate.py", "--model", half, check=False)
    assert error.returncode == 1 and error.stdout == "" and "Traceback" not in error.stderr
    assert f"generate.py: error: the weights in {half} cannot be read" in error.stderr.splitlines()[-1]
    config = json.loads((half / "generation_config.json").read_text())
    (half / "generation_config.json").write_text(json.dumps(config | {"pad_token_id": None, "eos_token_id": 0}))
    assert "holds no chatter" in error_of("generate.py", "--model", half)


def test_only_safetensors_and_no_code_of_the_model(random_model, tmp_path):
    """A pickle that would run a command when it is loaded, and a config that names code of its own."""
    evil = shutil.copytree(random_model, tmp_path / "evil", ignore=shutil.ignore_patterns("ctranslate2"))
    (evil / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/exploded",)

    torch.save(Bomb(), evil / "pytorch_model.bin")
    assert "holds no model" in error_of("generate.py", "--model", evil)
    shutil.copy(random_model / "model.safetensors", evil)
    config = json.loads((evil / "config.json").read_text())
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (evil / "config.json").write_text(json.dumps(config | {"auto_map": code}))
    (evil / "evil.py").write_text(f"open('{tmp_path}/exploded', 'w')\n")
    for engine in ENGINES:
        run("generate.py", "--model", evil, "--engine", engine, "--max-new-tokens", 5, check=False)
    assert not (tmp_path / "exploded").exists()


def test_the_fast_copy_follows_the_weights_and_may_be_lacking(random_model, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(random_model, tmp_path / "model", ignore=shutil.ignore_patterns("ctranslate2"))
    assert load(folder, "cpu").__class__.__name__ == "CTranslate2Engine"
    assert "making a copy" in capsys.readouterr().err
    copied = (folder / "ctranslate2").stat().st_mtime_ns
    load(folder, "cpu")
    assert (folder / "ctranslate2").stat().st_mtime_ns == copied and capsys.readouterr().err == ""
    later = time.time() + 60
    os.utime(folder / "model.safetensors", (later, later))
    load(folder, "cpu")
    assert (folder / "ctranslate2").stat().st_mtime_ns > copied
    for module in [name for name in sys.modules if name.startswith("ctranslate2")] + ["ctranslate2"]:
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert load(folder).__class__.__name__ == "TransformersEngine"
    with pytest.raises(InputError, match="take --engine transformers"):
        load(folder, "cpu", "ctranslate2")
