"""Time parse_logs.py and tokenize_logs.py with 1, 2, 4, ... jobs, up to the cores of the machine.

On many logs and on one large one, and on the CSVs of these; with --logs-dir, on those logs, repeated to the same size.
What a run takes without any work, such as imports, is timed on an input of one message.

    python bench/bench_cores.py
    python bench/bench_cores.py --quick
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness import compare, find_chats, parse_args, repeat_logs, run, sample_logs, save, table

from chatter.workers import usable_cores

MESSAGE = "[2024-03-7 21:05:09] #channel user: a message of several words\n"


def jobs_to_time() -> list[int]:
    """Return 1, 2, 4, ... and the number of cores."""
    cores = usable_cores()
    return sorted({1, cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)})


def main() -> None:
    args = parse_args(__doc__)
    num_bytes = 30_000_000 if args.quick else 1_000_000_000
    figures = {}
    with tempfile.TemporaryDirectory() as folder, sample_logs(20_000 if args.quick else 500_000) as sample:
        scratch = Path(folder)
        *_, logs = find_chats(sample, args).values()
        repeat_logs(logs, scratch / "many", num_bytes)
        for name in ("one", "none"):
            (scratch / name).mkdir()
        with (scratch / "one/log.txt").open("wb") as one:
            for log in sorted((scratch / "many").iterdir()):
                one.write(log.read_bytes())
        (scratch / "none/log.txt").write_text(MESSAGE * 99)
        for stage in ("parse_logs.py", "tokenize_logs.py"):
            for name in ("many", "one", "none"):
                raw = scratch / f"{name}-raw"
                if stage == "parse_logs.py":
                    command = [sys.executable, stage, "--logs-dir", scratch / name, "--output-dir", raw]
                    units = {"MB": sum(log.stat().st_size for log in (scratch / name).iterdir()) / 1e6}
                else:
                    run([sys.executable, "parse_logs.py", "--logs-dir", scratch / name, "--output-dir", raw])
                    command = [sys.executable, stage, "--input-dir", raw, "--model", "models/tiny-gpt2"]
                    command += ["--output-dir", scratch / "tokenized", "--block-size", "64"]
                    units = {"messages": sum(path.read_bytes().count(b"\n") for path in raw.glob("*.csv"))}
                commands = {f"--jobs {jobs}": [*command, "--jobs", str(jobs)] for jobs in jobs_to_time()}
                rows = compare(commands, units, args.rounds)
                figures[f"{stage}, {name}"] = {"units": units, "rows": rows}
                print(f"{stage}, {name}\n\n{table(rows)}\n")
    save("cores", figures, args)


if __name__ == "__main__":
    main()
