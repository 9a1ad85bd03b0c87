"""chatter/tables.py: CSVs as spreadsheets and other programs write them."""

import csv
import os

import pytest
from conftest import write_csv

from chatter.command import InputError
from chatter.tables import find_tables, is_ours, read_messages


def messages_in(path):
    return [text for batch in read_messages(path) for text in batch]


def test_whatever_is_typed_comes_back(tmp_path):
    messages = ["plain", "", 'a "quoted", one', "two\nlines", "NA", "null", "007", "\ufeff", "emoji 😂", "x" * 100_000]
    write_csv(tmp_path / "a.csv", messages)
    assert messages_in(tmp_path / "a.csv") == messages


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_delimiters_and_line_ends(encoding, delimiter, line_end, tmp_path):
    with (tmp_path / "a.csv").open("w", encoding=encoding, newline="") as file:
        rows = csv.writer(file, delimiter=delimiter, lineterminator=line_end)
        rows.writerows([["user", "message"], ["ann", "hi; there,\tñ"], ["bob", 'she said "no"']])
    assert messages_in(tmp_path / "a.csv") == ["hi; there,\tñ", 'she said "no"']


@pytest.mark.parametrize("content", ["", "\n", "date,time,channel,username,message\n"])
def test_an_empty_table_is_nothing(content, tmp_path):
    (tmp_path / "a.csv").write_text(content)
    assert messages_in(tmp_path / "a.csv") == []


def test_a_table_without_messages_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("date,time,text\n1,2,3\n")
    with pytest.raises(InputError, match=r"a\.csv has no column message"):
        messages_in(tmp_path / "a.csv")


@pytest.mark.parametrize("closed_later", [True, False])
def test_a_quote_that_is_not_closed_is_named_with_its_line(closed_later, tmp_path):
    rows = [f"2024-03-07,21:05:{n % 60:02},c,u,message {n}" for n in range(200)]
    rows[49] = '2024-03-07,21:05:49,c,u,"he said'
    rows[150] += '"' * closed_later
    (tmp_path / "a.csv").write_text("date,time,channel,username,message\n" + "\n".join(rows) + "\n")
    with pytest.raises(InputError, match=r'a\.csv:51 has a quote \("\) that is not closed'):
        messages_in(tmp_path / "a.csv")


def test_what_is_no_csv_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"date,time,channel,username,message\n\xff,,,,\xff\n")
    with pytest.raises(InputError, match=r"a\.csv is not a valid CSV"):
        messages_in(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("user,message\nann,hi\nbob\n")
    with pytest.raises(InputError, match=r"a\.csv is not a valid CSV: Row #3: Expected 2 columns"):
        messages_in(tmp_path / "a.csv")


def test_tables_are_found_in_folders_whatever_these_are_called(tmp_path):
    (tmp_path / "x.csv/deep").mkdir(parents=True)
    (tmp_path / ".partial").mkdir()
    for name in ("b.csv", "x.csv/deep/a.csv", ".partial/c.csv", ".d.csv", "notes.txt"):
        (tmp_path / name).touch()
    os.symlink(tmp_path / "b.csv", tmp_path / "link.csv")
    assert find_tables(tmp_path) == [tmp_path / name for name in ("b.csv", "link.csv", "x.csv/deep/a.csv")]


def test_ours_have_our_header(tmp_path):
    write_csv(tmp_path / "a.csv", ["hi"])
    (tmp_path / "b.csv").write_text("date,time,channel,username,message\n")
    (tmp_path / "c.csv").write_text("name,age\n")
    (tmp_path / "d.csv").write_text("")
    assert [is_ours(tmp_path / f"{name}.csv") for name in "abcd"] == [False, True, False, True]
