"""What the chatters of bench_quality.py start from, and how they are trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cpu_precision import faster_precision
from harness import ROOT, Command, run

SMOLLM2 = ROOT / "models/smollm2"  # by `make pretrained`
BLOCK_SIZE, BATCH_SIZE = 128, 8


@dataclass(frozen=True)
class Start:
    """A model, and the options with which chat is tokenized for it and it is trained."""

    model: Path
    epochs: int
    precision: str
    tokenize_options: list[str]
    train_options: list[str]

    def describe(self) -> str:
        return f"{self.epochs} epoch{'s' * (self.epochs > 1)}"

    def tokenize(self, raw: Path, dataset: Path, *options: str) -> None:
        """Write the dataset of the CSVs in `raw`."""
        command = [sys.executable, "tokenize_logs.py", "--input-dir", raw, "--output-dir", dataset]
        run([*command, "--model", self.model, "--block-size", str(BLOCK_SIZE), *self.tokenize_options, *options])

    def train(self, dataset: Path, chatter: Path, script: Command = ("train.py",)) -> None:
        """Train a chatter."""
        command = [sys.executable, *script, "--dataset-dir", dataset, "--output-dir", chatter, "--model", self.model]
        command += ["--epochs", str(self.epochs), "--batch-size", str(BATCH_SIZE), "--precision", self.precision]
        run([*command, "--no-deepspeed", *self.train_options])


def start_small(raw: Path, tiny: Path, quick: bool) -> Start:
    """Return random weights in the shape of models/tiny-gpt2, with a vocabulary of the chat in `raw`."""
    run([sys.executable, "models/make_tiny_gpt2.py", "--input-dir", raw, "--output-dir", tiny])
    # Many small steps, because there is little chat. DeepSpeed trains the same weights, in three times the time.
    options = ["--learning-rate", "2e-3"]
    epochs, size = (1, ["--max-tokens", "30000"]) if quick else (3, [])
    return Start(tiny, epochs, "auto", size, options)


def find_smollm2() -> Path:
    """Return the folder of the pretrained model. Ends the bench if it is not there."""
    if not SMOLLM2.is_dir():
        sys.exit(f"no model in {SMOLLM2}. Run make {SMOLLM2.relative_to(ROOT)}/config.json first.")
    return SMOLLM2


def start_pretrained(quick: bool) -> Start:
    """Return the pretrained model, and the settings of `make pretrained`."""
    options = ["--keep-checkpoints", "1", "--device", "cpu"]
    return Start(find_smollm2(), 1, faster_precision(), ["--max-tokens", "8000" if quick else "144000"], options)
