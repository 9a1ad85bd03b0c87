"""Channels: blocks of one channel each, and a model that stays in the channel it speaks in."""

import csv
import json
import re
from collections import Counter

import numpy as np
import pytest
from conftest import TINY, contents, error_of, log_line, run
from datasets import DatasetDict
from transformers import AutoTokenizer

from chatter.cli import InputError
from chatter.generation.chat_input import CurrentChannel
from chatter.generation.engine import Sampling
from chatter.tokens.chat import ChatFormat, encode_chat, newline_id
from chatter.training.run import known_channels
from generate import answer, generate
from tokenize_logs import tokenize_logs

SHORT = Sampling(max_new_tokens=5)


def write_rows(path, rows, header="date,time,channel,username,message"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(["2024-03-07", "21:05:09", channel, "u", message] for channel, message in rows)


def tokenize(raw, output, block_size=64, with_channel=True):
    tokenize_logs(raw, output, str(TINY), block_size, with_channel=with_channel)
    return output


def blocks_of(dataset_dir):
    """The lines of each block."""
    tokenizer = AutoTokenizer.from_pretrained(dataset_dir / "tokenizer")
    dataset = DatasetDict.load_from_disk(dataset_dir)
    rows = [np.array(row) for split in dataset.values() for row in split["input_ids"]]
    assert all(row[0] == tokenizer.eos_token_id for row in rows)
    return [tokenizer.decode(row[1:][row[1:] != tokenizer.pad_token_id]).split("\n")[:-1] for row in rows]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """CSVs of one channel and of several, and their messages by file and channel."""
    folder = tmp_path_factory.mktemp("raw")
    mixed = [(("Beta", "#alpha", "beta")[n % 3], f"mixed {n} {'LUL ' * (n % 5)}".strip()) for n in range(400)]
    single = [("alpha", f"single {n}") for n in range(100)] + [("alpha", "#beta"), ("alpha", "#beta\nhi")]
    write_rows(folder / "mixed.csv", mixed)
    write_rows(folder / "single.csv", single)
    chats = {("mixed", "beta"): [text for name, text in mixed if name != "#alpha"]}
    chats["mixed", "alpha"] = [text for name, text in mixed if name == "#alpha"]
    chats["single", "alpha"] = [text.replace("\n", " ") for _, text in single]
    return folder, chats


@pytest.fixture(scope="module")
def with_headers(several, tmp_path_factory):
    """The dataset of `several` with headers."""
    folder = tmp_path_factory.mktemp("dataset") / "dataset"
    command = ["tokenize_logs.py", "--input-dir", several[0], "--output-dir", folder, "--model", TINY]
    run(*command, "--with-channel", "--block-size", 64)
    return folder


def test_each_block_begins_with_its_channel(several, with_headers):
    """Within a file, the messages of each channel are whole, in order, and in blocks of their own."""
    found = {key: [] for key in several[1]}
    for header, *messages in blocks_of(with_headers):
        file = "mixed" if messages[0].startswith("mixed") else "single"
        found[file, header.removeprefix("#")].append(messages)
    for key, expected in several[1].items():
        blocks = sorted(found[key], key=lambda messages: expected.index(messages[0]))
        assert [message for block in blocks for message in block] == expected


def test_the_channels_are_recorded_with_the_dataset(with_headers):
    assert json.loads((with_headers / "summary.json").read_text())["channels"] == ["beta", "alpha"]
    assert "| channels | beta, alpha |" in (with_headers / "README.md").read_text()


def test_the_bytes_of_each_channels_test_blocks_are_recorded(with_headers):
    """Of messages, not of headers; the data card shows their sum."""
    tokenizer, sizes = AutoTokenizer.from_pretrained(with_headers / "tokenizer"), Counter()
    for ids in DatasetDict.load_from_disk(with_headers)["test"]["input_ids"]:
        header, *messages = tokenizer.decode([t for t in ids[1:] if t != tokenizer.pad_token_id]).split("\n")[:-1]
        sizes[header.removeprefix("#")] += sum(len(f"{text}\n".encode()) for text in messages)
    summary = json.loads((with_headers / "summary.json").read_text())
    assert summary["test bytes by channel"] == sizes and summary["test bytes"] == sizes.total()
    card = (with_headers / "README.md").read_text()
    assert f"| test bytes | {sizes.total():,} |" in card and "by channel" not in card


def test_the_same_bytes_again_and_without_the_option_no_header(several, with_headers, tmp_path):
    assert contents(tokenize(several[0], tmp_path / "again")) == contents(with_headers)
    plain = tokenize(several[0], tmp_path / "plain", with_channel=False)
    assert "channels" not in json.loads((plain / "summary.json").read_text())
    assert [block for block in blocks_of(plain) if block[0] == "#alpha"] == []


@pytest.mark.parametrize(("channel", "header"), [(" # ", "channel"), ("alpha", "where")])
def test_messages_without_a_channel_are_refused(channel, header, tmp_path):
    write_rows(tmp_path / "raw/a.csv", [("alpha", "hi"), (channel, "hello")], f"date,time,{header},username,message")
    with pytest.raises(
        InputError, match=r"a\.csv has messages without a channel\. Name its log channel-2024-03-07\.log and run"
    ):
        tokenize(tmp_path / "raw", tmp_path / "out")


def test_a_header_that_fills_the_block_is_refused(tmp_path):
    write_rows(tmp_path / "raw/a.csv", [("alpha", "hi")])
    with pytest.raises(
        InputError, match="the header of channel alpha leaves no room for a message in a block of 4 tok"
    ):
        tokenize(tmp_path / "raw", tmp_path / "out", block_size=4)


def test_a_header_stays_when_old_lines_fall_out(engine):
    chat_format, newline = engine.format, newline_id(engine.tokenizer)
    for lines in ([], ["hi"], ["#beta", *(f"line {n}" for n in range(100))], ["x " * 100]):
        ids = encode_chat(engine.tokenizer, chat_format, lines, 40, "#alpha")
        first, *rest = engine.tokenizer.decode(ids, skip_special_tokens=False).split("\n")
        assert first == "<|endoftext|>#alpha" and len(ids) <= 40 and ids[-1] == newline
        assert not lines or lines[-1].strip().endswith(rest[-2].strip())


@pytest.fixture
def prompts(engine, monkeypatch):
    """What the engine continues, as text."""
    seen, sample = [], engine.sample
    decode = engine.tokenizer.decode
    monkeypatch.setattr(
        engine, "sample", lambda ids, *rest: seen.append(decode(ids, skip_special_tokens=False)) or sample(ids, *rest)
    )
    return seen


def test_a_message_is_generated_behind_the_header(engine, prompts):
    generate(engine, ["#beta"], begin="I", header="#alpha", sampling=SHORT)
    generate(engine, ["hi"], sampling=SHORT)
    assert prompts == ["<|endoftext|>#alpha\n#beta\nI", "<|endoftext|>hi\n"]


def test_a_stream_is_answered_in_the_channel_of_each_line(engine, prompts, capsys):
    lines = [log_line("beta", "one"), log_line("alpha", "two"), "three", log_line("beta", "four")]
    channel = CurrentChannel(["alpha", "beta"])
    said = [message.text for _, message, _ in answer(engine, lines, "", channel, sampling=SHORT)]
    assert [prompt.split("\n")[:-1] for prompt in prompts] == [
        ["<|endoftext|>#beta", "one"],
        ["<|endoftext|>#alpha", "two"],
        ["<|endoftext|>#alpha", "two", said[1], "three"],
        ["<|endoftext|>#beta", "one", said[0], "four"],
    ]
    assert capsys.readouterr().err == ""


def test_the_channels_of_a_model_join_those_of_the_one_it_starts_from(tmp_path):
    ChatFormat(1, 2, 3, 64, 4, ("b", "a")).save(tmp_path)
    assert known_channels({"channels": ["c", "a"]}, tmp_path) == ["c", "a", "b", "a"]
    assert known_channels({"channels": ["c", "a"]}, tmp_path / "nowhere") == ["c", "a"]
    assert known_channels({}, tmp_path) == known_channels({"channels": []}, tmp_path) == []


@pytest.mark.slow
def test_from_logs_to_a_message(several, with_headers, small_model, tmp_path):
    """The model knows its channels, also after further training, and generate.py speaks in them."""
    options = ["--max-steps", 1, "--no-deepspeed", "--batch-size", 8]
    first, second = tmp_path / "first", tmp_path / "second"
    run("train.py", "--model", small_model, "--dataset-dir", with_headers, "--output-dir", first, *options)
    assert ChatFormat.load(first).channels == ("beta", "alpha")
    test = json.loads((first / "metrics.json").read_text())["test"]
    assert test["bits per byte by channel"].keys() == {"alpha", "beta"}
    lowest, highest = sorted(test["bits per byte by channel"].values())
    assert lowest < test["bits per byte"] < highest and "\nBy channel:\n" in (first / "README.md").read_text()
    write_rows(tmp_path / "raw/c.csv", [("gamma", f"a longer message of gamma {n}") for n in range(100)])
    tokenize(tmp_path / "raw", tmp_path / "dataset")
    done = run("train.py", "--model", first, "--dataset-dir", tmp_path / "dataset", "--output-dir", second, *options)
    assert ChatFormat.load(second).channels == ("gamma", "beta", "alpha") and "said.u64" not in done.stderr

    ours = [set(np.fromfile(folder / "said.u64", "<u8")) for folder in (with_headers, tmp_path / "dataset", second)]
    assert ours[0] and ours[1] - ours[0] and ours[2] == ours[0] | ours[1]

    command = ["generate.py", "hello", "--model", second, "--device", "cpu", "--max-new-tokens", 5, "--no-copies"]
    assert "speaking in gamma; pass --channel to speak in beta, alpha" in run(*command).stderr
    assert run(*command, "--channel", "alpha").stderr == ""
    assert re.search(
        "not know the channel 'delta'. Pass one of gamma, beta, alpha.", error_of(*command, "--channel", "delta")
    )
