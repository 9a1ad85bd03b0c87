"""tokenize_logs.py: blocks hold every message whole and in order, as the model's own tokenizer has it."""

import csv
import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED, error_of, run
from datasets import DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, GPT2TokenizerFast, PreTrainedTokenizerFast

from parse_logs import parse_logs
from tokenize_logs import (
    clean,
    drop_duplicates,
    encode,
    load_encoder,
    load_tokenizer,
    pack,
    read_messages,
    save_dataset,
    truncate,
)

TINY = ROOT / "models/tiny-gpt2"
HEADER = ["date", "time", "channel", "username", "message"]


def write_csv(path, messages):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [HEADER, *(["2024-03-07", "21:05:09", "c", "u", m] for m in messages)]
        )


def read_blocks(dataset_dir):
    """The blocks of a dataset, (num_blocks, block_size), train before test, and its tokenizer."""
    dataset = DatasetDict.load_from_disk(dataset_dir)
    blocks = np.array([*dataset["train"]["input_ids"], *dataset["test"]["input_ids"]])
    masks = np.array([*dataset["train"]["attention_mask"], *dataset["test"]["attention_mask"]])
    return dataset, blocks, masks, AutoTokenizer.from_pretrained(dataset_dir / "tokenizer")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def messages_of(block, tokenizer):
    """Take a block apart: check its frame and give the texts of its messages."""
    [newline] = tokenizer.encode("\n")
    length = int((block != tokenizer.pad_token_id).sum())
    assert block[0] == tokenizer.eos_token_id and block[length - 1] == newline
    assert (block[length:] == tokenizer.pad_token_id).all()  # padding stands at the end alone
    assert not (block[1:] == tokenizer.eos_token_id).any()
    return tokenizer.decode(block[1 : length - 1]).split("\n")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(TINY))


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return load_encoder(tokenizer)


@pytest.fixture(scope="module")
def plain():
    return AutoTokenizer.from_pretrained(TINY)


def test_padding_is_the_last_token(tokenizer, plain):
    assert (tokenizer.pad_token, tokenizer.pad_token_id, len(tokenizer)) == ("[PAD]", len(plain), len(plain) + 1)


texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["<|endoftext|>", "a [PAD] b", "LUL <|endoftext|>"]
)


@given(st.lists(texts, max_size=20))
def test_ids_are_the_tokenizers_own(tokenizer, plain, messages):
    messages = [clean(message) for message in messages]
    for message, ids in zip(messages, encode(tokenizer, messages), strict=True):
        assert ids + plain.encode("\n") == plain.encode(message + "\n", split_special_tokens=True)
        assert not {tokenizer.eos_token_id, tokenizer.pad_token_id} & set(ids)
        assert tokenizer.decode(ids) == message


@given(st.lists(texts, max_size=20))
def test_many_at_once_are_the_same(encoder, plain, messages):
    """The fast way, beside the model's own tokenizer on each message and its newline."""
    messages = [text for text in map(clean, messages) if text]
    expected = [plain.encode(message + "\n", split_special_tokens=True) for message in messages]
    assert encoder(messages).tolist() == [token for ids in expected for token in ids]


def test_a_tokenizer_of_another_kind(tmp_path, capsys):
    """What fastokens does not know is left to the Hugging Face tokenizer, and that is said."""
    vocabulary = {"\n": 0, " ": 1, "hi": 2, "chat": 3, "<|endoftext|>": 4, "?": 5}
    words = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    words.pre_tokenizer = Split(Regex(r"\s"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path)
    encoder = load_encoder(load_tokenizer(str(tmp_path)))
    assert "fastokens does not fit this tokenizer (model error: unsupported" in capsys.readouterr().err
    assert encoder(["hi chat", "who is it"]).tolist() == [2, 1, 3, 0, 5, 1, 5, 1, 5, 0]


@given(st.text())
def test_clean(message):
    cleaned = clean(message)
    assert cleaned == cleaned.strip() and "\n" not in cleaned and "\r" not in cleaned
    assert cleaned.split() == message.split()


NEWLINE, START, PAD = 91, 90, 92
token_lists = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), max_size=30)


