"""Write the messages of Parquet files as one CSV with bare polars: all cores, and no counts."""

import sys
from pathlib import Path

import polars as pl

logs_dir, output_dir = map(Path, sys.argv[1:])
output_dir.mkdir(parents=True, exist_ok=True)
pl.scan_parquet(logs_dir / "*.parquet").select(pl.col("Message").alias("message")).drop_nulls().sink_csv(
    output_dir / "messages.csv"
)
