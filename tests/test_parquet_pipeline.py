"""The whole way from a Parquet file, in the columns of a published data set, to a message."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run

WORDS = "hello chat LUL that was so good what is he doing gg wp this stream is the best".split()


@pytest.fixture
def data_set(tmp_path):
    """Made-up messages in one column, `Message`."""
    draw = random.Random(0)
    messages = [" ".join(draw.choices(WORDS, k=draw.randint(1, 8))) for _ in range(1500)]
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table({"Message": messages}), tmp_path / "parquet/train.parquet", row_group_size=500)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "through_csv",
    [pytest.param(True, id="through a CSV", marks=pytest.mark.thorough), pytest.param(False, id="directly")],
)
def test_a_chatter_from_a_parquet_file(through_csv, data_set, small_model):
    source = "parquet"
    if through_csv:
        run("parse_logs.py", "--logs-dir", source, "--output-dir", "raw", cwd=data_set)
        source = "raw"
    model = ["--model", small_model]
    folders = ["--input-dir", source, "--output-dir", "tokens", "--block-size", 64]
    counted = run("tokenize_logs.py", *folders, *model, cwd=data_set).stderr
    assert "messages                          1,500" in counted
    folders = ["--dataset-dir", "tokens", "--output-dir", "chatter"]
    run("train.py", *folders, *model, "--max-steps", 2, "--no-deepspeed", cwd=data_set)
    said = run("generate.py", "hello chat", "--model", "chatter", cwd=data_set).stdout
    assert len(said.splitlines()) == 1
