"""Time train.py in its modes next to the plain Trainer and a hand-written loop: tokens per second, memory, checkpoints.

models/tiny-gpt2 on the CPU, in float32; `make gpu` measures a GPU. Each step has 24 blocks of 512 tokens in
micro-batches of 8. The tokens are random; real ones take as long. Each row is a process of its own. Its speed is the
median over stretches of 10 steps, without the first stretch.

    python bench/bench_train.py
    python bench/bench_train.py --quick
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from harness import ROOT, Command, Run, parse_args, run, save, table, time_in_turns
from random_models import BATCH_SIZE, make_dataset

from chatter.devices import hide_gpus
from chatter.training.model import fuse_gelu


def read_speeds(done: Run) -> list[float]:
    """Return the tokens per second that a run printed for each stretch of 10 steps, without the first."""
    return [float(number.replace(",", "")) for number in re.findall(r"tokens/s ([\d,]+)", done.output)][1:]


def make_commands(model: Path, scratch: Path, num_steps: int) -> dict[str, Command]:
    """Return the commands that train on scratch/dataset."""
    ours = [sys.executable, "train.py", "--model", model, "--dataset-dir", scratch / "dataset", "--overwrite"]
    ours += ["--output-dir", scratch / "out", "--max-steps", str(num_steps), "--device", "cpu"]
    peer = [model, scratch / "dataset", str(num_steps), str(BATCH_SIZE), "8", "fp32"]
    return {
        "1 train.py": ours,
        "2 train.py --no-offload": [*ours, "--no-offload"],
        "3 train.py --no-deepspeed": [*ours, "--no-deepspeed"],
        "4 plain Trainer": [sys.executable, "bench/peers/train_trainer.py", *peer, scratch / "peer"],
        "5 hand-written loop": [sys.executable, "bench/peers/train_loop.py", *peer],
        "6 train.py --lora-rank 16": [*ours, "--lora-rank", "16"],
    }


def measure(model: Path, scratch: Path, num_steps: int, rounds: int) -> list[dict]:
    """Time the six commands in turns, so that a slow minute of the machine slows all of them; return their rows."""
    commands = make_commands(model, scratch, num_steps)
    runs, checkpoints = {name: [] for name in commands}, {}
    for round_ in range(rounds):
        for name, command in commands.items():
            runs[name].append(run(command, sample_memory=True))
            if "train.py" in name:
                [*_, checkpoint] = sorted(Path(scratch, "out-checkpoints").glob("checkpoint-*"))
                files = [path for path in checkpoint.rglob("*") if path.is_file()]
                checkpoints[name] = sum(path.stat().st_size for path in files) / 1e6
            speeds = ", ".join(f"{speed:,.0f}" for speed in read_speeds(runs[name][-1]))
            print(f"{name}: round {round_ + 1} of {rounds}, {speeds} tokens/s", file=sys.stderr)
    medians = {name: [statistics.median(read_speeds(each)) for each in done] for name, done in runs.items()}
    loop, rows = medians["5 hand-written loop"], []
    for name in runs:
        speed = statistics.median(medians[name])
        row = {
            "name": name,
            "tokens/s": speed,
            "min": min(medians[name]),
            "max": max(medians[name]),
            "relative speed": statistics.median(a / b for a, b in zip(medians[name], loop, strict=True)),
            "peak MB": max(done.peak for done in runs[name]) / 1e6,
            "checkpoint MB": checkpoints.get(name, ""),
        }
        rows.append(row)
    return rows


def measure_gelu(rounds: int) -> list[dict]:
    """Time forward and backward of the tiny model on the CPU, with gelu_new as it is loaded and with the fused GELU."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(ROOT / "models/tiny-gpt2")
    input_ids = torch.randint(config.vocab_size, (8, min(512, config.n_positions)))
    networks = {"gelu_new": AutoModelForCausalLM.from_config(config).train()}
    networks["fused GELU"] = fuse_gelu(AutoModelForCausalLM.from_config(config).train())

    def step(network: torch.nn.Module) -> None:
        for _ in range(2):
            network(input_ids=input_ids, labels=input_ids).loss.backward()

    calls = {name: partial(step, network) for name, network in networks.items()}
    for call in calls.values():  # the first call sets up threads and buffers
        call()
    return time_in_turns(calls, {"tokens": 2 * input_ids.numel()}, rounds)


def main() -> None:
    args = parse_args(__doc__, rounds=1)
    hide_gpus()  # make gpu measures them
    num_steps, block_size = 20, 64 if args.quick else 512
    if args.quick:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # the hand-written loop would compile for a minute
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        model = scratch / "model"
        shutil.copytree(ROOT / "models/tiny-gpt2", model)
        make_dataset(scratch, model, BATCH_SIZE * num_steps, block_size)
        rows = measure(model, scratch, num_steps, args.rounds)
    print(f"{block_size} tokens per block, {BATCH_SIZE} blocks per step\n\n{table(rows)}\n")
    figures = {"rows": rows, "gelu": {"rows": measure_gelu(3 if args.quick else 5)}}
    print(f"forward and backward of the tiny model\n\n{table(figures['gelu']['rows'])}")
    save("train", figures, args)


if __name__ == "__main__":
    main()
