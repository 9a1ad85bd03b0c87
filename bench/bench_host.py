"""Time the host's work in a step of train.py: DeepSpeed with and without offloading, the Trainer, a plain loop.

A model of 24 narrow layers, blocks of 8 tokens and three micro-batches a step: there is little to compute, so the time
is what Python and the libraries take, which a GPU would wait for. It says nothing about a GPU's own speed. Each row is
a process of its own; wall time is the median over its steps, and then over the rounds.

    python bench/bench_host.py
    python bench/bench_host.py --quick
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

from harness import Run, parse_args, run, save, table
from random_models import BATCH_SIZE, SHAPES, make_dataset, make_model

BLOCK_SIZE, MICRO_BATCH_SIZE = 8, 8
SHAPES["deep"] = (64, 24, 4)
BAR = 3.0  # times --no-deepspeed in wall time, for the default


def read_step(done: Run) -> tuple[float, float]:
    """Return the milliseconds of wall time and of CPU time that a step took."""
    found = re.search(r"a step: ([\d.]+) ms, ([\d.]+) ms of CPU time", done.output)
    return float(found[1]), float(found[2])


def measure(model: Path, scratch: Path, num_steps: int, rounds: int) -> list[dict]:
    """Return a row for each mode; they are timed in turns."""
    options = ["--model", model, "--dataset-dir", scratch / "dataset", "--max-steps", str(num_steps), "--device", "cpu"]
    ours = [sys.executable, "bench/train_steps.py", *options]
    sizes = [str(num_steps), str(BATCH_SIZE), str(MICRO_BATCH_SIZE), "fp32"]
    commands = {
        "train.py --no-deepspeed": [*ours, "--no-deepspeed"],
        "train.py": ours,
        "train.py --no-offload": [*ours, "--no-offload"],
        "hand-written loop": [sys.executable, "bench/peers/train_loop.py", model, scratch / "dataset", *sizes],
    }
    taken = {name: [] for name in commands}
    for round_ in range(rounds):
        for name, command in commands.items():
            taken[name].append(read_step(run(command)))
            print(f"{name}: round {round_ + 1} of {rounds}, {taken[name][-1][0]:.0f} ms a step", file=sys.stderr)
    first = taken["train.py --no-deepspeed"]
    return [
        {
            "name": name,
            "relative time": statistics.median(a[0] / b[0] for a, b in zip(each, first, strict=True)),
            "ms a step": statistics.median(wall for wall, _ in each),
            "min": min(wall for wall, _ in each),
            "max": max(wall for wall, _ in each),
            "ms of CPU time": statistics.median(cpu for _, cpu in each),
        }
        for name, each in taken.items()
    ]


def main() -> None:
    args = parse_args(__doc__, rounds=3)
    os.environ |= {"TORCH_COMPILE_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # of the loop; CPU time is then of one thread
    num_steps = 8 if args.quick else 20
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        make_model(scratch / "model", "deep")
        make_dataset(scratch, scratch / "model", BATCH_SIZE * num_steps, BLOCK_SIZE)
        rows = measure(scratch / "model", scratch, num_steps, args.rounds)
    print(f"{BATCH_SIZE} blocks of {BLOCK_SIZE} tokens per step, on one core\n\n{table(rows)}\n")
    print(f"the default takes {rows[1]['relative time']:.2f} times as long as --no-deepspeed (bar: {BAR})")
    save("host", {"rows": rows}, args)


if __name__ == "__main__":
    main()
