"""generate.py: one clean chat message a line, whatever the model comes up with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import unicodedata
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, TINY, error_of, run

import generate as script
from chatter.cli import InputError
from chatter.generation.choose_engine import ENGINES, load_engine
from chatter.generation.engine import Sampling
from chatter.interrupt import Terminated
from chatter.tokens.chat import encode
from chatter.wording.lookalikes import fold
from generate import answer, generate

WILD = Sampling(temperature=3.0, top_p=1.0, max_new_tokens=20)
GREEDY = Sampling(greedy=True, max_new_tokens=20)


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


def test_a_message_comes_with_its_tokens(engine):
    [message] = generate(engine, ["hello chat"], sampling=WILD)
    assert 1 <= len(message.ids) <= 20 and engine.format.newline not in message.ids


def test_the_chat_is_what_it_answers(parrot_engine):
    assert generate(parrot_engine, ["ping"], sampling=GREEDY)[0].text == "what is it"
    assert generate(parrot_engine, ["ping", "what is it"], sampling=GREEDY)[0].text == "ping"


@pytest.mark.parametrize(("begin", "text"), [(" wh", "wh"), ("what", "what is it")])
def test_a_message_begins_as_it_should(begin, text, parrot_engine):
    [message] = generate(parrot_engine, ["ping"], begin=begin, sampling=GREEDY)
    assert message.text.startswith(text)
    assert begin != "what" or message.text == text


def test_a_chat_of_any_length_leaves_room_for_a_message(engine):
    """The model has 64 positions."""
    sampling = Sampling(max_new_tokens=40)
    assert len(generate(engine, ["one line " * 100], num_messages=2, sampling=sampling)) == 2


def test_a_message_takes_at_most_half_of_the_positions(engine):
    [message] = generate(engine, ["one line " * 100], sampling=Sampling(max_new_tokens=1000))
    assert len(message.ids) <= 32


def test_a_beginning_that_does_not_fit_is_refused(engine):
    with pytest.raises(InputError, match="--complete has 399 tokens, but the model has only 64 positions, 32 of them"):
        generate(engine, begin="x " * 200)


def test_a_beginning_as_long_as_a_message_is_refused(engine):
    """The message would be the beginning alone."""
    engine = SimpleNamespace(tokenizer=engine.tokenizer, format=replace(engine.format, block_size=2048))
    with pytest.raises(InputError, match=r"--complete is as long as a message may be, 500 characters\. Shorten it\."):
        generate(engine, begin="x " * 250 + "x")


def test_a_header_that_does_not_fit_is_refused(engine):
    with pytest.raises(InputError, match=r"is too long, but the model has only 64 positions, .* Pass a lower"):
        generate(engine, header=f"#{'x' * 60}")


def test_banned_words_are_never_said(parrot_engine):
    """The model says next to nothing else."""
    banned = frozenset({"what", "t is"})
    messages = generate(parrot_engine, ["ping"], num_messages=100, sampling=WILD, banned_words=banned)
    assert len(messages) == 100
    assert not [message.text for message in messages if any(word in fold(message.text) for word in banned)]


def test_a_banned_word_in_the_beginning_counts_too(parrot_engine):
    with pytest.raises(InputError, match="no printable message"):
        generate(parrot_engine, begin="What", sampling=WILD, banned_words=frozenset({"what"}))


@pytest.mark.parametrize(
    ("sampling", "attempts"), [(Sampling(temperature=0.1, max_new_tokens=20), 10), (GREEDY, 1)], ids=["10", "greedy"]
)
def test_it_gives_up_when_it_finds_nothing_but_banned_words(sampling, attempts, parrot_engine):
    parrot_engine.seed(0)
    said = rf"no printable message without banned words in {attempts} attempt\(s\). Pass a higher --temperature"
    with pytest.raises(InputError, match=said):
        generate(parrot_engine, ["ping"], sampling=sampling, banned_words=frozenset({"what"}))


def test_a_model_that_says_nothing_visible(random_model, monkeypatch):
    engine = load_engine(random_model, "cpu", "transformers")
    bias = torch.full((engine.tokenizer.get_vocab_size(),), -1e9)
    bias[encode(engine.tokenizer, [" "])[0][0]] = 0
    monkeypatch.setattr(engine.model.lm_head, "forward", lambda hidden: bias.expand(*hidden.shape[:-1], -1))
    with pytest.raises(InputError, match=r"no printable message in 10 attempt\(s\)\."):
        generate(engine, sampling=Sampling(max_new_tokens=5))


def test_lines_with_the_trigger_are_answered(parrot_engine):
    lines = ["ping", "Bot: hello", "ping @BOT", "and so on"]
    said = list(answer(parrot_engine, lines, "bot", sampling=WILD))
    assert [line for line, message, _ in said if message] == [lines[1], lines[2]]
    assert [reason for *_, reason in said] == ["no trigger", "", "", "no trigger"]


def test_without_a_trigger_each_line_is_answered(parrot_engine):
    answers = [message.text for _, message, _ in answer(parrot_engine, ["ping", "ping"], "", sampling=GREEDY)]
    assert answers == ["what is it"] * 2


def test_an_answer_joins_the_chat(parrot_engine, monkeypatch):
    chats = []
    monkeypatch.setattr(
        script, "generate", lambda engine, chat, **options: chats.append([*chat]) or generate(engine, chat, **options)
    )
    list(answer(parrot_engine, ["ping", "so?"], "", sampling=GREEDY))
    assert chats == [["ping"], ["ping", "what is it", "so?"]]


def test_a_line_without_an_answer_is_reported_and_the_next_one_answered(parrot_engine, capsys):
    banned = {"sampling": GREEDY, "banned_words": frozenset({"what"})}
    answers = answer(parrot_engine, ["ping", "what is it"], "", **banned)
    said = [message and message.text for _, message, _ in answers]
    assert said == [None, "ping"]
    assert capsys.readouterr().err.startswith("no answer: no printable message without banned words in 1 attempt(s).")


@pytest.fixture
def failing(parrot_engine, monkeypatch):
    """Return a function that makes an engine raise these errors, one for each sample; None samples a message."""

    def fail_with(*errors):
        errors, sample = iter(errors), parrot_engine.sample

        def sample_or_fail(*args):
            if error := next(errors, None):
                raise error
            return sample(*args)

        monkeypatch.setattr(parrot_engine, "sample", sample_or_fail)
        return parrot_engine

    return fail_with


class Panic(BaseException):
    """As pyo3 raises for a panic in Rust."""


@pytest.mark.parametrize(
    "error", [RuntimeError("out\nof memory"), InputError("no."), MemoryError(), Panic("oh")], ids=repr
)
def test_a_stream_survives_an_error_of_one_answer(error, failing, capsys):
    reason = {
        RuntimeError: "RuntimeError: out\\nof memory",
        InputError: "no.",
        MemoryError: "MemoryError",
        Panic: "Panic: oh",
    }
    said = [*answer(failing(error), ["ping", "ping"], "", sampling=GREEDY)]
    assert [(message and message.text, why) for _, message, why in said] == [
        (None, reason[type(error)]),
        ("what is it", ""),
    ]
    assert capsys.readouterr().err == f"no answer: {reason[type(error)]}\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated, SystemExit])
def test_a_signal_ends_a_stream_while_it_samples(error, failing):
    with pytest.raises(error):
        next(answer(failing(error(15)), ["ping"], "", sampling=GREEDY))


def test_ten_failures_in_a_row_end_a_stream(failing):
    """Nine do not. Each of the ten lines has a reason."""
    errors = [RuntimeError("damaged")] * 9
    said = []
    with pytest.raises(RuntimeError, match="damaged"):
        for line in answer(failing(*errors, None, *errors, errors[0]), ["ping"] * 30, "", sampling=GREEDY):
            said.append(line)
    assert [reason for *_, reason in said] == ["RuntimeError: damaged"] * 9 + [""] + ["RuntimeError: damaged"] * 10


def test_messages_that_are_all_banned_are_not_failures(parrot_engine):
    banned = {"sampling": GREEDY, "banned_words": frozenset({"what", "ping"})}
    lines = ["ping"] * 20
    assert [message for _, message, _ in answer(parrot_engine, lines, "", **banned)] == [None] * 20


def test_a_failure_forgets_the_chat_that_may_have_caused_it(parrot_engine, monkeypatch):
    """Otherwise a line of one chatter could fail ten times."""
    [poison] = encode(parrot_engine.tokenizer, ["poison"])
    sample = parrot_engine.sample

    def fail_at_poison(prompt, *args):
        if {*poison} <= {*prompt}:
            raise ValueError(poison)
        return sample(prompt, *args)

    monkeypatch.setattr(parrot_engine, "sample", fail_at_poison)
    said = [*answer(parrot_engine, ["poison", *["ping"] * 15], "ping", sampling=GREEDY)]
    assert [bool(message) for _, message, _ in said] == [False, False, *[True] * 14]


def test_top_k_1_is_greedy(parrot_engine):
    """One sample is drawn, also when it is banned."""
    for sampling in (GREEDY, replace(GREEDY, greedy=False, top_k=1)):
        messages = generate(parrot_engine, ["ping"], num_messages=3, sampling=sampling)
        assert [message.text for message in messages] == ["what is it"] * 3
        with pytest.raises(InputError, match=r"in 1 attempt\(s\)"):
            generate(parrot_engine, ["ping"], sampling=sampling, banned_words=frozenset({"what"}))


def test_the_chat_of_a_stream_does_not_grow(random_model, monkeypatch):
    """50,000 lines, some of which are answered: only as many as the model can see are kept."""
    engine = load_engine(random_model, "cpu", "transformers")
    generate(engine, ["warm up"], sampling=WILD)
    lengths = []
    monkeypatch.setattr(
        script,
        "generate",
        lambda engine, chat, **options: lengths.append(len(chat)) or generate(engine, chat, **options),
    )
    lines = (f"line {number} of a long chat" for number in range(50_000))
    answers = sum(message is not None for _, message, _ in answer(engine, lines, "9999 ", sampling=WILD))
    assert answers == 5 and {*lengths} == {32}


@pytest.fixture
def args(random_model):
    return ["generate.py", "hello chat", "--model", random_model, "--device", "cpu", "--max-new-tokens", 20]


def test_the_command_prints_one_message_and_nothing_else(args, random_model):
    for command in (args, [args[0], *args[2:]]):  # with a prompt and without
        done = run(*command)
        assert_one_clean_line(done.stdout.removesuffix("\n"))
        assert done.stderr == ""


@pytest.mark.parametrize("engine", ["ctranslate2", pytest.param("transformers", marks=pytest.mark.thorough)])
def test_a_seed_repeats_the_messages(engine, args):
    how = ["--engine", engine, "-n", 3]
    first = run(*args, *how, "--seed", 7).stdout
    assert len(first.splitlines()) == 3 and first.endswith("\n")
    assert run(*args, *how, "--seed", 7).stdout == first
    assert run(*args, *how, "--seed", 8).stdout != first


def test_json(args):
    done = run(*args, "and more", "--complete", "I say", "--json", "--seed", 2**40, "-n", 2)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == 2
    for facts in said:
        assert facts.keys() == {"message", "prompt", "seed", "tokens"}
        assert facts["message"].startswith("I say") and facts["prompt"] == "hello chat\nand more"
        assert facts["seed"] == 2**40 and 1 <= facts["tokens"] <= 20


def test_a_seed_of_its_own_is_told_and_repeats_the_message(args):
    first = json.loads(run(*args, "--json").stdout)
    assert json.loads(run(*args, "--json", "--seed", first["seed"]).stdout) == first


def command_of(model):
    return ["generate.py", "--model", model, "--device", "cpu", "--max-new-tokens", "10"]


def pipe(model, *args, **kwargs):
    """Start generate.py with pipes for its standard input, output and error."""
    pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
    return subprocess.Popen([sys.executable, *command_of(model), *args], cwd=ROOT, **pipes, **kwargs)


def read_by(model, stdin, *args, **kwargs):
    """Run generate.py with a text as its standard input."""
    return run(*command_of(model), *args, stdin=stdin, **kwargs)


def test_standard_input(parrot):
    log = "[2024-03-7 21:05:09] #c u: what is it\r\n[2024-03-7 21:05:09] #c v: ping\n"
    done = read_by(parrot, log, "-", "--greedy", "--json")
    assert json.loads(done.stdout)["message"] == "what is it" and done.stderr == ""
    assert json.loads(done.stdout)["prompt"] == "what is it\nping"


def test_a_prompt_of_arguments_and_standard_input(parrot):
    done = read_by(parrot, "third\n", "first\nsecond", "-", "last", "--json")
    assert json.loads(done.stdout)["prompt"] == "first\nsecond\nthird\nlast"


def test_a_stream_is_answered_line_by_line_whatever_its_bytes(parrot):
    process = pipe(parrot, "--stream", "--greedy", "--trigger", "ping")
    for line, reply in [(b"ping\n", b"what is it\n"), (b"nothing\n\0\xff\nping\n", b"\n")]:
        process.stdin.write(line)
        process.stdin.flush()
        assert process.stdout.readline().endswith(reply)
    output, errors = process.communicate(b"ping " + b"x" * 200_000 + b"\n")
    assert (process.returncode, output.count(b"\n"), errors) == (0, 1, b"")


def test_a_stream_as_json_names_the_line(parrot):
    output = read_by(parrot, "ping\n", "--stream", "--greedy", "--json").stdout
    assert json.loads(output)["prompt"] == "ping" and json.loads(output)["message"] == "what is it"


def test_ctrl_c_ends_a_stream(parrot):
    process = pipe(parrot, "--stream")
    process.stdin.write(b"ping\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0 and process.stderr.read() == b""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_with_top_k_1(engine, parrot, tmp_path):
    (tmp_path / "words").write_text("WHAT\n")
    options = ["--engine", engine, "--stream", "--json", "--top-k", "1", "--banned-words", tmp_path / "words"]
    output = read_by(parrot, "ping\nwhat is it\n" * 6, *options).stdout
    said = [json.loads(line)["message"] for line in output.splitlines()]
    assert (len(said), said[:2]) == (12, [None, "ping"])


def test_a_stream_whose_engine_always_fails_ends(parrot):
    """The beginning does not fit into the positions of the model."""
    done = read_by(parrot, "ping\n" * 30, "--stream", "--json", "--complete", "x " * 99, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(said) == 10
    assert all(line["message"] is None and line["reason"].startswith("--complete has 197 tokens") for line in said)
    lines = done.stderr.splitlines()
    assert lines[:-1] == [f"no answer: {said[0]['reason']}"] * 10
    assert lines[-1] == f"generate.py: error: {said[0]['reason']}"


def test_a_stream_ends_when_nobody_reads_it(parrot):
    process = pipe(parrot, "--stream")
    process.stdout.close()
    process.stdin.write(b"ping\n" * 5)
    process.stdin.close()
    assert process.wait(120) == 1 and process.stderr.read() == b""


def test_no_model(tmp_path):
    for model in (tmp_path / "nowhere", TINY):  # which has no weights
        assert f"no model in {model}. Run train.py first" in error_of("generate.py", "--model", model)


def test_a_beginning_that_is_too_long(args):
    assert "--complete has 197 tokens" in error_of(*args, "--complete", "x " * 99)


def test_no_file_of_banned_words(args, tmp_path):
    assert "nowhere: No such file or directory." in error_of(*args, "--banned-words", tmp_path / "nowhere")


def test_a_message_of_banned_words(parrot, tmp_path):
    (tmp_path / "words").write_text("WHAT\n")
    options = ["--device", "cpu", "--greedy", "--banned-words", tmp_path / "words"]
    error = error_of("generate.py", "ping", "--model", parrot, *options)
    assert "no printable message without banned words in 1 attempt(s)." in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(random_model):
    assert "--device cuda cannot be used" in error_of("generate.py", "--model", random_model, "--device", "cuda")


def test_a_model_that_is_cut_short(random_model, tmp_path):
    half = shutil.copytree(random_model, tmp_path / "half", ignore=shutil.ignore_patterns("ctranslate2"))
    weights = (half / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    done = run("generate.py", "--model", half, check=False)
    assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr
    assert f"generate.py: error: the weights in {half} cannot be read" in done.stderr.splitlines()[-1]


STREAM_ALONE = "--stream reads the chat from standard input and answers each line once: leave out chat and -n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--temperature", "0"], "argument --temperature: must be at least 0.01"),
        (["--top-p", "1.5"], "argument --top-p: must be at most 1"),
        (["-n", "0"], "argument -n/--num-messages: must be at least 1"),
        (["--seed", "-1"], "argument --seed: must be at least 0"),
        (["--stream", "hi"], STREAM_ALONE),
        (["--stream", "-n", "2"], STREAM_ALONE),
        (["--greedy", "-n", "2"], "--greedy always generates the same message: pass -n without it"),
        (["--top-k", "1", "-n", "3"], "--top-k 1 always generates the same message: pass -n without it"),
        (["--top-k", "1", "--greedy", "-n", "3"], "--greedy always generates the same message: pass -n without it"),
        (["--trigger", "x", "hi"], "--trigger says which lines of --stream are answered: pass both"),
    ],
    ids=" ".join,
)
def test_wrong_usage(options, error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["generate.py", *options])
    with pytest.raises(SystemExit, match="2"):
        script.parse_args()
    assert capsys.readouterr().err.splitlines()[-1] == f"generate.py: error: {error}"


def test_a_line_for_each_line(parrot):
    """With --stream --json a bot that writes a line can wait for one."""
    process = pipe(parrot, "--stream", "--json", "--greedy", "--trigger", "ping", "--max-new-tokens", "20")
    answers = []
    for line in ["ping", "nothing", "", "PING :tmi.twitch.tv", "x" * 300_000 + " ping", "ping"]:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        answers.append(json.loads(process.stdout.readline()))
    assert [answer["message"] for answer in answers] == ["what is it", None, None, None, None, answers[-1]["message"]]
    reasons = [answer.get("reason") for answer in answers]
    assert reasons == [None, "no trigger", "not a message", "not a message", "no trigger", None]
    output, errors = process.communicate()
    assert (process.returncode, output, errors) == (0, b"", b"")


def test_the_reason_why_there_is_no_message(parrot, tmp_path):
    (tmp_path / "words.txt").write_text("WHAT\n")
    done = read_by(parrot, "ping\n", "--stream", "--json", "--greedy", "--banned-words", tmp_path / "words.txt")
    answer = json.loads(done.stdout)
    assert answer["message"] is None
    assert answer["reason"].startswith("no printable message without banned words in 1 attempt(s)")
    assert done.stderr == f"no answer: {answer['reason']}\n"


def test_chat_that_looks_like_an_option(random_model):
    args = ["--model", random_model, "--max-new-tokens", 5, "--json"]
    for chat in (["-_-"], ["--help", "-n"], ["-1"]):
        assert json.loads(run("generate.py", *args, "--", *chat).stdout)["prompt"] == "\n".join(chat)
    done = run("generate.py", "before", *args, "behind", "-n", 2, "--", "-_-")
    assert [json.loads(line)["prompt"] for line in done.stdout.splitlines()] == ["before\nbehind\n-_-"] * 2


def test_arguments_that_are_not_text(random_model):
    """Control tokens, direction marks, control characters and bytes that are not UTF-8."""
    args = ["--model", random_model, "--max-new-tokens", 5]
    begin = os.fsdecode(b"\xff <|endoftext|>I \x1b[31m[PA[PAD]D] say\xe2\x80\xae")
    done = run("generate.py", *args, "--complete", begin, begin)
    assert_one_clean_line(done.stdout.removesuffix("\n"))
    assert done.stdout.startswith("I ") and "say" in done.stdout and not set(done.stdout) & set("\u202e\x1b")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_utf_8_is_written_whatever_the_locale_says(parrot, encoding):
    process = pipe(parrot, "привет 😂", "--json", env=os.environ | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"})
    output, errors = process.communicate()
    assert json.loads(output.decode())["prompt"] == "привет 😂" and errors == b""


NUMBERS = ["--temperature", "--top-p", "--top-k", "--repetition-penalty", "--max-new-tokens", "--seed", "-n"]


@pytest.mark.parametrize("option", NUMBERS)
def test_what_is_no_number_is_refused(option, monkeypatch, capsys):
    for value in ("nan", "inf", "-inf", "-1", "1e400", "many"):
        monkeypatch.setattr(sys, "argv", ["generate.py", f"{option}={value}" if len(option) > 2 else option + value])
        with pytest.raises(SystemExit, match="2"):
            script.parse_args()
        assert "must be" in capsys.readouterr().err, value


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ENGINES)
def test_extreme_numbers_are_the_same_in_both_engines(random_model, engine):
    args = ["--model", random_model, "--engine", engine, "--max-new-tokens", 5]
    for given in (["--top-k", 100_000], ["--temperature", 0.01], ["--temperature", 100], ["--seed", 2**63 - 1]):
        assert_one_clean_line(run("generate.py", *args, *given).stdout.removesuffix("\n"))
    for given in (["--max-new-tokens", 10**9], ["--repetition-penalty", 100], ["--top-p", 0.01]):
        assert_one_clean_line(run("generate.py", *args, *given).stdout.removesuffix("\n"))
