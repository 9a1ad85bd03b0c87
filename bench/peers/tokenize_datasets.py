"""Tokenize with datasets in the usual way: map over batches, a process for each core, and group like run_clm.py."""

import os
import sys
from itertools import chain

from datasets import load_dataset
from transformers import AutoTokenizer

BLOCK_SIZE = 512


def main() -> None:
    input_dir, output_dir, model = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(model)

    def encode(batch: dict) -> dict:
        return tokenizer([f"{message or ''}\n" for message in batch["message"]])

    def group(batch: dict) -> dict:
        grouped = {}
        for name, rows in batch.items():
            joined = list(chain(*rows))
            whole = len(joined) // BLOCK_SIZE * BLOCK_SIZE
            grouped[name] = [joined[i : i + BLOCK_SIZE] for i in range(0, whole, BLOCK_SIZE)]
        return grouped

    dataset = load_dataset("csv", data_files=f"{input_dir}/*.csv", split="train")
    dataset = dataset.map(encode, batched=True, num_proc=os.cpu_count(), remove_columns=dataset.column_names)
    dataset = dataset.map(group, batched=True, num_proc=os.cpu_count())
    dataset.train_test_split(0.1, seed=42).save_to_disk(output_dir)


if __name__ == "__main__":
    main()
