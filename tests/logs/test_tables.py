"""chatter.logs.tables: CSVs as spreadsheets and other programs write them."""

import csv
import os

import pytest
from conftest import write_csv

from chatter.cli import InputError
from chatter.logs.folders import find_tables, is_ours
from chatter.logs.tables import read_chats


def messages_in(path):
    return [text for _, batch in read_chats(path) for text in batch]


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


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", "date,time,channel,username,message\n"])
def test_an_empty_table_is_nothing(content, tmp_path):
    (tmp_path / "a.csv").write_text(content)
    assert messages_in(tmp_path / "a.csv") == []


def test_a_table_without_messages_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("date,time,text\n1,2,3\n")
    with pytest.raises(
        InputError, match=r"a\.csv has no column message\. Rename one of date, time, text in its first line"
    ):
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
    with pytest.raises(InputError, match=r"a\.csv is not in UTF-8\. Save it as a CSV in UTF-8"):
        messages_in(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("user,message\nann,hi\nbob\n")
    with pytest.raises(InputError, match=r"a\.csv is not a valid CSV: line 3 has 1 values instead of 2"):
        messages_in(tmp_path / "a.csv")


def test_tables_are_found_in_folders_whatever_these_are_called(tmp_path):
    (tmp_path / "x.csv/deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in ("b.csv", "x.csv/deep/a.csv", ".hidden/c.csv", ".d.csv", "notes.txt", "UP.CSV"):
        (tmp_path / name).touch()
    os.symlink(tmp_path / "b.csv", tmp_path / "link.csv")
    os.symlink(tmp_path / "x.csv/deep", tmp_path / "c")
    os.symlink(tmp_path, tmp_path / "loop")
    names = ("UP.CSV", "b.csv", "c/a.csv", "link.csv")  # the folder behind a link is read once
    assert find_tables(tmp_path) == [tmp_path / name for name in names]


def test_ours_have_our_header(tmp_path):
    write_csv(tmp_path / "a.csv", ["hi"])
    (tmp_path / "b.csv").write_text("date,time,channel,username,message\n")
    (tmp_path / "c.csv").write_text("name,age\n")
    (tmp_path / "d.csv").write_text("")
    assert [is_ours(tmp_path / f"{name}.csv") for name in "abcd"] == [False, True, False, False]


@pytest.mark.parametrize("header", ["User,Message", "user, message", '"a;b;c",message', " MESSAGE ;x"])
def test_the_column_is_found_by_its_name(header, tmp_path):
    (tmp_path / "a.csv").write_text(f"{header}\n" + ("hi;1\n" if header.endswith("x") else "1,hi\n"))
    assert messages_in(tmp_path / "a.csv") == ["hi"]


def test_messages_of_several_lines_are_no_unclosed_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('username,message\nu,"hi\nhello, all\nbye"\n')
    assert messages_in(tmp_path / "a.csv") == ["hi\nhello, all\nbye"]
    (tmp_path / "a.csv").write_text('date,time,channel,username,message\n1,2,c,u,"hi\na, b, c, d, e\nbye"\n')
    assert messages_in(tmp_path / "a.csv") == ["hi\na, b, c, d, e\nbye"]


def test_an_unclosed_quote_in_a_table_of_somebody_else(tmp_path):
    """Other values show that it quotes."""
    rows = [f'u,"hello, ""chat"" {n}"' if n % 2 else f"u,hello chat {n}" for n in range(100)]
    rows[20] = 'u,"oops'
    rows[21:80] = [f"u,hello {n}" for n in range(21, 80)]
    (tmp_path / "a.csv").write_text("username,message\n" + "\n".join(rows) + '\nu,"closed\n')
    with pytest.raises(InputError, match=r"a\.csv:22 has a quote"):
        messages_in(tmp_path / "a.csv")


def test_a_name_that_is_not_in_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    write_csv(path, ["hi"])
    assert messages_in(path) == ["hi"]
