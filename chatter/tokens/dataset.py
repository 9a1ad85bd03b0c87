"""Datasets of blocks: saved, loaded and checked, with a summary and a data card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from huggingface_hub import DatasetCardData
from transformers import PreTrainedTokenizerBase

from chatter.cards import TAGS, markdown_table, write_card
from chatter.cli import InputError
from chatter.tokens.packing import block_dtype

DATA_SUMMARY = "summary.json"  # beside a dataset: what tokenize_logs.py read, did and counted
BYTES, BYTES_BY_CHANNEL = "test bytes", "test bytes by channel"  # in the summary: of the text in the test split
SAVED_BLOCKS = 1000  # in memory at a time while the dataset is saved


def save_dataset(
    blocks_path: Path,
    splits: dict[str, np.ndarray],
    block_size: int,
    tokenizer: PreTrainedTokenizerBase,
    dataset_dir: Path,
) -> DatasetDict:
    """Save blocks of a file as a DatasetDict. `splits` has the numbers of the blocks of each split, as `split_blocks`.

    SAVED_BLOCKS blocks at a time are in memory.
    """
    dtype = block_dtype(tokenizer)
    features = Features(
        input_ids=List(Value(dtype.name), length=block_size), attention_mask=List(Value("int8"), length=block_size)
    )
    scratch = blocks_path.parent
    dataset = DatasetDict()
    for name, rows in splits.items():
        arrow_file = str(scratch / f"{name}.arrow")
        with ArrowWriter(path=arrow_file, features=features) as writer, blocks_path.open("rb") as file:
            for first in range(0, len(rows), SAVED_BLOCKS):
                some = rows[first : first + SAVED_BLOCKS]
                ids = np.empty((len(some), block_size), dtype)
                for block, row in zip(ids, some, strict=True):
                    file.seek(row * block.nbytes)  # a memory-mapped file would count as our memory
                    file.readinto(block)
                columns = [ids, (ids != tokenizer.pad_token_id).astype(np.int8)]
                lists = [pa.FixedSizeListArray.from_arrays(column.ravel(), block_size) for column in columns]
                writer.write_table(pa.Table.from_arrays(lists, schema=features.arrow_schema))
            writer.finalize()
        with open(arrow_file, "rb") as file:  # otherwise datasets picks a random one, and outputs differ between runs
            fingerprint = hashlib.file_digest(file, "md5").hexdigest()[:16]
        dataset[name] = Dataset(Dataset.from_file(arrow_file).data, fingerprint=fingerprint)
    dataset.save_to_disk(dataset_dir)
    return dataset


def load_blocks(dataset_dir: Path) -> tuple[DatasetDict, PreTrainedTokenizerBase]:
    """Load blocks (`input_ids`: NumPy arrays (block_size,)) and their tokenizer. Raises InputError if invalid."""
    from transformers import AutoTokenizer  # takes a second, which tokenize_logs.py does not need

    try:
        blocks = DatasetDict.load_from_disk(dataset_dir)
        tokenizer = AutoTokenizer.from_pretrained(dataset_dir / "tokenizer")
        tokenizer.chat_template = None  # of an assistant, in datasets of earlier versions
        _ = blocks["train"][0], blocks["test"][0]
    except Exception as error:  # an empty split is an IndexError, a missing one a KeyError, and so on
        raise InputError(
            f"{dataset_dir} is not a complete dataset. Run tokenize_logs.py first, or pass another folder with "
            "--dataset-dir."
        ) from error
    if None in (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id):
        raise InputError(
            f"the tokenizer of {dataset_dir} lacks a token for padding, beginning or end. Run tokenize_logs.py again."
        )
    for name in ("train", "test"):
        if fault := find_fault(blocks[name], tokenizer, len(blocks["train"][0].get("input_ids", ()))):
            raise InputError(f"the split {name} of {dataset_dir} {fault}. Run tokenize_logs.py to write a valid one.")
    return blocks.select_columns(["input_ids"]).with_format("numpy"), tokenizer


def find_fault(split: Dataset, tokenizer: PreTrainedTokenizerBase, block_size: int) -> str:
    """Return what is wrong with a split, or "". Datasets that tokenize_logs.py did not write may be invalid."""
    if "input_ids" not in split.column_names:
        return "has no column input_ids"
    for batch in split.select_columns(["input_ids"]).with_format("numpy").iter(batch_size=1000):
        rows = batch["input_ids"]
        if any(np.ndim(row) != 1 or len(row) != block_size for row in rows):
            return f"has rows of different lengths, where each should have {block_size} tokens"
        ids = np.stack(rows)  # (up to 1000, block_size)
        if not np.issubdtype(ids.dtype, np.integer):
            return f"has token ids of type {ids.dtype}, not integers"
        if ids.min() < 0 or ids.max() >= len(tokenizer):
            return f"has token ids outside the {len(tokenizer)} tokens of its tokenizer"
        if (ids[:, 1:] == tokenizer.pad_token_id).all(axis=1).any():
            return "has a row without text"
    return ""


def write_data_report(folder: Path, summary: dict[str, Any]) -> None:
    """Write the summary of a dataset as JSON, and as a data card, README.md."""
    (folder / DATA_SUMMARY).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    metadata = DatasetCardData(pretty_name="Blocks of chat", task_categories=["text-generation"], tags=TAGS)
    text = f"""\
# Blocks of chat

Written by tokenize_logs.py, for `datasets.load_from_disk`. A row is a block of tokens: the token for the
beginning, the line `#channel` if channels are named below, whole messages of one file in order, each followed by a
newline, and padding. The rows are shuffled.

These are other people's words. Do not publish them without their consent.

{summary_table(summary)}
"""
    write_card(folder, metadata, text)


def read_data_summary(dataset_dir: Path) -> dict[str, Any]:
    """Return the summary of a dataset, or {} if it has none. Raises InputError if it is damaged."""
    path = dataset_dir / DATA_SUMMARY
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}). Run tokenize_logs.py again, or delete the file.") from error


def summary_table(summary: dict[str, Any]) -> str:
    """Return the summary of a dataset as a Markdown table, without the list of each channel's bytes."""
    shown = {name: value for name, value in summary.items() if name != BYTES_BY_CHANNEL}
    return markdown_table(shown | ({BYTES: "unknown"} if BYTES in shown and shown[BYTES] is None else {}))
