"""parse_logs.py beside pandas and the bare polars pipeline, and how its cost grows with the log.

python bench/bench_parse.py
"""

import sys
import tempfile
from pathlib import Path

from harness import ROOT, compare, grow, growth_table, parse_args, sample_logs, save, table

CHAT = ROOT.parent / "shared/chat/justlog"  # real logs, where they are at hand


def main() -> None:
    args = parse_args(__doc__)
    num_messages = 100_000 if args.quick else 2_700_000
    sizes = [1, 2, 4] if args.quick else [10, 20, 50, 100, 200, 500]  # MB
    figures = {}
    with sample_logs(num_messages) as logs, tempfile.TemporaryDirectory() as scratch:
        for name, logs_dir in {"sample": logs, "real": CHAT}.items():
            if not logs_dir.is_dir():
                continue
            parse = [sys.executable, "parse_logs.py", "--logs-dir", logs_dir, "--output-dir", f"{scratch}/raw"]
            peer = [logs_dir, f"{scratch}/peer"]
            texts = [log.read_bytes() for log in logs_dir.iterdir()]
            units = {"MB": sum(map(len, texts)) / 1e6, "lines": sum(text.count(b"\n") for text in texts)}
            del texts
            rows = compare(
                {
                    "parse_logs.py": parse,
                    "parse_logs.py --drop-moderated": [*parse, "--drop-moderated"],
                    "bare polars": [sys.executable, "bench/peers/parse_polars.py", *peer],
                    "pandas": [sys.executable, "bench/peers/parse_pandas.py", *peer],
                },
                units,
                args.rounds,
            )
            figures[name] = {"units": units, "rows": rows}
            print(f"{name}: {units['MB']:.0f} MB, {units['lines']:,} lines\n\n{table(rows)}\n")
        block = max(logs.iterdir()).read_bytes()
        (big := Path(scratch, "growing")).mkdir()

        def parse_prefix(size: float) -> list:
            with (big / "log.txt").open("wb") as log:
                while log.tell() < size * 1e6:
                    log.write(block[: int(size * 1e6) - log.tell()])
            return [sys.executable, "parse_logs.py", "--logs-dir", big, "--output-dir", f"{scratch}/raw"]

        figures["growth"] = grow(parse_prefix, sizes)
        print(growth_table("MB", figures["growth"]))
    if not args.quick:
        save("parse", figures, args.machine)


if __name__ == "__main__":
    main()
