"""Blocks of tokens on disk, as train.py reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chatter.cli import InputError

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from datasets import Dataset, DatasetDict
    from transformers import PreTrainedTokenizerBase


def load_blocks(dataset_dir: Path) -> tuple[DatasetDict, PreTrainedTokenizerBase]:
    """Load the blocks, column `input_ids` as NumPy arrays (block_size,), and the tokenizer they were made with."""
    from datasets import DatasetDict
    from transformers import AutoTokenizer

    try:
        blocks = DatasetDict.load_from_disk(dataset_dir)
        tokenizer = AutoTokenizer.from_pretrained(dataset_dir / "tokenizer")
        _ = blocks["train"][0], blocks["test"][0]
    except Exception as error:  # an empty split is an IndexError, a missing one a KeyError, and so on
        raise InputError(
            f"{dataset_dir} is not a complete dataset. Run tokenize_logs.py first, or pass another folder with "
            "--dataset-dir."
        ) from error
    if None in (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id):
        raise InputError(
            f"the tokenizer of {dataset_dir} has no token for padding, a beginning or an end. Run tokenize_logs.py."
        )
    for name in ("train", "test"):
        if fault := find_fault(blocks[name], tokenizer, len(blocks["train"][0].get("input_ids", ()))):
            raise InputError(f"the split {name} of {dataset_dir} {fault}. Run tokenize_logs.py, which writes it right.")
    return blocks.select_columns(["input_ids"]).with_format("numpy"), tokenizer


def find_fault(split: Dataset, tokenizer: PreTrainedTokenizerBase, block_size: int) -> str:
    """Return what is wrong with a split that was made by hand, or ""."""
    import numpy as np

    if "input_ids" not in split.column_names:
        return "has no column input_ids"
    for batch in split.select_columns(["input_ids"]).with_format("numpy").iter(batch_size=1000):
        rows = batch["input_ids"]
        if any(np.ndim(row) != 1 or len(row) != block_size for row in rows):
            return f"has rows of different lengths, where each should have {block_size} tokens"
        ids = np.stack(rows)  # (1000, block_size)
        if not np.issubdtype(ids.dtype, np.integer):
            return f"has token ids of type {ids.dtype}, not integers"
        if ids.min() < 0 or ids.max() >= len(tokenizer):
            return f"has token ids beyond the {len(tokenizer)} tokens of its tokenizer"
        if (ids[:, 1:] == tokenizer.pad_token_id).all(axis=1).any():
            return "has a row without text"
    return ""