def slow_blocks(encoded, block_size):
    """The obvious way: a list of messages a block, then padding."""
    blocks = []
    for ids in encoded:
        line = [*ids[: block_size - 2], NEWLINE]
        if not blocks or len(blocks[-1]) + len(line) > block_size:
            blocks.append([START])
        blocks[-1] = blocks[-1] + line
    return [block + [PAD] * (block_size - len(block)) for block in blocks]


@given(st.lists(token_lists, max_size=4), st.integers(3, 16))
def test_truncate_and_pack(batches, block_size):
    arrays, num_truncated = [], 0
    for encoded in batches:
        ids = np.array([token for ids in encoded for token in [*ids, NEWLINE]], np.uint16)
        ids, num_long = truncate(ids, NEWLINE, block_size - 1)
        arrays.append(ids)
        num_truncated += num_long
    blocks = [row.tolist() for blocks in pack(arrays, block_size, START, NEWLINE, PAD) for row in blocks]
    everything = [ids for encoded in batches for ids in encoded]
    assert blocks == slow_blocks(everything, block_size)
    assert num_truncated == sum(len(ids) > block_size - 2 for ids in everything)


@given(st.lists(st.lists(st.sampled_from("abc"))), st.integers(1, 3))
def test_drop_duplicates(batches, max_copies):
    copies, kept = Counter(), []
    for batch in batches:
        kept += drop_duplicates(batch, copies, max_copies)
    everything = [text for batch in batches for text in batch]
    assert kept == [text for n, text in enumerate(everything) if everything[:n].count(text) < max_copies]


def test_the_shuffle_is_uniform(tokenizer, tmp_path):
    """Each of 20 blocks comes equally often to each of 20 places, over 400 seeds.

    Chi-square of the table of 20 x 20 counts has about (20 - 1) ** 2 = 361 degrees of freedom, and a standard deviation
    of sqrt(2 * 361) = 27: five of them above is what a uniform shuffle exceeds once in a million.
    """
    size, num_seeds = 20, 400
    (tmp_path / "scratch").mkdir()
    blocks_path = tmp_path / "scratch/blocks"
    np.repeat(np.arange(size, dtype=np.uint16), 3).tofile(blocks_path)
    counts = np.zeros((size, size))
    for seed in range(num_seeds):
        dataset = save_dataset(blocks_path, (size, 3), tokenizer, 0.25, seed, tmp_path)
        assert (len(dataset["test"]), len(dataset["train"])) == (5, 15)
        order = [row[0] for split in ("test", "train") for row in dataset[split]["input_ids"]]
        assert sorted(order) == [*range(size)]
        counts[order, range(size)] += 1
    expected = num_seeds / size
    assert ((counts - expected) ** 2 / expected).sum() < 361 + 5 * 27


def test_reading_what_spreadsheets_write(tmp_path):
    messages = ["plain", "", 'a "quoted", one', "two\nlines", "NA", "null", "007", "\ufeff", "emoji 😂", "x" * 100_000]
    write_csv(tmp_path / "a.csv", messages)
    assert [text for batch in read_messages(tmp_path / "a.csv") for text in batch] == messages


