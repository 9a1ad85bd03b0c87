"""Time train.py in its modes next to the plain Trainer and a hand-written loop: tokens per second, memory, checkpoints.

On a GPU: gpt2-medium's shape with random weights, in fp16. On a CPU: models/tiny-gpt2, in float32. Each step has 24
blocks of 512 tokens in micro-batches of 8. The tokens are random; real ones take as long. Each row is a
process of its own. Its speed is the median over stretches of 10 steps, without the first stretch.

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
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from harness import ROOT, Run, make_model, parse_args, run, save, table, time_in_turns

from chatter.tokens.dataset import save_dataset
from chatter.tokens.splits import split_blocks
from chatter.tokens.tokenizer import load_tokenizer
from chatter.training.memory import Mode, describe
from chatter.training.model import fuse_gelu
from chatter.training.speed import find_peak, flops_per_token

BATCH_SIZE = 24
GPU_PEAK = r"peak of GPU memory: ([\d.]+) GB"  # in what a run prints, by PyTorch's own count


def make_dataset(folder: Path, model: Path, num_blocks: int, block_size: int) -> None:
    """Save `num_blocks` random blocks for training and BATCH_SIZE for testing, as tokenize_logs.py does."""
    tokenizer = load_tokenizer(str(model))
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, tokenizer.eos_token_id, (num_blocks + BATCH_SIZE, block_size), dtype=np.uint16)
    blocks.tofile(folder / "blocks")
    splits = split_blocks(len(blocks), BATCH_SIZE / len(blocks), 0)
    save_dataset(folder / "blocks", splits, blocks.shape[1], tokenizer, folder / "dataset")
    tokenizer.save_pretrained(folder / "dataset/tokenizer")


def read_speeds(done: Run) -> list[float]:
    """Return the tokens per second that a run printed for each stretch of 10 steps, without the first."""
    return [float(number.replace(",", "")) for number in re.findall(r"tokens/s ([\d,]+)", done.output)][1:]


def flops_of(model: Path, block_size: int) -> float:
    """Return the FLOPs of a training step per token."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    return flops_per_token(describe(network, block_size, Mode(half=True)), block_size)


def read_number(done: Run, pattern: str) -> float:
    """Return the last number that a pattern finds in what a run printed; 0 if it finds none."""
    found = re.findall(pattern, done.output)
    return float(found[-1]) if found else 0.0


def make_commands(
    model: Path, scratch: Path, num_steps: int, precision: str, device: str = "auto"
) -> dict[str, list[str | Path]]:
    """Return the commands that train on scratch/dataset."""
    ours = [sys.executable, "train.py", "--model", model, "--dataset-dir", scratch / "dataset", "--overwrite"]
    ours += ["--output-dir", scratch / "out", "--max-steps", str(num_steps), "--precision", precision]
    ours += ["--device", device]
    peer = [model, scratch / "dataset", str(num_steps), str(BATCH_SIZE), "8", precision]
    return {
        "1 train.py": ours,
        "2 train.py --no-offload": [*ours, "--no-offload"],
        "3 train.py --no-deepspeed": [*ours, "--no-deepspeed"],
        "4 plain Trainer": [sys.executable, "bench/peers/train_trainer.py", *peer, scratch / "peer"],
        "5 hand-written loop": [sys.executable, "bench/peers/train_loop.py", *peer],
        "6 train.py --lora-rank 16": [*ours, "--lora-rank", "16"],
    }


def measure(
    model: Path, scratch: Path, num_steps: int, precision: str, rounds: int, device: str, sampled: Sequence[str]
) -> list[dict]:
    """Time the six commands in turns, so that a slow minute of the machine slows all of them; return their rows.

    Host memory is sampled in extra, shorter runs of the rows `sampled`, which are not timed.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    block_size = len(DatasetDict.load_from_disk(scratch / "dataset")["train"][0]["input_ids"])
    commands = make_commands(model, scratch, num_steps, precision, device)
    runs, checkpoints = {name: [] for name in commands}, {}
    for round_ in range(rounds):
        for name, command in commands.items():
            runs[name].append(run(command))
            if "train.py" in name:
                [*_, checkpoint] = sorted(Path(scratch, "out-checkpoints").glob("checkpoint-*"))
                files = [path for path in checkpoint.rglob("*") if path.is_file()]
                checkpoints[name] = sum(path.stat().st_size for path in files) / 1e6
            speeds = ", ".join(f"{speed:,.0f}" for speed in read_speeds(runs[name][-1]))
            print(f"{name}: round {round_ + 1} of {rounds}, {speeds} tokens/s", file=sys.stderr)
    short = make_commands(model, scratch, 2, precision, device)
    peaks = {name: run(short[name], sample_memory=True).peak / 1e6 for name in sampled}
    medians = {name: [statistics.median(read_speeds(each)) for each in done] for name, done in runs.items()}
    loop, rows = medians["5 hand-written loop"], []
    for name, done in runs.items():
        speed = statistics.median(medians[name])
        row = {
            "name": name,
            "tokens/s": speed,
            "min": min(medians[name]),
            "max": max(medians[name]),
            "relative speed": statistics.median(a / b for a, b in zip(medians[name], loop, strict=True)),
            "peak MB": peaks.get(name, ""),
            "checkpoint MB": checkpoints.get(name, ""),
        }
        if gpu:
            row |= {"GPU peak GB": max(read_number(each, GPU_PEAK) for each in done)}
            row |= {"MFU": speed * flops_of(model, block_size) / find_peak(gpu)} if find_peak(gpu) else {}
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
    cuda = torch.cuda.is_available()
    precision, device = ("fp16", "cuda") if cuda else ("fp32", "cpu")
    num_steps = 60 if cuda and not args.quick else 20
    block_size = 64 if args.quick else 512
    if args.quick:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # the hand-written loop would compile for a minute
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        model = scratch / "model"
        if cuda:
            make_model(model, "small" if args.quick else "gpt2-medium")
        else:
            shutil.copytree(ROOT / "models/tiny-gpt2", model)
        make_dataset(scratch, model, BATCH_SIZE * num_steps, block_size)
        sampled = [*make_commands(model, scratch, num_steps, precision)]
        rows = measure(model, scratch, num_steps, precision, args.rounds, device, sampled)
    print(f"{precision}, {block_size} tokens per block, {BATCH_SIZE} blocks per step\n\n{table(rows)}\n")
    figures = {"rows": rows}
    if not cuda:
        print("no GPU: training on a GPU was not timed\n")
        figures["gelu"] = {"rows": measure_gelu(3 if args.quick else 5)}
        print(f"forward and backward of the tiny model\n\n{table(figures['gelu']['rows'])}")
    save("train on a GPU" if cuda else "train", figures, args)


if __name__ == "__main__":
    main()
