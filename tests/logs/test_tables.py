"""chatter.logs.tables and chatter.tokens.tables: CSVs as spreadsheets and other programs write them."""

import csv
import os
import tempfile
from pathlib import Path

import pytest
from conftest import parse, typed, write_csv
from hypothesis import assume, given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.logs.find_reader import find_reader
from chatter.logs.folders import find_tables, is_ours
from chatter.logs.table_syntax import read_table_head
from chatter.tokens.tables import read_columns


def messages_in(path):
    return [text for columns in read_columns(path) for text in columns["message"].to_pylist()]


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


@pytest.mark.parametrize("session", ["", ",session"])
@pytest.mark.parametrize("closed_at", [51, 150, None])
def test_a_quote_that_is_not_closed_is_named_with_its_line(session, closed_at, tmp_path):
    rows = [f"2024-03-07,21:05:{n % 60:02},c,u,message {n}" for n in range(200)]
    rows[49] = '2024-03-07,21:05:49,c,u,"he said'
    if closed_at:
        rows[closed_at] += '"'
    rows = [f"{row},1" if session else row for row in rows]
    (tmp_path / "a.csv").write_text(f"date,time,channel,username,message{session}\n" + "\n".join(rows) + "\n")
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


UNQUOTED = ["user\tmessage", 'ann\t"lol', 'bob\tnice"', 'cat\t"on time"', 'ann\ta "b" c', "bob\t\\"]


def rows_of(path, **options):
    """Return the rows of the CSV that a table becomes, without the channel, its counts, and its unreadable rows."""
    counts, unreadable = parse(path, path.with_suffix(".out"), **options)
    with path.with_suffix(".out").open(encoding="utf-8", newline="") as rows:
        return [[*row[:2], *row[3:]] for row in [*csv.reader(rows)][1:]], +counts, unreadable


def said(path, **options):
    return [tuple(row[2:]) for row in rows_of(path, **options)[0]]


@pytest.mark.parametrize(("delimiter", "suffix"), [("\t", "tsv"), (",", "csv"), (";", "csv")])
def test_a_table_without_quoting_is_read_line_by_line(delimiter, suffix, tmp_path):
    log = tmp_path / f"a.{suffix}"
    log.write_text("\n".join(UNQUOTED).replace("\t", delimiter) + "\n")
    expected = [tuple(line.split("\t")) for line in UNQUOTED[1:]]
    assert said(log) == expected
    assert messages_in(log) == [message for _, message in expected]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
@pytest.mark.parametrize("escaped", [False, True], ids=["doubled", "escaped"])
@given(messages=st.lists(typed.filter(lambda text: "\r" not in text), min_size=1))
def test_tables_of_the_csv_module_come_back(delimiter, quoting, escaped, messages):
    """A quote makes the csv module quote a value, with the quote doubled or escaped."""
    assume(not any(text.startswith("\1ACTION ") for text in messages))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "a.csv")
        with log.open("w", encoding="utf-8", newline="") as file:
            options = {"doublequote": False, "escapechar": "\\"} if escaped else {}
            rows = csv.writer(file, delimiter=delimiter, quoting=quoting, **options)
            rows.writerow(["user", "message"])
            rows.writerows(["ann", text] for text in ['she said "no", twice;\tand', *messages])
        assume(not escaped or not any("\\" in text for text in messages))
        assert said(log)[1:] == [("ann", text) for text in messages]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_first_part_of_a_long_table_has_whole_rows_only(encoding, tmp_path):
    (tmp_path / "a.csv").write_text("user,message\n" + "ann,hello!\n" * 200_000, encoding=encoding)
    head = read_table_head(tmp_path / "a.csv")
    assert head.header == ["user", "message"] and {*map(tuple, head.rows)} == {("ann", "hello!")}
    assert head.text.endswith("ann,hello!\n")


def test_quotes_in_a_tsv_that_a_program_wrote(tmp_path):
    (tmp_path / "a.tsv").write_text('user\tmessage\nann\t"she said ""no"""\nbob\t"a\tb"\ncat\thi\n')
    assert said(tmp_path / "a.tsv") == [("ann", 'she said "no"'), ("bob", "a\tb"), ("cat", "hi")]


def test_the_text_of_me_in_a_table(tmp_path):
    (tmp_path / "a.csv").write_text("user,message\nann,\1ACTION waves\1\nbob,\1ACTION sits\ncat,a \1ACTION b\1\n")
    assert said(tmp_path / "a.csv") == [("ann", "waves"), ("bob", "sits"), ("cat", "a \1ACTION b\1")]


