"""tokenize_logs.py: blocks hold every message whole and in order, as the model's own tokenizer has it."""

import json
import re
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import ROOT, TINY, contents, error_of, run, write_csv
from datasets import DatasetDict
from huggingface_hub import DatasetCard
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

from chatter.cli import InputError
from chatter.tokens.dataset import save_dataset
from chatter.tokens.duplicates import drop_duplicates
from chatter.tokens.packing import block_dtype
from chatter.tokens.splits import split_blocks
from chatter.tokens.tables import read_columns
from tokenize_logs import tokenize_logs


def read_blocks(dataset_dir):
    """The blocks and masks of a dataset, (num_blocks, block_size) each, train before test."""
    dataset = DatasetDict.load_from_disk(dataset_dir)
    return [
        np.array([*dataset["train"][column], *dataset["test"][column]]) for column in ("input_ids", "attention_mask")
    ]


def messages_of(block, tokenizer):
    """Take a block apart: check its frame and give the texts of its messages."""
    [newline] = tokenizer.encode("\n")
    length = int((block != tokenizer.pad_token_id).sum())
    assert block[0] == tokenizer.eos_token_id and block[length - 1] == newline
    assert (block[length:] == tokenizer.pad_token_id).all()  # padding stands at the end alone
    assert not (block[1:] == tokenizer.eos_token_id).any()
    return tokenizer.decode(block[1 : length - 1]).split("\n")


@given(st.lists(st.lists(st.sampled_from("abc"))), st.integers(1, 3))
def test_drop_duplicates(batches, max_duplicates):
    seen, kept = Counter(), []
    for batch in batches:
        columns = {"message": pa.array(batch, pa.string())}
        kept += drop_duplicates(columns, seen, max_duplicates)["message"].to_pylist()
    everything = [text for batch in batches for text in batch]
    assert kept == [text for n, text in enumerate(everything) if everything[:n].count(text) < max_duplicates]


def test_the_smallest_type_that_fits_the_vocabulary(tokenizer):
    assert block_dtype(tokenizer) == np.uint16
    assert block_dtype(range(1 << 16)) == np.uint16  # what counts is its length
    assert block_dtype(range((1 << 16) + 1)) == np.int32


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
        splits = split_blocks(size, 0.25, seed)
        assert (len(splits["test"]), len(splits["train"])) == (5, 15)
        order = [*splits["test"], *splits["train"]]
        assert sorted(order) == [*range(size)]
        counts[order, range(size)] += 1
    expected = num_seeds / size
    assert ((counts - expected) ** 2 / expected).sum() < 361 + 5 * 27
    dataset = save_dataset(blocks_path, splits, 3, tokenizer, tmp_path)
    assert [row[0] for split in ("test", "train") for row in dataset[split]["input_ids"]] == order


@pytest.mark.parametrize(("test_size", "num_test"), [(0.001, 1), (0.25, 5), (0.999, 19)])
def test_each_split_has_at_least_one_block(test_size, num_test, tokenizer, tmp_path):
    (tmp_path / "scratch").mkdir()
    np.arange(60, dtype=np.uint16).tofile(tmp_path / "scratch/blocks")
    dataset = save_dataset(
        tmp_path / "scratch/blocks", split_blocks(20, test_size, 0), 3, tokenizer, tmp_path / "dataset"
    )
    assert (len(dataset["train"]), len(dataset["test"])) == (20 - num_test, num_test)


def test_a_large_csv_is_read_in_batches(tmp_path):
    messages = ["a message of a hundred letters".ljust(100, "!")] * 100_000
    write_csv(tmp_path / "a.csv", messages)
    batches = [columns["message"].to_pylist() for columns in read_columns(tmp_path / "a.csv")]
    assert len(batches) > 2 and [text for batch in batches for text in batch] == messages


# Messages that name their file and number, and ones that need care.
CHAT = {file: [f"{file} {n} {'LUL ' * (n % 7)}" for n in range(700)] + ["  ", f"{file} 700\r\n!"] for file in "abc"} | {
    "d": ["d 0 " + "w" * 2000, "d 1", "d 2 <|endoftext|>[PAD]"]
}
EXPECTED = [
    text for f in "abc" for text in [*(f"{f} {n} {'LUL ' * (n % 7)}".strip() for n in range(700)), f"{f} 700 !"]
]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command for the chat as four CSVs, up to --output-dir."""
    folder = tmp_path_factory.mktemp("chat")
    for file, messages in CHAT.items():
        write_csv(folder / f"{file}.csv", messages)
    return ["tokenize_logs.py", "--input-dir", folder, "--model", TINY, "--output-dir"]


@pytest.fixture(scope="module")
def made(command, tmp_path_factory):
    """The dataset that the command makes, and what it says on stderr."""
    dataset_dir = tmp_path_factory.mktemp("dataset") / "dataset"
    done = run(*command, dataset_dir, "--jobs", 2)
    assert done.stdout == ""
    return dataset_dir, done.stderr


@pytest.fixture(scope="module")
def saved_tokenizer(made):
    return AutoTokenizer.from_pretrained(made[0] / "tokenizer")


@pytest.fixture(scope="module")
def found(made, saved_tokenizer):
    """The messages of each block, sorted by the first one's file and number."""
    blocks = [messages_of(block, saved_tokenizer) for block in read_blocks(made[0])[0]]
    return sorted(blocks, key=lambda messages: (messages[0][0], int(messages[0].split()[1])))


