"""Time train.py in its three modes next to the plain Trainer and a hand-written loop: tokens per second, and memory.

On a GPU: gpt2-medium's shape with random weights, in fp16. On a CPU: models/tiny-gpt2, in float32. Each step has 24
blocks of 512 tokens in micro-batches of 8. The tokens are random, which takes as long as real ones. Each row is a
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
from pathlib import Path

import numpy as np
import torch
from harness import ROOT, Run, make_model, parse_args, run, save, table

from chatter.chat import load_tokenizer
from tokenize_logs import save_dataset

BATCH_SIZE = 24
# Dense half-precision peak in FLOP/s, from NVIDIA's data sheets. For other GPUs there is no MFU (model FLOPs
# utilization).
PEAKS = {"V100": 125e12, "A100": 312e12, "H100": 989e12, "H200": 989e12}


def make_dataset(folder: Path, model: Path, num_blocks: int, block_size: int) -> None:
    """Save `num_blocks` random blocks for training and BATCH_SIZE for testing, as tokenize_logs.py does."""
    tokenizer = load_tokenizer(str(model))
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, tokenizer.eos_token_id, (num_blocks + BATCH_SIZE, block_size), dtype=np.uint16)
    blocks.tofile(folder / "blocks")
    save_dataset(folder / "blocks", blocks.shape, tokenizer, BATCH_SIZE / len(blocks), 0, folder / "dataset")
    tokenizer.save_pretrained(folder / "dataset/tokenizer")


def read_speeds(done: Run) -> list[float]:
    """Return the tokens per second that a run printed for each stretch of 10 steps, without the first."""
    return [float(number.replace(",", "")) for number in re.findall(r"tokens/s ([\d,]+)", done.output)][1:]


def flops_per_token(model: Path, block_size: int) -> float:
    """Return the FLOPs of a training step per token, as counted in appendix B of the PaLM paper.

    That is 6 per parameter, and 12 * layers * width * block_size for the attention.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        num_parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    return 6 * num_parameters + 12 * config.n_layer * config.n_embd * block_size


def main() -> None:
    args = parse_args(__doc__, rounds=2)
    cuda = torch.cuda.is_available()
    precision = "fp16" if cuda else "fp32"
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
        ours = [sys.executable, "train.py", "--model", model, "--dataset-dir", scratch / "dataset", "--overwrite"]
        ours += ["--output-dir", scratch / "out", "--max-steps", str(num_steps), "--precision", precision]
        peer = [model, scratch / "dataset", str(num_steps), str(BATCH_SIZE), "8", precision]
        commands = {
            "1 train.py": ours,
            "2 train.py --no-offload": [*ours, "--no-offload"],
            "3 train.py --no-deepspeed": [*ours, "--no-deepspeed"],
            "4 plain Trainer": [sys.executable, "bench/peers/train_trainer.py", *peer, scratch / "peer"],
            "5 hand-written loop": [sys.executable, "bench/peers/train_loop.py", *peer],
        }
        runs = {name: [] for name in commands}
        for round_ in range(args.rounds):  # in turns, so that a slow minute of the machine slows all of them
            for name, command in commands.items():
                runs[name].append(run(command, sample_memory=True))
                speeds = ", ".join(f"{speed:,.0f}" for speed in read_speeds(runs[name][-1]))
                print(f"{name}: round {round_ + 1} of {args.rounds}, {speeds} tokens/s", file=sys.stderr)
        flops = flops_per_token(model, block_size)
    peak = next((peak for name, peak in PEAKS.items() if cuda and name in torch.cuda.get_device_name()), None)
    medians = {name: [statistics.median(read_speeds(each)) for each in done] for name, done in runs.items()}
    rows = []
    for name, done in runs.items():
        speed = statistics.median(medians[name])
        loop = medians["5 hand-written loop"]
        row = {
            "name": name,
            "tokens/s": speed,
            "min": min(medians[name]),
            "max": max(medians[name]),
            "relative speed": statistics.median(a / b for a, b in zip(medians[name], loop, strict=True)),
            "peak MB": max(each.peak for each in done) / 1e6,
        }
        if cuda:
            row |= {"GPU peak MB": max(each.gpu_peak for each in done) / 1e6}
            row |= {"MFU": speed * flops / peak} if peak else {}
        rows.append(row)
    print(f"{precision}, {block_size} tokens per block, {BATCH_SIZE} blocks per step\n\n{table(rows)}")
    if not cuda:
        print("\nno GPU: training on a GPU was not timed")
    save("train on a GPU" if cuda else "train", {"rows": rows}, args)


if __name__ == "__main__":
    main()
