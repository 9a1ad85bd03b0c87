"""tokenize_logs.py: blocks hold every message whole and in order, as the model's own tokenizer has it."""

import csv

import numpy as np
import pytest
from conftest import ROOT, SHARED, error_of, run
from datasets import DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, GPT2TokenizerFast

from tokenize_logs import clean, encode, load_tokenizer, pack, read_messages

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


@given(st.text())
def test_clean(message):
    cleaned = clean(message)
    assert cleaned == cleaned.strip() and "\n" not in cleaned and "\r" not in cleaned
    assert cleaned.split() == message.split()


def slow_pack(encoded, block_size, start, newline, pad):
    """The obvious way: a list of messages a block, then padding."""
    blocks = []
    for ids in encoded:
        line = [*ids[: block_size - 2], newline]
        if not blocks or len(blocks[-1]) + len(line) > block_size:
            blocks.append([start])
        blocks[-1] = blocks[-1] + line
    return [block + [pad] * (block_size - len(block)) for block in blocks]


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12)), st.integers(3, 16))
def test_pack(encoded, block_size):
    expected = slow_pack(encoded, block_size, 90, 91, 92)
    assert list(pack(iter(encoded), block_size, 90, 91, 92)) == expected


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

    # The same seed gives the same bytes, with any number of threads and over an older dataset; another seed does not.
    run(*args, tmp_path / "again", "--jobs", 1)
    first = {p.name + str(p.parent.name): p.read_bytes() for p in (tmp_path / "dataset").rglob("*.arrow")}
    assert first == {p.name + str(p.parent.name): p.read_bytes() for p in (tmp_path / "again").rglob("*.arrow")}
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
    assert "--block-size 1024 is more than the 512 positions" in error("--model", TINY, "--block-size", 1024)
    assert "makes 1 blocks" in error("--model", TINY)
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


def test_full_disk(tmp_path, full_disk):
    write_csv(tmp_path / "a.csv", ["LUL " * 50] * 3000)
    error = error_of("tokenize_logs.py", "--input-dir", tmp_path, "--model", TINY, "--output-dir", full_disk / "out")
    assert "No space left on device" in error
    assert list(full_disk.iterdir()) == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs GPT-2's vocabulary and real logs in ../shared")
def test_gpt2(tmp_path):
    """With GPT-2's own vocabulary: 50,258 tokens, and real chat tokenized as the library does it."""
    from parse_logs import parse_file

    reference = GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer")
    reference.save_pretrained(tmp_path / "gpt2")
    tokenizer = load_tokenizer(str(tmp_path / "gpt2"))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (50256, 50257, 50258)
    for log in ["justlog/handongsuk-2021-06-16.txt", "justlog/xqcow-2019-09-15.txt"]:
        parse_file(SHARED / "chat" / log, tmp_path / "chat.csv")
        messages = [clean(text) for batch in read_messages(tmp_path / "chat.csv") for text in batch]
        expected = reference([message + "\n" for message in messages], split_special_tokens=True)["input_ids"]
        assert [[*ids, 198] for ids in encode(tokenizer, messages)] == expected