def test_a_ragged_row_is_an_unreadable_line_with_its_number(tmp_path):
    (tmp_path / "a.csv").write_text('user,message\nann,"two\nlines"\n\nbob\ncat,hi\ndan,a,b\n')
    rows, counts, unreadable = rows_of(tmp_path / "a.csv")
    assert [row[2:] for row in rows] == [["ann", "two\nlines"], ["cat", "hi"]]
    assert counts["unreadable lines"] == 2 and counts["blank lines"] == 1
    assert unreadable == [f"{tmp_path}/a.csv:5", f"{tmp_path}/a.csv:7"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("date,timestamp,message\n2024-03-07,2024-03-07 21:05:09,hi\n", ["2024-03-07", "21:05:09"]),
        ("time,message\n06/15/2021 18:55:59,hi\n", ["2021-06-15", "18:55:59"]),
        ("date,time,message\n06/15/2021,6:55:59 PM,hi\n", ["2021-06-15", "18:55:59"]),
        ("time;message\n07.03.2024 21:05;hi\n", ["2024-03-07", "21:05:00"]),
        ("time,message\n1.62e9,hi\n", ["2021-05-03", "00:00:00"]),
        ("message\nhi\n", ["2020-01-02", ""]),
        ("time,message\n06/07/2021 10:00,hi\n", ["", "10:00:00"]),
    ],
)
def test_dates_and_times_in_tables(table, expected, tmp_path):
    (tmp_path / "chan-2020-01-02.csv").write_text(table)
    assert rows_of(tmp_path / "chan-2020-01-02.csv")[0][0][:2] == expected


def test_the_last_row_may_decide_between_day_and_month_first(tmp_path):
    rows = ["06/07/2021,hi"] * 30_000
    (tmp_path / "a.csv").write_text("\n".join(["date,message", *rows, "15/07/2021,hi", ""]))
    found = rows_of(tmp_path / "a.csv")[0]
    assert (found[0][0], found[-1][0]) == ("2021-07-06", "2021-07-15")


def test_an_empty_channel_is_filled_from_the_name_of_the_file(tmp_path):
    (tmp_path / "chan-2024-03-07.csv").write_text("channel,user,message\n,ann,hi\nother,bob,hi\n")
    parse(tmp_path / "chan-2024-03-07.csv", tmp_path / "out")
    assert [row.split(",")[2] for row in (tmp_path / "out").read_text().splitlines()[1:]] == ["chan", "other"]


@pytest.mark.parametrize(
    ("header", "row", "user", "has_logins"),
    [
        ("user_login,message", "ann,hi", "ann", True),
        ("display_name,user_login,message", "Ann,ann,hi", "ann", True),
        ("chatter_user_login,message", "ann,hi", "ann", True),
        ("chatter_user_name,message", "Ann,hi", "Ann", False),
        ("message.author,message", "ann,hi", "ann", True),
        ("Sender,Message", "@Ann,hi", "Ann", False),
        ("chatter,message", "ann,hi", "ann", True),
        ("author.name,message", "さくら,hi", "さくら", False),
        ("id,contents", "さくら (ann),hi", "ann", True),
        ("user,login_name,name,message", "12,x,ann,hi", "ann", True),
        ("last_login,user,message", "2024-03-07 10:00,ann,hi", "ann", True),
        ("id,contents", "さくら (ann),hi\nbob,hi", "ann", True),
        ("id,contents", "42,hi", None, True),
        ("user,message", "42,hi", None, True),
        ("user,message", ",hi", None, True),
        ("badges,message", "ann,hi", None, True),
    ],
)
def test_users_are_found_by_the_names_and_values_of_columns(header, row, user, has_logins, tmp_path):
    (tmp_path / "a.csv").write_text(f"{header}\n{row}\n")
    reader = find_reader(tmp_path / "a.csv")
    assert (reader.has_users, reader.has_logins) == (user is not None, has_logins)
    assert said(tmp_path / "a.csv")[0] == (user or "", "hi")


def test_a_row_without_a_user_is_counted(tmp_path):
    """It may be from somebody who asked to be left out."""
    (tmp_path / "a.csv").write_text("user,message\nann,hi\n,lol\n")
    rows, counts, _ = rows_of(tmp_path / "a.csv")
    assert len(rows) == 1 and counts["entries without a user"] == 1


def test_a_display_name_after_many_logins_is_noticed(tmp_path):
    (tmp_path / "a.csv").write_text("user,message\n" + "ann,hello to all of you\n" * 50_000 + "さくら,hi\n")
    reader = find_reader(tmp_path / "a.csv")
    assert reader.has_logins
    assert sum(len(batch.messages) for batch in reader.read(tmp_path / "a.csv", lambda num_bytes: None)) == 50_001
    assert not reader.has_logins
