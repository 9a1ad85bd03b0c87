"""chatter.tokens.splits: tokenize_logs.py --test-last tests on the newest blocks of each channel."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import TINY, contents, error_of, run
from datasets import DatasetDict
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from chatter.cli import InputError
from chatter.tokens.splits import ORIGIN, count_test_blocks, find_newest, read_moments, read_origins, split_blocks
from tokenize_logs import tokenize_logs

OPTIONS = ["--model", TINY, "--block-size", 16, "--test-last"]


def make_origins(*pairs):
    return np.array([(channel, moment) for channel, moment in pairs], ORIGIN)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-03-07 21:05:09", "2024-03-07T21:05:09"),
        (" 2024-03-07T21:05:09.123Z", "2024-03-07T21:05:09"),
        ("2024-03-07", "2024-03-07"),
        ("2024-03-07 1:05 PM", "2024-03-07"),
        ("21:05:09", "NaT"),
        ("07.03.2024 21:05:09", "NaT"),
        ("", "NaT"),
    ],
)
def test_the_moment_of_a_row(text, moment):
    assert str(read_moments(pa.array([text]))[0]) == str(np.datetime64(moment, "s"))


def test_the_channels_of_rows():
    columns = {"message": pa.array(list("abcde")), "channel": pa.array(["One", "#one", "", None, "two"])}
    channels = read_origins(columns)["channel"]
    assert channels[0] == channels[1] != channels[4] and [*channels[2:4]] == [0, 0]


def test_columns_that_are_missing():
    assert read_origins({"message": pa.array(["a"])}).tolist() == [(0, None)]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9))), st.floats(0.01, 0.99))
def test_the_newest_of_each_channel(pairs, test_size):
    origins = make_origins(*pairs)
    channels = origins["channel"]
    if all((channels == channel).sum() < 2 for channel in (1, 2, 3)):
        with pytest.raises(InputError, match="no channel has two blocks"):
            find_newest(origins, test_size)
        return
    is_newest = find_newest(origins, test_size)
    for channel in np.unique(channels):
        moments, newest = (values[channels == channel] for values in (origins["moment"], is_newest))
        assert newest.sum() == count_test_blocks(len(moments), test_size) < len(moments)
        assert not newest.any() or moments[newest].min() >= moments[~newest].max()


def test_blocks_of_the_same_time_stay_in_order_and_those_without_one_are_for_training():
    origins = make_origins((1, 5), (1, "NaT"), (1, 5), (1, 5), (1, "NaT"))
    assert [*np.flatnonzero(find_newest(origins, 0.4))] == [2, 3]


def test_the_training_blocks_are_shuffled():
    origins = make_origins(*((1, n) for n in range(100)))
    splits = split_blocks(100, 0.1, 0, origins)
    assert sorted(splits["test"]) == [*range(90, 100)] and sorted(splits["train"]) == [*range(90)]
    assert [*splits["train"]] != sorted(splits["train"])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path


def write_rows(path, rows):
    """Write a CSV of parse_logs.py with (date, time, channel, message)."""
    lines = [f"{date},{time},{channel},u,{message}\n" for date, time, channel, message in rows]
    path.write_text("date,time,channel,username,message\n" + "".join(lines))


def tokenize(folder, **options):
    """Return the lines of the blocks of each split, one list each, the summary, and the dataset's folder."""
    output = folder / "out"
    tokenize_logs(folder / "raw", output, str(TINY), **{"block_size": 16, "test_last": True} | options)
    tokenizer = AutoTokenizer.from_pretrained(output / "tokenizer")
    splits = {
        name: [tokenizer.decode(row[1:], skip_special_tokens=True).split("\n")[:-1] for row in split["input_ids"]]
        for name, split in DatasetDict.load_from_disk(output).items()
    }
    return splits, json.loads((output / "summary.json").read_text()), output


def numbers(blocks, word):
    return sorted(int(line.split()[1]) for block in blocks for line in block if line.startswith(word))