def test_dataset(tmp_path):
    """Messages that name their file and number come out whole, in order, in blocks of one file each."""
    raw = tmp_path / "raw"
    raw.mkdir()
    for file in "abc":
        write_csv(
            raw / f"{file}.csv", [f"{file} {n} {'LUL ' * (n % 7)}" for n in range(700)] + ["  ", f"{file} 700\r\n!"]
        )
    write_csv(raw / "d.csv", ["d 0 " + "w" * 2000, "d 1", "d 2 <|endoftext|>[PAD]"])
    args = ["tokenize_logs.py", "--input-dir", raw, "--model", TINY, "--output-dir"]
    done = run(*args, tmp_path / "dataset", "--jobs", 2)
    assert done.stdout == ""

    dataset, blocks, masks, tokenizer = read_blocks(tmp_path / "dataset")
    assert dataset["train"].column_names == ["input_ids", "attention_mask"]
    assert blocks.shape[1] == 512
    assert dataset["train"].features["input_ids"].feature.dtype == "uint16"
    assert ((blocks != tokenizer.pad_token_id) == masks).all()
    assert len(dataset["test"]) == round(len(blocks) / 10)

    found = sorted((messages_of(block, tokenizer) for block in blocks), key=lambda m: (m[0][0], int(m[0].split()[1])))
    assert all(len({message[0] for message in block}) == 1 for block in found)  # one file a block
    assert found != [messages_of(block, tokenizer) for block in blocks]  # shuffled
    everything = [message for block in found for message in block]
    expected = [
        text for f in "abc" for text in [*(f"{f} {n} {'LUL ' * (n % 7)}".strip() for n in range(700)), f"{f} 700 !"]
    ]
    assert everything[:-3] == expected
    assert everything[-3].startswith("d 0 wwww") and len(tokenizer.encode(everything[-3])) == 510  # truncated
    assert everything[-2:] == ["d 1", "d 2 <|endoftext|>[PAD]"]

    counts = dict(line.rsplit(maxsplit=1) for line in done.stderr.splitlines())
    assert counts["files"] == "4" and counts["messages"] == "2,106" and counts["blocks"] == f"{len(blocks):,}"
    assert counts["empty messages skipped"] == "3" and counts["truncated messages"] == "1"
    assert counts["padding"] == f"{(masks == 0).mean():.2%}"
    assert counts["tokens"] == f"{masks.sum():,}"
    card = dict(re.findall(r"^\| (.+) \| (.+) \|$", (tmp_path / "dataset/README.md").read_text(), re.MULTILINE))
    assert (
        card["`test` blocks"] == f"{len(dataset['test']):,}" and card["`train` blocks"] == f"{len(dataset['train']):,}"
    )
    assert {name: card[name] for name in counts if name != "blocks"} == {
        k: v for k, v in counts.items() if k != "blocks"
    }
    assert (card["seed"], card["block size"]) == ("42", "512") and str(TINY) in card["tokenizer"]

    # It is what the usual tools take: the loss is over the text alone, and types are PyTorch's own.
    collated = DataCollatorForLanguageModeling(tokenizer, mlm=False)([dataset["train"][n] for n in range(3)])
    assert ((collated["labels"] == -100) == (collated["attention_mask"] == 0)).all()
    row = dataset["train"].with_format("torch")[0]
    assert row["input_ids"].dtype == torch.int64 and row["input_ids"].tolist() == dataset["train"][0]["input_ids"]

    dropped = run(*args, tmp_path / "few", "--drop-duplicates", 1).stderr
    assert re.search(r"duplicate messages dropped +0\n", dropped) and re.search(r"\nmessages +2,106\n", dropped)

    # The same seed gives the same bytes, with any number of threads and over an older dataset; another seed does not.
    run(*args, tmp_path / "again", "--jobs", 1)
    assert contents(tmp_path / "dataset") == contents(tmp_path / "again")
    run(*args, tmp_path / "again", "--seed", 43, "--test-size", 0.5)
    dataset, other, *_ = read_blocks(tmp_path / "again")
    assert len(dataset["test"]) == round(len(blocks) / 2)
    assert (other != blocks).any() and (np.unique(other, axis=0) == np.unique(blocks, axis=0)).all()


