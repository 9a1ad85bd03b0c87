"""chatter.logs.columnar: Parquet, Arrow and Feather files, whatever their types and names, and folders of datasets."""

import csv
import datetime
import io
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from conftest import contents, error_of, parse, run, typed, without_manifest
from hypothesis import given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.logs.find_reader import find_reader
from chatter.logs.reading import UnreadableLog
from chatter.tokens.rows import read_rows
from chatter.tokens.tables import read_columns, split_chats
from parse_logs import parse_logs

UTC = datetime.UTC
WHEN = datetime.datetime(2024, 3, 7, 21, 5, 9, 123456, tzinfo=UTC)


def rows_of(content, folder, name="a.parquet", **options):
    """Return the rows of the CSV that a table becomes."""
    table = content if isinstance(content, pa.Table) else pa.table(content)
    if name.endswith("parquet"):
        pq.write_table(table, folder / name)
    else:
        with (pa.ipc.new_stream if name.endswith("arrow") else pa.ipc.new_file)(
            str(folder / name), table.schema
        ) as file:
            file.write_table(table)
    counts, _ = parse(folder / name, folder / "out", **options)
    with (folder / "out").open(newline="", encoding="utf-8") as file:
        return [*csv.reader(file)][1:], +counts


texts = typed.filter(lambda text: "\1" not in text)  # the mark of /me
kinds = st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])