def test_the_columns_of_the_dataset(made, saved_tokenizer):
    dataset = DatasetDict.load_from_disk(made[0])
    assert dataset["train"].column_names == ["input_ids", "attention_mask"]
    assert [feature.feature.dtype for feature in dataset["train"].features.values()] == ["uint16", "int8"]
    blocks, masks = read_blocks(made[0])
    assert blocks.shape[1] == 512
    assert ((blocks != saved_tokenizer.pad_token_id) == masks).all()


def test_a_tenth_of_the_blocks_is_for_testing(made):
    dataset = DatasetDict.load_from_disk(made[0])
    assert len(dataset["test"]) == round((len(dataset["train"]) + len(dataset["test"])) / 10)


def test_messages_are_whole_and_in_order(found):
    everything = [message for block in found for message in block]
    assert everything[:-3] == EXPECTED
    assert everything[-2:] == ["d 1", "d 2 <|endoftext|>[PAD]"]


def test_a_block_is_of_one_file(found):
    assert all(len({message[0] for message in block}) == 1 for block in found)


def test_blocks_are_shuffled(found, made, saved_tokenizer):
    assert found != [messages_of(block, saved_tokenizer) for block in read_blocks(made[0])[0]]


def test_a_message_that_is_longer_than_a_block_is_cut(found, saved_tokenizer):
    long = next(message for block in found for message in block if message.startswith("d 0 wwww"))
    assert len(saved_tokenizer.encode(long)) == 510


def test_the_counts_on_stderr(made):
    blocks, masks = read_blocks(made[0])
    counts = dict(line.rsplit(maxsplit=1) for line in made[1].splitlines())
    assert counts == {
        "files": "4",
        "messages": "2,106",
        "empty messages skipped": "3",
        "truncated messages": "1",
        "blocks": f"{len(blocks):,}",
        "tokens": f"{masks.sum():,}",
        "padding": f"{(masks == 0).mean():.2%}",
    }


def test_the_summary_has_what_was_done_and_counted(made):
    blocks, masks = read_blocks(made[0])
    dataset = DatasetDict.load_from_disk(made[0])
    tokenizer, test = AutoTokenizer.from_pretrained(made[0] / "tokenizer"), map(np.array, dataset["test"]["input_ids"])
    summary = json.loads((made[0] / "summary.json").read_text())
    assert "datasets " in summary.pop("versions")
    assert summary.pop("padding") == pytest.approx((masks == 0).mean())
    assert summary == {
        "tokenizer of": str(TINY),
        "block size": 512,
        "test size": 0.1,
        "test split": "random blocks",
        "seed": 42,
        "train blocks": len(dataset["train"]),
        "test blocks": len(dataset["test"]),
        "test bytes": sum(len(f"{text}\n".encode()) for row in test for text in messages_of(row, tokenizer)),
        "files": 4,
        "messages": 2106,
        "empty messages skipped": 3,
        "truncated messages": 1,
        "blocks": len(blocks),
        "tokens": masks.sum(),
    }


def test_the_data_card_shows_the_summary(made):
    card = DatasetCard.load(made[0] / "README.md")
    assert card.data.task_categories == ["text-generation"] and "twitch" in card.data.tags
    rows = dict(re.findall(r"^\| (.+) \| (.+) \|$", card.text, re.MULTILINE))
    summary = json.loads((made[0] / "summary.json").read_text())
    assert rows.keys() == summary.keys()
    assert (rows["messages"], rows["seed"], rows["tokenizer of"]) == ("2,106", "42", str(TINY))


def test_the_dataset_is_what_the_usual_tools_take(made, saved_tokenizer):
    """The loss is over the text alone, and types are PyTorch's own."""
    train = DatasetDict.load_from_disk(made[0])["train"]
    collated = DataCollatorForLanguageModeling(saved_tokenizer, mlm=False)([train[n] for n in range(3)])
    assert ((collated["labels"] == -100) == (collated["attention_mask"] == 0)).all()
    row = train.with_format("torch")[0]
    assert row["input_ids"].dtype == torch.int64 and row["input_ids"].tolist() == train[0]["input_ids"]


