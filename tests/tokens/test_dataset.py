"""chatter.tokens.dataset: datasets that are damaged, or were made by hand, are refused in one line."""

import json
import shutil

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import DatasetCard

from chatter.cli import InputError
from chatter.tokens.dataset import load_blocks, read_data_summary, write_data_report

SUMMARY = {"tokenizer of": "gpt2-medium", "block size": 512, "messages": 12345, "padding": 0.0123456}


def test_blocks_come_as_arrays_with_their_tokenizer(dataset_dir, tokenizer):
    blocks, saved = load_blocks(dataset_dir)
    assert saved.get_vocab() == tokenizer.get_vocab()
    assert blocks["train"].column_names == ["input_ids"]
    assert blocks["train"][0]["input_ids"].shape == (32,)


@pytest.fixture
def copy(dataset_dir, tmp_path):
    return shutil.copytree(dataset_dir, tmp_path / "dataset")


@pytest.mark.parametrize("lost", ["test", "tokenizer", "train/state.json", "dataset_dict.json"])
def test_a_part_that_is_missing(lost, copy):
    shutil.rmtree(copy / lost) if (copy / lost).is_dir() else (copy / lost).unlink()
    with pytest.raises(InputError, match="dataset is not a complete dataset"):
        load_blocks(copy)


@pytest.mark.parametrize(("name", "content"), [("dataset_dict.json", '{"splits": []}'), ("train/state.json", "[]")])
def test_a_part_that_is_damaged(name, content, copy):
    (copy / name).write_text(content)
    with pytest.raises(InputError, match="is not a complete dataset"):
        load_blocks(copy)


def test_a_truncated_split(copy):
    [arrow] = (copy / "train").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:-1000])
    with pytest.raises(InputError, match="is not a complete dataset"):
        load_blocks(copy)


GOOD = [[1536, 5, 6, 7], [1536, 8, 9, 1536]]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ({"input_ids": [[1, 2, 3], [1, 2]]}, "has rows of different lengths, where each should have 4 tokens"),
        ({"input_ids": [[1, 2, 3, 1537]]}, "has token ids outside the 1537 tokens of its tokenizer"),
        ({"input_ids": [[1, 2, 3, -1]]}, "has token ids outside the 1537 tokens of its tokenizer"),
        ({"input_ids": [[1.0, 2.0, 3.0, 4.0]]}, "has token ids of type float"),
        ({"input_ids": [["a", "b", "c", "d"]]}, "has token ids of type object, not integers"),
        ({"input_ids": [1, 2, 3, 4]}, "has rows of different lengths"),
        ({"input_ids": [[5, 6, 7, 8], [1535, 1536, 1536, 1536]]}, "has a row without text"),
        ({"tokens": GOOD}, "has no column input_ids"),
    ],
)
def test_a_dataset_made_by_hand(rows, fault, dataset_dir, tmp_path):
    splits = {"train": Dataset.from_dict({"input_ids": GOOD}), "test": Dataset.from_dict(rows)}
    DatasetDict(splits).save_to_disk(tmp_path / "dataset")
    shutil.copytree(dataset_dir / "tokenizer", tmp_path / "dataset/tokenizer")
    with pytest.raises(InputError) as error:
        load_blocks(tmp_path / "dataset")
    assert f"the split test of {tmp_path}/dataset {fault}" in str(error.value)
    assert "Run tokenize_logs.py to write a valid one." in str(error.value)


def test_a_good_dataset_made_by_hand(dataset_dir, tmp_path):
    split = Dataset.from_dict({"input_ids": GOOD, "more": ["a", "b"]})
    DatasetDict(train=split, test=split).save_to_disk(tmp_path / "dataset")
    shutil.copytree(dataset_dir / "tokenizer", tmp_path / "dataset/tokenizer")
    blocks, _ = load_blocks(tmp_path / "dataset")
    assert np.array_equal(blocks["test"][1]["input_ids"], GOOD[1])


def test_a_tokenizer_without_padding(copy):
    config = copy / "tokenizer/tokenizer_config.json"
    config.write_text(
        json.dumps({key: value for key, value in json.loads(config.read_text()).items() if key != "pad_token"})
    )
    with pytest.raises(InputError, match="lacks a token for padding, beginning or end"):
        load_blocks(copy)


@pytest.fixture
def described(tmp_path):
    """A folder with the report of a dataset."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    write_data_report(folder, SUMMARY)
    return folder


def test_the_summary_of_a_dataset_is_json(described):
    assert json.loads((described / "summary.json").read_text()) == SUMMARY


def test_the_data_card_has_metadata(described):
    data = DatasetCard.load(described / "README.md").data
    assert (data.pretty_name, data.task_categories) == ("Blocks of chat", ["text-generation"])
    assert data.tags == ["twitch", "chat"]


def test_the_data_card_shows_the_summary(described):
    text = DatasetCard.load(described / "README.md").text
    assert text.strip().startswith("# Blocks of chat\n")
    assert "| messages | 12,345 |\n" in text and "| padding | 0.01235 |\n" in text


@pytest.mark.parametrize("content", ["{", "[1, 2]", "\udcff"])
def test_a_damaged_summary_is_refused(content, described):
    (described / "summary.json").write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=r"summary\.json is damaged"):
        read_data_summary(described)


def test_a_dataset_may_have_no_summary(tmp_path):
    assert read_data_summary(tmp_path) == {}
