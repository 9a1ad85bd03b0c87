"""Time parse_logs.py next to pandas and a bare polars pipeline, and on logs of growing size.

python bench/bench_parse.py
python bench/bench_parse.py --quick
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness import Command, compare, find_chats, growth_table, parse_args, sample_logs, save, table, time_growth


def main() -> None:
    args = parse_args(__doc__)
    num_messages = 100_000 if args.quick else 2_700_000
    sizes = [1, 2, 4] if args.quick else [10, 20, 50, 100, 200, 500]  # MB
    figures = {}
    with sample_logs(num_messages) as logs, tempfile.TemporaryDirectory() as scratch:
        parse = [sys.executable, "parse_logs.py", "--output-dir", f"{scratch}/raw", "--logs-dir"]
        for name, logs_dir in find_chats(logs, args.quick).items():
            texts = [log.read_bytes() for log in logs_dir.iterdir()]
            units = {"MB": sum(map(len, texts)) / 1e6, "lines": sum(text.count(b"\n") for text in texts)}
            del texts
            rows = compare(
                {
                    "parse_logs.py": [*parse, logs_dir],
                    "parse_logs.py --drop-moderated": [*parse, logs_dir, "--drop-moderated"],
                    "bare polars": [sys.executable, "bench/peers/parse_polars.py", logs_dir, f"{scratch}/peer"],
                    "pandas": [sys.executable, "bench/peers/parse_pandas.py", logs_dir, f"{scratch}/peer"],
                },
                units,
                args.rounds,
            )
            figures[name] = {"units": units, "rows": rows}
            print(f"{name} chat: {units['MB']:.0f} MB, {units['lines']:,} lines\n\n{table(rows)}\n")
        one_log = max(logs.iterdir()).read_bytes()
        (growing := Path(scratch, "growing")).mkdir()

        def parse_megabytes(size: float) -> Command:
            """Write a log of this size, one log over and over, and return the command that parses it."""
            with (growing / "log.txt").open("wb") as log:
                while log.tell() < size * 1e6:
                    log.write(one_log[: int(size * 1e6) - log.tell()])
            return [*parse, growing]

        figures["growth"] = time_growth(parse_megabytes, sizes)
        print(growth_table("MB", figures["growth"]))
    save("parse", figures, args)


if __name__ == "__main__":
    main()
