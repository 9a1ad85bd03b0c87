"""Parse logs with pandas in the usual way: one format of lines, one process, no counts."""

import csv
import sys
from pathlib import Path

import pandas as pd

PATTERN = r"^\[(?P<date>\S+) (?P<time>\S+)\] #(?P<channel>\S+) (?P<username>[^\s:]+): (?P<message>.*)$"

logs_dir, output_dir = map(Path, sys.argv[1:])
output_dir.mkdir(parents=True, exist_ok=True)
for log in sorted(logs_dir.glob("*.txt")):
    lines = pd.Series(log.read_text(encoding="utf-8", errors="replace").split("\n"))
    messages = lines.str.extract(PATTERN).dropna()
    messages.to_csv(output_dir / f"{log.stem}.csv", index=False, quoting=csv.QUOTE_MINIMAL)