def test_errors(tmp_path):
    def error(*args, **kwargs):
        return error_of("tokenize_logs.py", "--input-dir", tmp_path, "--output-dir", tmp_path / "out", *args, **kwargs)

    assert "run parse_logs.py first" in error()
    write_csv(tmp_path / "a.csv", ["one", "two"])
    assert "no tokenizer for the model 'no/such-model'" in error("--model", "no/such-model")
    Tokenizer(WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>")).save(str(tmp_path / "tokenizer.json"))
    assert "has no token of its own for a line break" in error("--model", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert "--block-size 1024 is more than the 512 positions" in error("--model", TINY, "--block-size", 1024)
    assert "holds 7 tokens, and a train and a test split take a block of 512" in error("--model", TINY)
    (tmp_path / "b.csv").write_text("date,time,text\n")
    assert "b.csv has no column channel or message or username" in error("--model", TINY)
    (tmp_path / "b.csv").write_bytes(b"date,time,channel,username,message\n\xff,,,,\xff\n")
    assert "b.csv is no CSV in UTF-8" in error("--model", TINY)
    (tmp_path / "b.csv").unlink()
    assert "a.csv" in error("--model", TINY, "--output-dir", tmp_path / "a.csv" / "out")
    assert "holds other things" in error("--model", TINY, "--output-dir", tmp_path)  # and does not delete them
    assert ". holds other things" in error("--model", TINY, "--output-dir", ".", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert run("tokenize_logs.py", "--test-size", 1, check=False).returncode == 2


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again(tmp_path):
    """kill -9 leaves no half dataset, and a second run gives the bytes of an undisturbed one."""
    (tmp_path / "raw").mkdir()
    write_csv(tmp_path / "raw/a.csv", [f"{n} LUL" for n in range(100_000)])
    command = [sys.executable, ROOT / "tokenize_logs.py", "--input-dir", tmp_path / "raw", "--model", TINY]
    subprocess.run([*command, "--output-dir", tmp_path / "whole"], check=True, capture_output=True)
    whole = contents(tmp_path / "whole")
    for seconds in (1.0, 1.5, 1.8, 2.0, 2.2, 2.4):
        killed = subprocess.Popen([*command, "--output-dir", tmp_path / "out"], stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        killed.kill()
        killed.wait()
        assert not (tmp_path / "out").exists() or contents(tmp_path / "out") == whole
    subprocess.run([*command, "--output-dir", tmp_path / "out"], check=True, capture_output=True)
    assert contents(tmp_path / "out") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "whole", "out"}


def test_full_disk(tmp_path, full_disk):
    write_csv(tmp_path / "a.csv", ["LUL " * 50] * 3000)
    error = error_of("tokenize_logs.py", "--input-dir", tmp_path, "--model", TINY, "--output-dir", full_disk / "out")
    assert "No space left on device" in error
    assert list(full_disk.iterdir()) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs GPT-2's vocabulary and real logs in ../shared")
def test_gpt2(tmp_path, capsys):
    """With GPT-2's own vocabulary: all its tokens, and all the real chat, as the library has them."""
    reference = GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer")
    reference.save_pretrained(tmp_path / "gpt2")
    tokenizer = load_tokenizer(str(tmp_path / "gpt2"))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (50256, 50257, 50258)
    tokens = [text for text in map(clean, reference.batch_decode([[n] for n in range(50257)])) if text]
    encoder = load_encoder(tokenizer)
    assert "fastokens" not in capsys.readouterr().err
    assert encoder(tokens).tolist() == flat(reference, tokens)
    parse_logs(SHARED / "chat", tmp_path / "raw", jobs=2)
    for csv_path in (tmp_path / "raw").rglob("*.csv"):
        messages = [text for batch in read_messages(csv_path) for text in map(clean, batch) if text]
        assert encoder(messages).tolist() == flat(reference, messages)


def flat(tokenizer, messages):
    lines = tokenizer([message + "\n" for message in messages], split_special_tokens=True)["input_ids"]
    return [token for ids in lines for token in ids]


def test_the_tokenizer_is_the_one_of_the_model(tmp_path):
    """As the hub serves GPT-2 (no special token named), as older models come (no tokenizer.json), and as we save it."""
    own = AutoTokenizer.from_pretrained(TINY)
    own.save_pretrained(tmp_path / "hub")
    (tmp_path / "hub/tokenizer_config.json").write_text('{"model_max_length": 1024}')
    (tmp_path / "old").mkdir()
    own.backend_tokenizer.model.save(str(tmp_path / "old"))
    for folder in (tmp_path / "hub", tmp_path / "old"):
        (folder / "config.json").write_text('{"model_type": "gpt2"}')
        tokenizer = load_tokenizer(str(folder))
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (own.eos_token_id, len(own))
        assert encode(tokenizer, ["hi  chat's LUL"])[0] == own.encode("hi  chat's LUL")
        tokenizer.save_pretrained(tmp_path / "saved")
        saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
        assert (saved.eos_token_id, saved.pad_token_id, len(saved)) == (own.eos_token_id, len(own), len(own) + 1)
