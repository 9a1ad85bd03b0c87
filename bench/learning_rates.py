"""Train SmolLM2-135M on a little real chat with several learning rates, epochs and adapters: a table of the bits per
byte of the test split. For the defaults of train.py. Each run takes minutes on a CPU.

    python bench/learning_rates.py --logs-dir ~/logs
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from harness import ROOT, find_chats, parse_args, run, save, table
from quality_bits import bits_by_epoch
from quality_start import BATCH_SIZE, BLOCK_SIZE, Start, start_pretrained

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
NUM_TOKENS, TEST_SHARE = 36_000, 0.25


def train(start: Start, dataset: Path, output: Path, rate: float, epochs: int, rank: int) -> dict:
    """Return a row of the table: what was chosen, and the bits per byte before training and after each epoch."""
    options = ["--overwrite", "--learning-rate", f"{rate:g}", "--lora-rank", str(rank)]
    replace(start, epochs=epochs, train_options=[*start.train_options, *options]).train(dataset, output)
    before, *after = bits_by_epoch(output)
    return {
        "learning rate": f"{rate:g}",
        "LoRA rank": str(rank or "none"),
        "epochs": str(epochs),
        "before": f"{before:.3f}",
        "bits per byte after each epoch": ", ".join(f"{bits:.3f}" for bits in after),
    }


def main() -> None:
    args = parse_args(__doc__, rounds=None)
    start, rows = start_pretrained(args.quick), []
    *_, logs = find_chats(ROOT / "data/sample_logs", args).values()
    setting = {"tokens": NUM_TOKENS, "block size": BLOCK_SIZE, "batch size": BATCH_SIZE, "precision": start.precision}
    if not args.quick:
        start = replace(start, tokenize_options=["--max-tokens", str(NUM_TOKENS), "--test-size", str(TEST_SHARE)])
    with tempfile.TemporaryDirectory() as scratch:
        raw, dataset = Path(scratch, "raw"), Path(scratch, "dataset")
        run([sys.executable, "parse_logs.py", "--logs-dir", logs, "--output-dir", raw])
        start.tokenize(raw, dataset)
        for each in RUNS[4:5] if args.quick else RUNS:
            rows.append(train(start, dataset, Path(scratch, "out"), *each))
            print(json.dumps(rows[-1]), file=sys.stderr)
            save("learning rates", {"setting": setting, "rows": rows}, args)
    print(table(rows))


if __name__ == "__main__":
    main()
