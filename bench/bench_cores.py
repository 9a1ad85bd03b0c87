"""Time parse_logs.py and tokenize_logs.py with 1, 2, 4, ... jobs, up to the cores of the machine.

On many logs and on one large one, and on the CSVs of these; with --logs-dir, on those logs, repeated to the same size.
Half of each input is timed as well: what a run takes without any work, such as imports, is in both times, and not in
their difference.

    python bench/bench_cores.py
    python bench/bench_cores.py --quick
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

from harness import compare, find_chats, find_model, parse_args, repeat_logs, run, sample_logs, save, table

from chatter.workers import usable_cores

MEMORY = "/dev/shm"  # a folder in memory: what a disk still has to write of one run would slow down the next
# Stage -> MB of logs, whose messages it parses or tokenizes: 1 GB, and five million messages of real chat.
MEGABYTES = {"parse_logs.py": 1000, "tokenize_logs.py": 350}


def jobs_to_time() -> list[int]:
    """Return 1, 2, 4, ... and the number of cores."""
    cores = usable_cores()
    return sorted({1, cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)})


def join_logs(logs_dir: Path, folder: Path) -> None:
    """Write all logs of a folder to one file in another."""
    folder.mkdir()
    with (folder / "log.txt").open("wb") as joined:
        for log in sorted(logs_dir.iterdir()):
            joined.write(log.read_bytes())


def compare_jobs(stage: str, logs_dir: Path, scratch: Path, rounds: int) -> dict:
    """Time a stage with each number of jobs on some logs; return what it processed, and the rows."""
    raw = scratch / f"raw-{logs_dir.name}"
    if stage == "parse_logs.py":
        command = [sys.executable, stage, "--logs-dir", logs_dir, "--output-dir", raw]
        units = {"MB": sum(log.stat().st_size for log in logs_dir.iterdir()) / 1e6}
    else:
        run([sys.executable, "parse_logs.py", "--logs-dir", logs_dir, "--output-dir", raw])
        command = [sys.executable, stage, "--input-dir", raw, "--model", find_model(scratch / "gpt2")]
        command += ["--output-dir", scratch / "tokenized"]
        units = {"messages": sum(path.read_bytes().count(b"\n") for path in raw.glob("*.csv"))}
    commands = {f"--jobs {jobs}": [*command, "--jobs", str(jobs)] for jobs in jobs_to_time()}
    return {"units": units, "rows": compare(commands, units, rounds, long=math.inf)}


def main() -> None:
    args = parse_args(__doc__)
    figures = {"chat": "real" if args.logs_dir else "made-up"}
    memory = MEMORY if Path(MEMORY).is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, sample_logs(20_000 if args.quick else 500_000) as sample:
        scratch = Path(folder)
        *_, logs = find_chats(sample, args).values()
        for stage, megabytes in MEGABYTES.items():
            for half, share in (("", 1), (", half", 0.5)):
                many, one = scratch / f"{stage}-{share}", scratch / f"{stage}-{share}-joined"
                repeat_logs(logs, many, int(megabytes * share * (30_000 if args.quick else 1_000_000)))
                join_logs(many, one)
                for files, logs_dir in (("many files", many), ("one file", one)):
                    what = f"{stage}, {files}{half}"
                    figures[what] = compare_jobs(stage, logs_dir, scratch, args.rounds)
                    print(f"{what}\n\n{table(figures[what]['rows'])}\n")
    save("cores", figures, args)


if __name__ == "__main__":
    main()