@given(
    st.lists(st.none() | typed, max_size=20), kinds, st.sampled_from(["parquet", "arrow", "feather"]), st.integers(1, 9)
)
def test_whatever_is_typed_comes_back(messages, kind, suffix, size):
    """A missing text is no message, and an empty one is."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatter.logs.columnar_reader.ROWS", size)
        array = pa.array(messages, pa.string()).cast(kind if suffix != "parquet" or "view" not in str(kind) else "str")
        rows, counts = rows_of({"Message": array}, Path(folder), f"a.{suffix}")
        assert [row[4] for row in rows] == [text for text in messages if text is not None]
        assert counts["messages"] + counts["entries without text"] == len(messages)
        texts = [text for each in read_columns(Path(folder, f"a.{suffix}")) for text in each["message"].to_pylist()]
        assert texts == [text for text in messages if text is not None]


STREAMS = st.lists(
    st.none() | st.lists(st.none() | typed.filter(lambda text: "\1" not in text), max_size=6), max_size=9
)


@given(STREAMS, st.sampled_from([pa.list_, pa.large_list]), st.integers(1, 4))
def test_lists_are_unrolled_and_each_row_is_a_stream(streams, kind, size):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatter.logs.columnar_reader.ROWS_OF_LISTS", size)
        users = [stream and ["ann"] * len(stream) for stream in streams]
        columns = {"messages": pa.array(streams, kind(pa.string())), "Users": pa.array(users, kind(pa.string()))}
        columns["streamer_id"] = [f"c{number}" for number in range(len(streams))]
        rows, counts = rows_of(pa.table(columns), Path(folder))
        numbered = [(n, text) for n, stream in enumerate(streams) for text in stream or () if text is not None]
        assert [row[2:] for row in rows] == [[f"c{n}", "ann", text, f"{n + 1}"] for n, text in numbered]
        assert counts["messages"] + counts["entries without text"] == sum(len(stream or ()) for stream in streams)
        path = Path(folder, "a.parquet")
        chats = [
            each for rows in read_rows(path, (), None) for each in split_chats(rows.columns, path, False, rows.last)
        ]
        assert chats.count((None, [])) == max(len({n for n, _ in numbered}) - 1, 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([WHEN], pa.timestamp("us", "America/New_York")), ["2024-03-07", "21:05:09"]),
        (pa.array([WHEN], pa.timestamp("ns", "UTC")), ["2024-03-07", "21:05:09"]),
        (pa.array([WHEN.replace(tzinfo=None)], pa.timestamp("s")), ["2024-03-07", "21:05:09"]),
        (pa.array([WHEN.date()], pa.date32()), ["2024-03-07", ""]),
        (pa.array([WHEN.time()], pa.time64("us")), ["", "21:05:09"]),
        (pa.array([datetime.timedelta(seconds=307)], pa.duration("ms")), ["", "00:05:07"]),
        (pa.array([1709845509], pa.int64()), ["2024-03-07", "21:05:09"]),
        (pa.array([1709845509], pa.uint32()), ["2024-03-07", "21:05:09"]),
        (pa.array([1709845509123], pa.int64()), ["2024-03-07", "21:05:09"]),
        (pa.array([1709845509123456], pa.int64()), ["2024-03-07", "21:05:09"]),
        (pa.array([1709845509123456789], pa.int64()), ["2024-03-07", "21:05:09"]),
        (pa.array([1709845509.5], pa.float64()), ["2024-03-07", "21:05:09"]),
        (pa.array([307], pa.int16()), ["", "00:05:07"]),
        (pa.array([float("nan")], pa.float64()), ["", ""]),
        (pa.array([float("inf")], pa.float32()), ["", ""]),
        (pa.array([307.9], pa.float32()), ["", "00:05:07"]),
        (pa.array(["2024-03-07T22:05:09.123+01:00"]), ["2024-03-07", "21:05:09"]),
        (pa.array(["07.03.2024 21:05:09"]), ["2024-03-07", "21:05:09"]),
        (pa.array(["2024-02-30 21:05:09"]), ["", "21:05:09"]),
        (pa.array([None], pa.int64()), ["", ""]),
        (pa.array([None], pa.null()), ["", ""]),
    ],
)
def test_times_of_all_types(values, expected, tmp_path):
    rows, _ = rows_of({"timestamp": values, "message": ["hi"]}, tmp_path)
    assert rows[0][:2] == expected
    rows, _ = rows_of({"timestamp": pa.ListArray.from_arrays([0, 1], values), "message": [["hi"]]}, tmp_path)
    assert rows[0][:2] == expected


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"TEXT": ["hi"], "User_Name": ["ann"]}, ["", "", "", "ann", "hi"]),
        ({"author": [{"id": 5, "name": "ann"}], "content": ["hi"]}, ["", "", "", "ann", "hi"]),
        ({"message": [{"body": "hi"}], "user": [{"login": "ann", "id": 5}]}, ["", "", "", "ann", "hi"]),
        ({"channel": [{"name": "c"}], "message": ["hi"]}, ["", "", "c", "", "hi"]),
        ({"messages": [[{"text": "hi", "author": {"login": "ann"}}]]}, ["", "", "", "ann", "hi", "1"]),
        ({"messages": [{"text": ["hi"], "user": ["ann"]}]}, ["", "", "", "", "hi", "1"]),
        ({"message": ["hi"], "tags": [["a", "b"]], "users": [["x", "y"]]}, ["", "", "", "", "hi"]),
        ({"message": ["hi"], "user": [5]}, ["", "", "", "", "hi"]),
        ({"a.b": ["x"], "message": ["hi"], "vector": [[1.5, 2.5]], "map": [b"x"]}, ["", "", "", "", "hi"]),
    ],
)
def test_columns_are_found_by_their_names(columns, row, tmp_path):
    rows, _ = rows_of(columns, tmp_path)
    assert rows == [row]


def test_columns_that_the_user_names(tmp_path):
    table = {"Words": ["hi"], "Nested": [{"Who": "ann"}], "Lists": [["a", "b"]], "message": ["not this"]}
    rows, _ = rows_of(table, tmp_path, columns={"message": "words", "username": "nested.who"})
    assert rows == [["", "", "", "ann", "hi"]]
    rows, _ = rows_of(table, tmp_path, columns={"message": "Lists"})
    assert [row[4:] for row in rows] == [["a", "1"], ["b", "1"]]


def test_a_file_without_messages_is_refused_with_its_columns(tmp_path):
    with pytest.raises(UnreadableLog, match=r"no column of messages\. If one .* \(who, whats, what\), pass"):
        rows_of({"who": ["ann"], "whats": [["x"]]}, tmp_path)
    arguments = ["--logs-dir", tmp_path, "--output-dir", tmp_path / "raw"]
    error = error_of("parse_logs.py", *arguments, "--columns", "message=nothing")
    assert "no table has the column nothing of --columns message=nothing. Pass one of who, whats, what" in error
    with pytest.raises(InputError, match=r"a\.parquet has no column message\. Rename one of who, whats"):
        [*read_columns(tmp_path / "a.parquet")]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "changed", "header"])
def test_a_damaged_file_is_skipped_with_a_reason(name, damage, tmp_path):
    rows_of({"message": [f"message {number}" for number in range(5000)]}, tmp_path, name)
    data = (tmp_path / name).read_bytes()
    middle = len(data) // 2
    changed = {
        "cut": data[:middle],
        "empty": b"",
        "text": b"no table at all",
        "changed": data[:middle] + b"\xff" * 200 + data[middle + 200 :],
        "header": data[:40] + b"\xff" * 40 + data[80:],
    }[damage]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / name).write_bytes(changed)
    (tmp_path / "logs/b.txt").write_text("[2024-03-7 21:05:09] #c u: hi\n")
    results, skipped, _ = parse_logs(tmp_path / "logs", tmp_path / "raw", 1)
    if skipped:
        assert name in next(iter(skipped.values()))
    else:  # bytes of a text may change without a sign
        assert damage in ("changed", "header") and results[tmp_path / "logs" / name].counts["messages"] == 5000


def test_an_old_feather_file_is_refused(tmp_path):
    pyarrow.feather.write_feather(pa.table({"message": ["hi"]}), str(tmp_path / "a.feather"), version=1)
    with pytest.raises(UnreadableLog, match=r"a\.feather is a Feather file of version 1\. Write it again"):
        find_reader(tmp_path / "a.feather")


@pytest.fixture
def dataset():
    import datasets

    datasets.disable_progress_bars()
    return datasets.Dataset.from_dict({"Message": [f"message {number}" for number in range(10)]})


def test_a_folder_of_a_dataset(dataset, tmp_path):
    """As save_to_disk writes it, in several files, and as load_dataset caches it."""
    import datasets

    saved = datasets.DatasetDict(train=dataset, test=dataset.select([0]))
    saved.save_to_disk(tmp_path / "logs/saved", num_shards={"train": 2, "test": 1})
    dataset.to_parquet(file := tmp_path / "a.parquet")
    cached = datasets.load_dataset("parquet", data_files=str(file), cache_dir=str(tmp_path / "logs/cache"))
    cached["train"].map(lambda row: {"more": 1})
    _, skipped, _ = parse_logs(tmp_path / "logs", tmp_path / "raw", 1)
    written = {Path(name).name: data.decode() for name, data in contents(tmp_path / "raw").items()}
    shards = {"data-00000-of-00002.csv", "data-00001-of-00002.csv", "data-00000-of-00001.csv"}
    assert without_manifest(written) == shards | {"parquet-train.csv"}
    assert written["parquet-train.csv"].count("message ") == 10
    reason = "written by the library datasets beside its data"
    derived = {path.name for path in skipped if skipped[path] == reason}
    assert {"dataset_dict.json", "dataset_info.json", "state.json"} <= derived
    assert any(name.startswith("cache-") for name in derived)
    cache = next((tmp_path / "logs/cache").rglob("parquet-train.arrow"))
    assert len(next(read_columns(cache))["message"]) == 10


def test_progress_adds_up_to_the_file(tmp_path):
    for name in ("a.parquet", "a.feather", "a.arrow"):
        rows_of({"message": [f"message {number}" for number in range(200_000)]}, tmp_path, name)
        progress = []
        for batch in find_reader(tmp_path / name).read(tmp_path / name, progress.append):
            assert len(batch.messages) <= 1 << 16
        size = (tmp_path / name).stat().st_size
        assert size * 0.99 < sum(progress) <= size and len(progress) > 1


def test_filters_and_rare_users(tmp_path):
    table = {"message": ["hi", "!command", "a.de", "bye"], "user": ["Ann", "bob", "ann", "nightbot"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    results, _, _ = parse_logs(
        tmp_path, tmp_path / "raw", 1, {"exclude_bots": True, "drop_commands": True, "min_user_messages": 2}
    )
    assert (tmp_path / "raw/a.csv").read_text().splitlines()[1:] == ['"","","",Ann,hi', '"","","",ann,a.de']
    assert "no dates" in str(results[tmp_path / "a.parquet"].notes)


def test_blocks_end_where_streams_end(tmp_path):
    """On the way through a CSV, and without it."""
    import datasets

    lists = {"messages": [["one", "two"], ["three"], ["four"]], "streamer_id": ["a", "a", "b"]}
    (tmp_path / "logs").mkdir()
    pq.write_table(pa.table(lists), tmp_path / "logs/a.parquet")
    run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", cwd=tmp_path)
    model = ["--model", Path(__file__).parent.parent.parent / "models/tiny-gpt2", "--block-size", 32]
    blocks = []
    for folder in ("raw", "logs"):
        for option in ([], ["--with-channel"]):
            run("tokenize_logs.py", "--input-dir", folder, "--output-dir", "tokens", *model, *option, cwd=tmp_path)
            found = datasets.DatasetDict.load_from_disk(tmp_path / "tokens")
            blocks.append(sorted(row["input_ids"] for split in found.values() for row in split))
    assert len(blocks[0]) == 3 and blocks[0] == blocks[2] and blocks[1] == blocks[3] != blocks[0]


def test_columns_with_the_same_name(tmp_path):
    table = pa.Table.from_arrays([pa.array(["hi"]), pa.array(["again"])], names=["message", "Message"])
    assert [row[4] for row in rows_of(table, tmp_path)[0]] == ["hi"]
    buffer = io.BytesIO()
    table = pa.Table.from_arrays([pa.array(["hi"]), pa.array(["again"])], names=["message", "message"])
    with pa.ipc.new_stream(buffer, table.schema) as file:
        file.write_table(table)
    (tmp_path / "a.arrow").write_bytes(buffer.getvalue())
    assert parse(tmp_path / "a.arrow", tmp_path / "out")[0]["messages"] == 1
