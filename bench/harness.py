"""Time commands side by side: fresh processes in turns, medians over rounds, peak memory by sampling.

Each bench_*.py times one stage next to its peers, prints tables on stdout, and saves its figures in
bench/results/<machine>.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also for the benches, which import this module first

from chatter.cli import make_parser, positive_int
from chatter.devices import count_gpus, take_one_gpu
from chatter.files import atomic_output

os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the numbers of nvidia-smi
take_one_gpu(count_gpus())  # for this process and for the commands that it starts: the peers would take all

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench/results"
GPT2_TOKENIZER = ROOT.parent / "shared/gpt2-tokenizer"
LONG = 10  # seconds: what takes longer runs once
Command = list[str | Path]


@dataclass
class Run:
    seconds: float
    peak: int = 0  # memory of all its processes, bytes
    output: str = ""  # stdout and stderr


def run(command: Command, sample_memory: bool = False) -> Run:
    """Run a command to its end. If it fails, print its output and end the bench.

    With `sample_memory`, memory is sampled, as the proportional set size: memory that processes share counts once. That
    is done up to ten times a second, and takes at most 2% of one core.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = psutil.Popen(list(map(str, command)), cwd=ROOT, stdout=output, stderr=output)
        done = Run(0)
        while sample_memory and process.poll() is None:
            before = time.perf_counter()
            done.peak = max(done.peak, process_memory(process))
            now = time.perf_counter()
            pause = max(min(0.1, (now - started) / 10), 50 * (now - before))  # more often at first
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(pause)
        code = process.wait()
        done.seconds = time.perf_counter() - started
        output.seek(0)
        done.output = output.read().decode(errors="replace")
        if code:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.output}")
    return done


