"""train.py in its three ways beside the plain Trainer and a hand-written loop: tokens a second and memory.

On a GPU: gpt2-medium's shape with random weights, fp16. On a CPU: models/tiny-gpt2, float32. 24 blocks of 512 tokens
a step in micro-batches of 8; random tokens, which cost what real ones cost. Each row is a process of its own; its
speed is the median over stretches of 10 steps, the first left out.

python bench/bench_train.py
"""

import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from bench_generate import make_model
from harness import ROOT, Run, parse_args, run, save, table

from tokenize_logs import load_tokenizer, save_dataset

BATCH_SIZE = 24
# Dense half-precision peak in FLOP/s, from NVIDIA's data sheets. Without a known peak there is no MFU.
PEAKS = {"V100": 125e12, "A100": 312e12, "H100": 989e12, "H200": 989e12}


def make_dataset(folder: Path, model: Path, num_blocks: int, block_size: int) -> None:
    """Save random blocks as tokenize_logs.py does, with 24 more for the evaluation, and the tokenizer."""
    tokenizer = load_tokenizer(str(model))
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, tokenizer.eos_token_id, (num_blocks + BATCH_SIZE, block_size), dtype=np.uint16)
    blocks.tofile(folder / "blocks")
    save_dataset(folder / "blocks", blocks.shape, tokenizer, BATCH_SIZE / len(blocks), 0, folder / "dataset")
    tokenizer.save_pretrained(folder / "dataset/tokenizer")


def speeds_of(done: Run) -> list[float]:
    """Read the tokens a second of each stretch of 10 steps off what a run printed, without the first."""
    return [float(number.replace(",", "")) for number in re.findall(r"tokens/s ([\d,]+)", done.output)][1:]


def flops_per_token(model: Path, block_size: int) -> float:
    """Count a training step's FLOP a token: 6 a parameter, and 12 * layers * width * block for attention (PaLM, B)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        num_parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    return 6 * num_parameters + 12 * config.n_layer * config.n_embd * block_size


def main() -> None:
    args = parse_args(__doc__)
    cuda = torch.cuda.is_available()
    precision, num_steps = ("fp16", 60) if cuda else ("fp32", 20)
    block_size = 64 if args.quick else 512
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        model = scratch / "model"
        if cuda:
            make_model(model, "gpt2-medium")
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
        for round_ in range(min(args.rounds, 2)):  # in turns, for the machine's own ups and downs
            for name, command in commands.items():
                runs[name].append(run(command, sample_memory=True))
                print(f"{name}: round {round_ + 1}, {speeds_of(runs[name][-1])}", file=sys.stderr)
        flops = flops_per_token(model, block_size)
    peak = next((peak for name, peak in PEAKS.items() if cuda and name in torch.cuda.get_device_name()), None)
    medians_of = {name: [statistics.median(speeds_of(each)) for each in done] for name, done in runs.items()}
    loop = medians_of["5 hand-written loop"]
    rows = []
    for name, done in runs.items():
        medians = medians_of[name]
        speed = statistics.median(medians)
        row = {
            "name": name,
            "tokens/s": speed,
            "min": min(medians),
            "max": max(medians),
            "times as fast as 5": statistics.median(a / b for a, b in zip(medians, loop, strict=True)),
            "peak MB": max(each.peak for each in done) / 1e6,
        }
        if cuda:
            row |= {"GPU peak MB": max(each.device_peak for each in done) / 1e6}
            row |= {"MFU": speed * flops / peak} if peak else {}
        rows.append(row)
    print(f"{precision}, {block_size} tokens a block, {BATCH_SIZE} blocks a step\n\n{table(rows)}")
    print("" if cuda else "\nThe GPU part was not run: no GPU")
    if not args.quick:
        save("train on a GPU" if cuda else "train", {"rows": rows}, args.machine)


if __name__ == "__main__":
    main()
