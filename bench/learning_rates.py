"""Train a pretrained model on a little real chat with several learning rates, epochs and adapters: a table of the bits
per byte of the test split. For the defaults of train.py. Each run takes minutes on a CPU.

    python bench/learning_rates.py --logs-dir ~/logs --model models/smollm2
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from harness import parse_args, run, save, table

from chatter.training.outputs import METRICS

# Learning rate, epochs, rank of the adapters (0: the whole model is trained). The most informative ones come first.
RUNS = [
    (3e-4, 1, 0),
    (1e-3, 1, 0),
    (1e-4, 1, 0),
    (5e-4, 1, 0),
    (1e-3, 1, 16),
    (3e-4, 3, 0),
    (3e-3, 1, 16),
    (3e-3, 1, 64),
]
NUM_TOKENS, TEST_SHARE, BLOCK_SIZE, BATCH_SIZE = 36_000, 0.25, 128, 8


def train(dataset: Path, model: str, precision: str, output: Path, rate: float, epochs: int, rank: int) -> dict:
    """Return a row of the table: what was chosen, and the bits per byte before training and after each epoch."""
    options = ["--learning-rate", f"{rate:g}", "--epochs", str(epochs), *(["--lora-rank", str(rank)] if rank else [])]
    run(
        [
            *[sys.executable, "train.py", "--dataset-dir", dataset, "--model", model, "--output-dir", output, *options],
            *["--batch-size", str(BATCH_SIZE), "--precision", precision, "--device", "cpu"],
            *["--no-deepspeed", "--keep-checkpoints", "1", "--overwrite"],
        ]
    )
    history = json.loads((output / METRICS).read_text(encoding="utf-8"))["history"]
    before, *after = (entry["eval_bits_per_byte"] for entry in history if "eval_loss" in entry)
    return {
        "learning rate": f"{rate:g}",
        "LoRA rank": str(rank or "none"),
        "epochs": str(epochs),
        "before": f"{before:.3f}",
        "bits per byte after each epoch": ", ".join(f"{bits:.3f}" for bits in after),
    }


def main() -> None:
    options = {
        "--model": {"required": True, "help": "folder of a pretrained model"},
        "--precision": {"default": "bf16", "help": "of the training"},
    }
    args = parse_args(__doc__, rounds=None, options=options)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        raw, dataset = Path(scratch, "raw"), Path(scratch, "dataset")
        run([sys.executable, "parse_logs.py", "--logs-dir", args.logs_dir.resolve(), "--output-dir", raw])
        sizes = ["--block-size", str(BLOCK_SIZE), "--max-tokens", str(NUM_TOKENS), "--test-size", str(TEST_SHARE)]
        tokenize = [sys.executable, "tokenize_logs.py", "--input-dir", raw, "--output-dir", dataset, *sizes]
        run([*tokenize, "--model", args.model])
        for each in RUNS[:1] if args.quick else RUNS:
            rows.append(train(dataset, args.model, args.precision, Path(scratch, "out"), *each))
            print(json.dumps(rows[-1]), file=sys.stderr)
            setting = {"tokens": NUM_TOKENS, "block size": BLOCK_SIZE, "batch size": BATCH_SIZE}
            save("learning rates", {"setting": setting | {"precision": args.precision}, "rows": rows}, args)
    print(table(rows))


if __name__ == "__main__":
    main()