def test_duplicates_are_dropped_if_asked(tmp_path):
    """In each file on its own, and after cleaning."""
    for file in "ab":
        write_csv(tmp_path / f"{file}.csv", ["hi", "LUL " * 20, " hi", "hi\n", "", "LUL " * 20])
    options = ["--model", TINY, "--block-size", 16, "--drop-duplicates", 2]
    done = run("tokenize_logs.py", "--input-dir", tmp_path, "--output-dir", tmp_path / "out", *options)
    assert re.search(r"^duplicate messages dropped +2$", done.stderr, re.MULTILINE)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["messages"], summary["duplicate messages dropped"]) == (8, 2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out/tokenizer")
    texts = [text for block in read_blocks(tmp_path / "out")[0] for text in messages_of(block, tokenizer)]
    assert texts.count("hi") == 4


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(made, command, tmp_path):
    run(*command, tmp_path / "again", "--jobs", 1)
    assert contents(tmp_path / "again") == contents(made[0])


def test_another_seed_over_an_older_dataset(made, command, tmp_path):
    """It is replaced: the same blocks in another order."""
    folder = tmp_path / "dataset"
    subprocess.run(["cp", "-r", made[0], folder], check=True)
    run(*command, folder, "--seed", 43, "--test-size", 0.5)
    (blocks, _), (others, _) = read_blocks(made[0]), read_blocks(folder)
    assert len(DatasetDict.load_from_disk(folder)["test"]) == round(len(blocks) / 2)
    assert (others != blocks).any() and (np.unique(others, axis=0) == np.unique(blocks, axis=0)).all()


def test_a_sample_of_the_blocks(made, command, tmp_path):
    """The same ones with any number of processes; each is one of the blocks of the whole dataset."""
    tokenize_logs(command[2], tmp_path / "1", str(TINY), max_tokens=512 * 20 + 511)
    done = run(*command, tmp_path / "2", "--max-tokens", 512 * 20 + 511, "--jobs", 2)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    dataset, blocks = DatasetDict.load_from_disk(tmp_path / "1"), read_blocks(made[0])[0]
    assert (len(dataset["train"]), len(dataset["test"])) == (18, 2)
    sample = {*map(tuple, read_blocks(tmp_path / "1")[0])}
    assert len(sample) == 20 and sample < {*map(tuple, blocks)}
    assert re.search(rf"^blocks left out +{len(blocks) - 20}$", done.stderr, re.MULTILINE)
    assert json.loads((tmp_path / "1/summary.json").read_text())["blocks left out"] == len(blocks) - 20


@pytest.mark.parametrize(("max_tokens", "num_blocks"), [(1, 2), (16 * 3 - 1, 2), (16 * 3, 3), (10**9, 10)])
def test_the_size_of_a_sample(max_tokens, num_blocks, tmp_path):
    """Each split keeps one block, and more tokens than there are is all of them."""
    write_csv(tmp_path / "a.csv", ["LUL"] * 70)  # two tokens each, seven in a block
    counts = tokenize_logs(tmp_path, tmp_path / "out", str(TINY), block_size=16, max_tokens=max_tokens)
    assert (counts["blocks"], counts["blocks left out"]) == (10, 10 - num_blocks)
    assert len(read_blocks(tmp_path / "out")[0]) == num_blocks


@pytest.fixture
def error(tmp_path):
    """Run the command on a folder `raw` with two messages; return its one line of error."""
    (tmp_path / "raw").mkdir()
    write_csv(tmp_path / "raw/a.csv", ["one", "two"])

    def run_and_fail(*args, **kwargs):
        folders = ["--input-dir", tmp_path / "raw", "--output-dir", tmp_path / "out"]
        error = error_of("tokenize_logs.py", *folders, "--model", TINY, *args, **kwargs)
        assert {path.name for path in tmp_path.iterdir()} <= {"raw", "model"}  # nothing is left
        return error

    return run_and_fail


def test_no_csv(error, tmp_path):
    (tmp_path / "raw/a.csv").unlink()
    assert f"no .csv file in {tmp_path}/raw. Run parse_logs.py first, or pass another folder with" in error()
    (tmp_path / "raw").rmdir()
    assert f"{tmp_path}/raw is not a folder. Run parse_logs.py first, or pass" in error("--verbose")


def test_no_tokenizer(error):
    assert "no model no/such-model: there is no folder of this name" in error("--model", "no/such-model")


def test_a_tokenizer_without_a_line_break(error, tmp_path):
    (tmp_path / "model").mkdir()
    words = Tokenizer(WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    words.save(str(tmp_path / "model/tokenizer.json"))
    assert "has no separate token for a line break. Use another model." in error("--model", tmp_path / "model")


def test_a_block_size_that_is_too_large(error):
    assert f"--block-size 1024 is more than the 512 positions of {TINY}." in error("--block-size", 1024)


def test_too_few_messages(error):
    message = error()
    assert "raw contains 7 tokens, too few for a train and a test split of at least one block of 512 each" in message
    assert "Add logs with 506 more tokens" in message


def test_the_tokens_that_are_missing_are_enough(tmp_path):
    """A message "LUL" has one token, and a newline."""
    write_csv(tmp_path / "a.csv", ["LUL"])
    with pytest.raises(InputError) as error:
        tokenize_logs(tmp_path, tmp_path / "out", str(TINY), block_size=16)
    missing = int(re.search(r"with (\d+) more tokens", str(error.value))[1])
    assert missing % 2 == 0
    for enough in (False, True):
        write_csv(tmp_path / "a.csv", ["LUL"] * (missing // 2 + enough))
        if enough:
            assert tokenize_logs(tmp_path, tmp_path / "out", str(TINY), block_size=16)["blocks"] == 2
        else:
            with pytest.raises(InputError, match="with 2 more tokens"):
                tokenize_logs(tmp_path, tmp_path / "out", str(TINY), block_size=16)


def test_a_csv_without_the_columns(error, tmp_path):
    (tmp_path / "raw/b.csv").write_text("date,time,text\n")
    assert "b.csv has no column message. Rename one of date, time, text in its first line, or move" in error()


def test_a_csv_that_begins_with_a_blank_line(error, tmp_path):
    (tmp_path / "raw/b.csv").write_text("\nmessage\nhi\n")
    assert "b.csv begins with a blank line. Delete the line, or move the file away." in error()


def test_a_csv_that_is_not_utf_8(error, tmp_path):
    (tmp_path / "raw/b.csv").write_bytes(b"date,time,channel,username,message\n\xff,,,,\xff\n")
    assert "b.csv is not in UTF-8. Save it as a CSV in UTF-8." in error()


def test_an_output_dir_that_cannot_be_made(error, tmp_path):
    assert "a.csv" in error("--output-dir", tmp_path / "raw/a.csv/out")


def test_others_files_are_not_deleted(error, tmp_path):
    said = error("--output-dir", tmp_path / "raw")
    assert "raw contains other files that would be deleted, such as a.csv. Move them away, or choose another" in said
    assert "raw contains the working directory. Choose another" in error("--output-dir", ".", cwd=tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--test-size", "1"], "argument --test-size: must be less than 1"),
        (["--block-size", "2"], "argument --block-size: must be at least 3"),
        (["--drop-duplicates", "0"], "argument --drop-duplicates: must be at least 1"),
    ],
    ids=" ".join,
)
def test_wrong_usage(options, error):
    done = run("tokenize_logs.py", *options, check=False)
    assert done.returncode == 2 and done.stderr.endswith(f"tokenize_logs.py: error: {error}\n")


@pytest.mark.thorough
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
    assert not any(full_disk.iterdir())


def test_an_output_that_is_a_link_is_replaced_behind_it(command, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "disk/real")
    for seed in (1, 2):
        run(*command, tmp_path / "out", "--seed", seed)
    assert (tmp_path / "out").is_symlink() and [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]
    assert json.loads((tmp_path / "disk/real/summary.json").read_text())["seed"] == 2


def test_an_empty_csv_is_nothing_and_a_folder_may_be_called_csv(tmp_path):
    (tmp_path / "raw/x.csv").mkdir(parents=True)
    write_csv(tmp_path / "raw/x.csv/a.csv", ["hello chat"] * 100)
    (tmp_path / "raw/empty.csv").touch()
    args = ["--input-dir", tmp_path / "raw", "--output-dir", tmp_path / "out", "--model", TINY, "--block-size", 64]
    done = run("tokenize_logs.py", *args, "--verbose")
    assert re.search("^messages +100$", done.stderr, re.MULTILINE)
    for what in ("empty messages skipped", "truncated messages"):  # also if there were none
        assert re.search(f"^{what} +0$", done.stderr, re.MULTILINE)
    assert re.search(
        r"^.*/raw/x\.csv/a\.csv: [0-9,]+ bytes, modified \d{4}-\d\d-\d\d \d\d:\d\d$", done.stderr, re.MULTILINE
    )
    assert "bytes, modified" not in run("tokenize_logs.py", *args).stderr
