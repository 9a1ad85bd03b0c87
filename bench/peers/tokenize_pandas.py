"""Tokenize like many notebooks: read with pandas, call the tokenizer once per row, and keep all blocks in a list."""

import sys
from pathlib import Path

import pandas as pd
from datasets import Dataset
from transformers import AutoTokenizer

BLOCK_SIZE = 512

input_dir, output_dir, model = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
csv_paths = sorted(Path(input_dir).glob("*.csv"))
messages = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False) for path in csv_paths])["message"]
tokens = [token for ids in messages.apply(lambda text: tokenizer.encode(f"{text}\n")) for token in ids]
blocks = [tokens[i : i + BLOCK_SIZE] for i in range(0, len(tokens) - BLOCK_SIZE + 1, BLOCK_SIZE)]
Dataset.from_dict({"input_ids": blocks}).train_test_split(0.1, seed=42).save_to_disk(output_dir)