def test_the_order_is_by_date_and_not_by_name(folder):
    """justlog's days are not padded: 10 comes before 9 by name."""
    for day in (9, 10):
        rows = [(f"2024-03-{day:02}", f"00:{n:02}:00", "red", f"red {day * 100 + n}") for n in range(40)]
        write_rows(folder / f"raw/red-2024-3-{day}.csv", rows)
    rows = [("2024-01-01", f"00:{n:02}:00", "blue", f"blue {n}") for n in range(40)]
    write_rows(folder / "raw/blue.csv", rows)
    splits, summary, output = tokenize(folder)
    red, blue = (numbers(splits["test"], word) for word in ("red", "blue"))
    assert red == [*range(1040 - len(red), 1040)] and blue == [*range(40 - len(blue), 40)]
    assert numbers(splits["train"], "red") == [*range(900, 940), *range(1000, 1040 - len(red))]
    assert summary["test split"] == "the newest blocks of each channel"
    assert (summary["blocks without a channel"], summary["blocks without a date"]) == (0, 0)
    assert "| test split | the newest blocks of each channel |" in (output / "README.md").read_text()


def test_each_channel_of_one_file(folder):
    """The second channel ends before the first begins, and the file has an empty message."""
    rows = [(f"2024-03-{1 + n // 30:02}", "", "red", f"red {n}") for n in range(90)]
    rows += [("2024-01-01", "", "blue", " "), *(("2024-01-01", "", "blue", f"blue {n}") for n in range(90))]
    write_rows(folder / "raw/all.csv", rows)
    for with_channel in (False, True):
        splits, summary, _ = tokenize(folder, with_channel=with_channel)
        for word in ("red", "blue"):
            tested = numbers(splits["test"], word)
            assert tested == [*range(90 - len(tested), 90)] and 0 < len(tested) < 30
        assert summary["channels"] == ["red", "blue"] if with_channel else "channels" not in summary


def test_the_blocks_are_the_same_as_without_the_option_for_any_number_of_jobs(folder):
    rows = [("2024-03-07", f"0{n % 7}:00:00", "red", f"red {n} {'LUL ' * (n % 3)}") for n in range(300)]
    write_rows(folder / "raw/red.csv", rows)
    newest, _, output = tokenize(folder)
    first = contents(output)
    run("tokenize_logs.py", "--input-dir", folder / "raw", "--output-dir", output, *OPTIONS, "--jobs", 2)
    assert {name: data for name, data in contents(output).items() if first[name] != data} == {}
    random, *_ = tokenize(folder, test_last=False)
    assert random["test"] != newest["test"]
    assert sorted(random["train"] + random["test"]) == sorted(newest["train"] + newest["test"])


def test_what_is_unknown_is_counted(folder):
    (folder / "raw/a.csv").write_text("message\n" + "hello chat\n" * 50)
    _, summary, _ = tokenize(folder)
    blocks = summary["train blocks"] + summary["test blocks"]
    assert (summary["blocks without a channel"], summary["blocks without a date"]) == (blocks, blocks)


def test_the_streams_of_a_parquet_file(folder):
    """Lists of a stream a row; the first row has the newer stream."""
    table = {
        "channel": ["red", "red"],
        "date": ["2024-03-08", "2024-03-07"],
        "message": [[f"red {day * 100 + n}" for n in range(40)] for day in (8, 7)],
    }
    pyarrow.parquet.write_table(pa.table(table), folder / "raw/streams.parquet")
    tested = numbers(tokenize(folder)[0]["test"], "red")
    assert tested == [*range(840 - len(tested), 840)]


def test_no_channel_has_two_blocks(folder):
    for channel in ("red", "blue"):
        write_rows(folder / f"raw/{channel}.csv", [("2024-03-07", "", channel, "hi")])
    error = error_of("tokenize_logs.py", "--input-dir", folder / "raw", "--output-dir", folder / "out", *OPTIONS)
    assert "no channel has two blocks, one to train on and a newer one for the test split. Leave out" in error
    assert not (folder / "out").exists()
