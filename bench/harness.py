"""Time commands side by side: fresh processes in turns, medians over rounds, peak memory by sampling.

Each bench_*.py of this folder times one stage beside its peers, prints a table on stdout, and keeps its figures in
bench/results/<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
Command = list[str | Path]


@dataclass
class Run:
    seconds: float
    peak: int = 0  # memory of all its processes, bytes
    device_peak: int = 0  # used memory of the first NVIDIA GPU, bytes
    output: str = ""  # stdout and stderr


def run(command: Command, sample_memory: bool = False) -> Run:
    """Run a command to its end; a command that fails ends the bench with what it printed.

    Memory is the proportional set size (what processes share counts once), sampled ten times a second if asked.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = psutil.Popen(list(map(str, command)), cwd=ROOT, stdout=output, stderr=output)
        done = Run(0)
        while sample_memory and process.poll() is None:
            done.peak = max(done.peak, memory_of(process))
            done.device_peak = max(done.device_peak, device_memory())
            time.sleep(0.1)
        code = process.wait()
        done.seconds = time.perf_counter() - started
        output.seek(0)
        done.output = output.read().decode(errors="replace")
        if code:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.output}")
    return done


def device_memory() -> int:
    """Ask nvidia-smi for the used memory of the first GPU, in bytes; 0 where there is none."""
    if not shutil.which("nvidia-smi"):
        return 0
    query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True).stdout) << 20


def memory_of(process: psutil.Process) -> int:
    """Sum up the proportional set size of a process and its descendants, in bytes."""
    total = 0
    for each in [process, *children_of(process)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def children_of(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def compare(commands: dict[str, Command], units: dict[str, float], rounds: int = 3) -> list[dict]:
    """Time the commands in turns, after a round that warms the disk cache and samples memory.

    `units` says how much a command works through, as {"MB": 200.0, "messages": 2.7e6}. The first command is the one
    that ratios are of. Returns a row a command: name, median, min and max seconds, peak memory in MB, units a second,
    and how many times as long as the first it took: the median of the rounds' ratios.
    """
    peaks = {}
    for name, command in commands.items():
        print(f"{name}: warming up", file=sys.stderr)
        peaks[name] = run(command, sample_memory=True).peak
    rows = take_turns({name: lambda command=command: run(command) for name, command in commands.items()}, units, rounds)
    return [row | {"peak MB": peaks[row["name"]] / 1e6} for row in rows]


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def take_turns(ways: dict[str, Callable[[], object]], units: dict[str, float], rounds: int) -> list[dict]:
    """Time the calls in turns; return the rows of `compare`, but for the memory."""
    seconds = {name: [] for name in ways}
    for round_ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(seconds_of(way))
            print(f"{name}: round {round_ + 1} of {rounds}, {seconds[name][-1]:.2f} s", file=sys.stderr)
    first = next(iter(seconds.values()))
    return [
        {
            "name": name,
            "seconds": statistics.median(taken),
            "min": min(taken),
            "max": max(taken),
            "times as long": statistics.median(a / b for a, b in zip(taken, first, strict=True)),
            **{f"{unit}/s": amount / statistics.median(taken) for unit, amount in units.items()},
        }
        for name, taken in seconds.items()
    ]


def grow(command_of: Callable[[float], Command], sizes: list[float]) -> dict:
    """Time a command on growing input; fit seconds ~ size ** exponent on the upper half of the sizes.

    The lower half is mostly start-up. A run that samples memory goes before the timed one. Returns sizes, seconds,
    peak MB, and the exponent.
    """
    seconds, peaks = [], []
    for size in sizes:
        command = command_of(size)
        peaks.append(run(command, sample_memory=True).peak / 1e6)
        seconds.append(run(command).seconds)
        print(f"{size:g}: {seconds[-1]:.2f} s, {peaks[-1]:.0f} MB", file=sys.stderr)
    upper = len(sizes) // 2
    exponent, _ = statistics.linear_regression([*map(math.log, sizes[upper:])], [*map(math.log, seconds[upper:])])
    return {"sizes": sizes, "seconds": seconds, "peak MB": peaks, "exponent": exponent}


def table(rows: list[dict]) -> str:
    """Lay rows out as a Markdown table, numbers with three significant figures."""

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return value
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    lines = [list(rows[0]), ["---" if isinstance(value, str) else "--:" for value in rows[0].values()]]
    lines += [[cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def growth_table(unit: str, growth: dict) -> str:
    """Lay out what `grow` found."""
    columns = zip(growth["sizes"], growth["seconds"], growth["peak MB"], strict=True)
    rows = [dict(zip((unit, "seconds", "peak MB"), row, strict=True)) for row in columns]
    start = growth["sizes"][len(growth["sizes"]) // 2]
    return f"{table(rows)}\n\nFitted: seconds ~ ({unit}) ^ {growth['exponent']:.2f}, from {start:g} {unit} on"


def machine() -> dict:
    """Describe the hardware and the versions that the figures hold for."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    packages = ["datasets", "deepspeed", "pandas", "polars", "pyarrow", "tokenizers", "torch", "transformers"]
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory GB": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
    }


def save(stage: str, figures: dict, name: str) -> None:
    """Put a stage's figures into bench/results/<name>.json beside those of the other stages."""
    path = RESULTS / f"{name}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= {"machine": machine(), stage: figures}
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def parse_args(description: str | None) -> argparse.Namespace:
    """Read the options that every bench takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{os.cpu_count()}-cores-{machine()['cpu']}".lower()).strip("-")
    parser.add_argument("--machine", default=slug, help=f"name of the file of results ({slug})")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each command (3)")
    parser.add_argument("--quick", action="store_true", help="small inputs, to see that it works")
    return parser.parse_args()


@contextmanager
def sample_logs(num_messages: int) -> Path:
    """Make logs of that many messages in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder, "logs")
        run([sys.executable, "data/make_sample_logs.py", "--messages", str(num_messages), "--output-dir", logs])
        yield logs
