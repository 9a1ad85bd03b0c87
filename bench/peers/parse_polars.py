"""Parse logs with a bare polars pipeline: one format of lines, all cores, no counts, and one CSV for all logs."""

import sys
from pathlib import Path

import polars as pl

PATTERN = r"^\[(?P<date>\S+) (?P<time>\S+)\] #(?P<channel>\S+) (?P<username>[^\s:]+): (?P<message>.*)$"

logs_dir, output_dir = map(Path, sys.argv[1:])
output_dir.mkdir(parents=True, exist_ok=True)
lines = pl.scan_csv(
    logs_dir / "*.txt",
    has_header=False,
    separator="\x01",  # does not occur in logs
    quote_char=None,
    new_columns=["line"],
    schema={"line": pl.String},
    truncate_ragged_lines=True,
    encoding="utf8-lossy",
)
messages = lines.select(pl.col("line").str.extract_groups(PATTERN)).unnest("line")
messages.drop_nulls().sink_csv(output_dir / "messages.csv")