def process_memory(process: psutil.Process) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    total = 0
    for each in [process, *descendants(process)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:  # it has just ended
            continue
    return total


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:  # it has just ended
        return []


def compare(commands: dict[str, Command], units: dict[str, float], rounds: int, long: float = LONG) -> list[dict]:
    """Time commands in turns, after one run of each that warms the disk cache and samples memory.

    Of what takes more than `long` seconds, that run is the only one. `units` is how much each command processes, as in
    {"MB": 200.0, "messages": 2.7e6}. Return the rows of `time_in_turns`, with the peak memory in MB.
    """
    first = {}
    for name, command in commands.items():
        first[name] = run(command, sample_memory=True)
        print(f"{name}: first run, {first[name].seconds:.2f} s", file=sys.stderr)
    calls = {name: lambda command=command: run(command) for name, command in commands.items()}
    known = {name: [done.seconds] for name, done in first.items() if done.seconds > long}
    rows = summarize(take_turns(calls, rounds, long, known), units)
    return [row | {"peak MB": first[row["name"]].peak / 1e6} for row in rows]


def time_in_turns(calls: dict[str, Callable[[], object]], units: dict[str, float], rounds: int) -> list[dict]:
    """Time calls in turns, so that a slow minute of the machine slows all; calls longer than LONG run once.

    Return a row for each call: its name, the median, min and max of its seconds, units per second, and its time
    relative to the first call, as the median of the ratios within each round.
    """
    return summarize(take_turns(calls, rounds, LONG, {}), units)


def time_call(call: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def take_turns(
    calls: dict[str, Callable[[], object]], rounds: int, long: float, known: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Return the seconds that each call took in each round, `known` ones included; what takes long runs once."""
    seconds = {name: known.get(name, []) for name in calls}
    for round_ in range(rounds):
        for name, call in calls.items():
            if seconds[name] and seconds[name][0] > long:
                continue
            seconds[name].append(time_call(call))
            print(f"{name}: round {round_ + 1} of {rounds}, {seconds[name][-1]:.2f} s", file=sys.stderr)
    return seconds


def summarize(seconds: dict[str, list[float]], units: dict[str, float]) -> list[dict]:
    """Return the rows of `time_in_turns`."""
    first = next(iter(seconds.values()))
    return [
        {
            "name": name,
            "seconds": statistics.median(taken),
            "min": min(taken),
            "max": max(taken),
            "relative time": statistics.median(a / b for a, b in zip(taken, first, strict=False)),
            **{f"{unit}/s": amount / statistics.median(taken) for unit, amount in units.items()},
        }
        for name, taken in seconds.items()
    ]


def time_growth(make_command: Callable[[float], Command], sizes: list[float]) -> dict:
    """Time a command on inputs of growing size, and fit seconds ~ size ** exponent.

    The fit leaves out the lower half of the sizes, where most of the time is start-up. The timed run of each size comes
    after a run that samples memory. Return the sizes, seconds, peak memory in MB, and the exponent.
    """
    seconds, peaks = [], []
    for size in sizes:
        command = make_command(size)
        peaks.append(run(command, sample_memory=True).peak / 1e6)
        seconds.append(run(command).seconds)
        print(f"{size:g}: {seconds[-1]:.2f} s, {peaks[-1]:.0f} MB", file=sys.stderr)
    upper = len(sizes) // 2
    exponent, _ = statistics.linear_regression([*map(math.log, sizes[upper:])], [*map(math.log, seconds[upper:])])
    return {"sizes": sizes, "seconds": seconds, "peak MB": peaks, "exponent": exponent}


def table(rows: list[dict]) -> str:
    """Return a Markdown table of rows, its numbers with three significant figures."""

    def cell(value: str | float) -> str:
        if isinstance(value, str):
            return value
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    lines = [list(rows[0]), ["---" if isinstance(value, str) else "--:" for value in rows[0].values()]]
    lines += [[cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def growth_table(unit: str, growth: dict) -> str:
    """Return a Markdown table of what `time_growth` returned, and the fit."""
    columns = zip(growth["sizes"], growth["seconds"], growth["peak MB"], strict=True)
    rows = [dict(zip((unit, "seconds", "peak MB"), row, strict=True)) for row in columns]
    start = growth["sizes"][len(growth["sizes"]) // 2]
    return f"{table(rows)}\n\nFrom {start:g} {unit} on, the time grows like size ^ {growth['exponent']:.2f}."


def machine() -> dict:
    """Return the hardware and the package versions that the figures were measured with."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    packages = ["datasets", "deepspeed", "pandas", "polars", "pyarrow", "tokenizers", "torch", "transformers"]
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory GB": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages if find_spec(package)},
    } | ({"gpu": gpu_name()} if gpu_name() else {})


def gpu_name() -> str:
    """Return the name of the GPU in use and its driver, according to nvidia-smi; "" if there is none."""
    if not shutil.which("nvidia-smi") or not os.environ["CUDA_VISIBLE_DEVICES"]:
        return ""
    query = ["nvidia-smi", f"--id={os.environ['CUDA_VISIBLE_DEVICES']}", "--query-gpu=name,driver_version"]
    found = subprocess.run([*query, "--format=csv,noheader"], capture_output=True, text=True)
    return found.stdout.strip() if not found.returncode else ""


def parse_args(
    docstring: str, rounds: int | None = 3, options: Mapping[str, dict[str, Any]] | None = None
) -> argparse.Namespace:
    """Parse the options that the benches share, and more `options`, each with its arguments for `add_argument`.

    `rounds` is the default of --rounds; None leaves the option out.
    """
    parser = make_parser(docstring)
    slug = re.sub(r"[^a-z0-9]+", "-", f"{os.cpu_count()}-cores-{machine()['cpu']}".lower()).strip("-")
    parser.add_argument("--machine", default=slug, help="name of the file of results")
    if rounds:
        rounds_help = f"timed runs of each command (default: {rounds}, or 1 with --quick, and of what takes long)"
        parser.add_argument("--rounds", type=positive_int, help=rounds_help)
    parser.add_argument(
        "--quick", action="store_true", help="only check that everything works: small inputs, no results saved"
    )
    parser.add_argument("--logs-dir", type=Path, help="also measure with these logs, where chat matters")
    for option, arguments in (options or {}).items():
        parser.add_argument(option, **arguments)
    args = parser.parse_args()
    if rounds:
        args.rounds = args.rounds or (1 if args.quick else rounds)
    return args


def save(stage: str, figures: dict, args: argparse.Namespace) -> None:
    """Save the figures of a stage in bench/results/<machine>.json, beside other stages; not with --quick."""
    if args.quick:
        return
    path = RESULTS / f"{args.machine}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= {"machine": machine(), stage: figures}
    RESULTS.mkdir(exist_ok=True)
    with atomic_output(path) as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n")


@contextlib.contextmanager
def sample_logs(num_messages: int) -> Iterator[Path]:
    """Yield a folder of made-up logs with about this many messages, and delete it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder, "logs")
        run([sys.executable, "data/make_sample_logs.py", "--messages", str(num_messages), "--output-dir", logs])
        yield logs


def find_chats(
    sample: Path, args: argparse.Namespace, repeated: Path | None = None, num_bytes: int = 0
) -> dict[str, Path]:
    """Return folders of logs: the made-up ones in `sample`, and the real ones of --logs-dir.

    Without --quick, the real ones are copied to the folder `repeated`, if it is given, until they have `num_bytes`.
    """
    if not args.logs_dir:
        return {"sample": sample}
    real = args.logs_dir.resolve()
    if repeated and not args.quick:
        repeat_logs(real, repeated, num_bytes)
        real = repeated
    return {"sample": sample, "real": real}


def find_model(folder: Path) -> str:
    """Return the --model to tokenize for: gpt2-medium on the hub, or `folder`.

    The latter gets GPT-2's vocabulary from ../shared/gpt2-tokenizer, if that is there.
    """
    if not GPT2_TOKENIZER.is_dir():
        return "gpt2-medium"
    from transformers import GPT2TokenizerFast

    GPT2TokenizerFast.from_pretrained(GPT2_TOKENIZER).save_pretrained(folder)
    return str(folder)


def repeat_logs(logs_dir: Path, folder: Path, num_bytes: int) -> None:
    """Copy logs to `folder` under new names, over and over, until they have `num_bytes`.

    Each copy begins with a line of its own, and has its own size, as parse_logs.py looks for copies and skips them.
    """
    folder.mkdir()
    for number, log in enumerate(itertools.cycle(sorted(logs_dir.iterdir()))):
        if num_bytes <= 0:
            return
        copy = folder / f"{number}{log.name}"
        copy.write_bytes(f"[2024-03-7 21:05:09] #copies copy: {'x' * number}\n".encode() + log.read_bytes())
        num_bytes -= copy.stat().st_size
