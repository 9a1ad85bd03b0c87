"""Stage 2: CSV -> blocks of tokens, a DatasetDict.

Reads   every .csv file below --input-dir; the column `message` of date,time,channel,username,message.
Writes  --output-dir: a datasets.DatasetDict with `train` and `test`, rows of --block-size tokens in two columns,
        `input_ids` (int32) and `attention_mask` (int8, 0 on padding), and the tokenizer in its folder `tokenizer`.

A block is <|endoftext|>, then message after message of one file, each whole and followed by a newline token, then
[PAD] up to the block size:

    <|endoftext|> hello chat \\n hi @you \\n LUL LUL \\n [PAD] [PAD]

    python tokenize_logs.py
    python tokenize_logs.py --model gpt2 --block-size 256 --test-size 0.05
    python tokenize_logs.py --input-dir data/demo/raw --output-dir data/demo/tokenized_datasets --model models/tiny-gpt2
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from parse_logs import FIELDS, InputError, check_replaceable, one_line_errors, positive_int, remove, written_beside

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import numpy as np
    from transformers import PreTrainedTokenizerBase

PAD_TOKEN = "[PAD]"
READ_BYTES = 4 << 20  # of CSV at a time; bounds memory


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model on the hub or in a folder, with [PAD] added as its last id if it has no padding."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no tokenizer for the model {model!r}: it is neither a folder that holds one nor to be had from the "
            "Hugging Face hub; check the name and the connection"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def read_messages(csv_path: Path) -> Iterator[list[str]]:
    """Give the messages of a CSV in lists of some ten thousands, in order."""
    import pyarrow.csv

    with csv_path.open(encoding="utf-8", errors="replace", newline="") as file:
        missing = set(FIELDS) - set(next(csv.reader(file), []))
    if missing:
        raise InputError(f"{csv_path} has no column {' or '.join(sorted(missing))}; parse_logs.py writes such files")
    try:
        batches = pyarrow.csv.open_csv(
            csv_path,
            pyarrow.csv.ReadOptions(block_size=READ_BYTES),
            pyarrow.csv.ParseOptions(newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                include_columns=["message"], column_types={"message": "string"}, strings_can_be_null=False
            ),
        )
        for batch in batches:
            yield batch["message"].to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{csv_path} is no CSV in UTF-8 as parse_logs.py writes it: {error}") from error


def clean(message: str) -> str:
    """Strip white space at the ends and make an inner line break a blank, so that a newline always ends a message.

    GPT-2 then never merges a message's last token with the newline: its pre-tokenizer keeps white space that text
    follows apart from white space at the end.
    """
    return re.sub(r"[\r\n]+", " ", message.strip())


def encode(tokenizer: PreTrainedTokenizerBase, messages: list[str]) -> list[list[int]]:
    """Tokenize messages, one list of ids each, on all cores.

    What a chatter types is text: "<|endoftext|>" in a message becomes the tokens of these letters, never the special
    token, which would let a chatter forge the borders of a chat.
    """
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(messages, add_special_tokens=False)]


def pack(encoded: Iterable[list[int]], block_size: int, start: int, newline: int, pad: int) -> Iterator[list[int]]:
    """Group tokenized messages, whole and in order, into blocks of exactly `block_size` ids.

    A message too long for a block of its own is truncated; its newline stays.

    >>> list(pack([[1, 2], [3], [4, 5, 6, 7, 8]], block_size=6, start=90, newline=91, pad=92))
    [[90, 1, 2, 91, 3, 91], [90, 4, 5, 6, 7, 91]]
    """
    block = [start]
    for ids in encoded:
        ids = ids[: block_size - 2]
        if len(block) + len(ids) + 1 > block_size:
            yield block + [pad] * (block_size - len(block))
            block = [start]
        block += ids
        block.append(newline)
    if len(block) > 1:
        yield block + [pad] * (block_size - len(block))


def tokenize_files(
    csv_paths: list[Path], tokenizer: PreTrainedTokenizerBase, block_size: int, blocks_path: Path
) -> Counter:
    """Write the blocks of all files, one after the other, to `blocks_path` as raw int32; return what was counted."""
    import numpy as np
    from tqdm import tqdm

    [newline] = encode(tokenizer, ["\n"])[0]
    counts = Counter(files=len(csv_paths))
    size = sum(path.stat().st_size for path in csv_paths)
    with (
        blocks_path.open("wb") as output,
        tqdm(desc="tokenizing", total=size, unit="B", unit_scale=True, disable=None) as progress,
    ):

        def encoded_messages(csv_path: Path) -> Iterator[list[int]]:
            for messages in read_messages(csv_path):
                texts = [text for text in map(clean, messages) if text]
                counts["messages"] += len(texts)
                counts["empty messages skipped"] += len(messages) - len(texts)
                for ids in encode(tokenizer, texts):
                    counts["truncated messages"] += len(ids) > block_size - 2
                    yield ids

        for csv_path in csv_paths:
            ids = encoded_messages(csv_path)
            blocks = pack(ids, block_size, tokenizer.eos_token_id, newline, tokenizer.pad_token_id)
            for block in blocks:
                output.write(np.array(block, dtype=np.int32).tobytes())
                counts["blocks"] += 1
                counts["tokens"] += block_size - block.count(tokenizer.pad_token_id)
            progress.update(csv_path.stat().st_size)
    return counts


def save_dataset(blocks: np.ndarray, pad: int, test_size: float, seed: int, dataset_dir: Path) -> None:
    """Shuffle the blocks, split off the share `test_size` of them as `test`, and save both as a DatasetDict.

    `blocks` is (num_blocks, block_size) int32, usually a memory-mapped file: 1,000 blocks at a time are in memory.
    """
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset, DatasetDict, Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    num_blocks, block_size = blocks.shape
    order = np.random.default_rng(seed).permutation(num_blocks)
    num_test = min(max(round(num_blocks * test_size), 1), num_blocks - 1)
    features = Features(
        input_ids=List(Value("int32"), length=block_size), attention_mask=List(Value("int8"), length=block_size)
    )
    scratch = dataset_dir / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    splits = DatasetDict()
    for name, rows in {"train": order[num_test:], "test": order[:num_test]}.items():
        arrow_file = str(scratch / f"{name}.arrow")
        with ArrowWriter(path=arrow_file, features=features) as writer:
            for first in range(0, len(rows), 1000):
                ids = blocks[rows[first : first + 1000]]
                columns = [ids, (ids != pad).astype(np.int8)]
                lists = [pa.FixedSizeListArray.from_arrays(column.ravel(), block_size) for column in columns]
                writer.write_table(pa.Table.from_arrays(lists, schema=features.arrow_schema))
            writer.finalize()
        splits[name] = Dataset.from_file(arrow_file)
    splits.save_to_disk(dataset_dir)
    remove(scratch)


def tokenize_logs(
    input_dir: Path, output_dir: Path, model: str, block_size: int, test_size: float, seed: int
) -> Counter:
    """Make the dataset of `output_dir` out of the CSVs of `input_dir`; return what was counted."""
    import numpy as np

    csv_paths = sorted(input_dir.rglob("*.csv"))
    if not csv_paths:
        raise InputError(f"no .csv file in {input_dir}; run parse_logs.py first, or name the folder with --input-dir")
    check_replaceable(output_dir, "dataset_dict.json")
    tokenizer = load_tokenizer(model)
    if block_size > tokenizer.model_max_length:
        raise InputError(
            f"--block-size {block_size} is more than the {tokenizer.model_max_length} positions of {model}; lower it"
        )
    with written_beside(output_dir) as partial:
        blocks_path = partial / "scratch" / "blocks.int32"
        blocks_path.parent.mkdir(parents=True)
        counts = tokenize_files(csv_paths, tokenizer, block_size, blocks_path)
        if counts["blocks"] < 2:
            raise InputError(
                f"{input_dir} makes {counts['blocks']} blocks of {block_size} tokens, and a train and a test split "
                f"take 2; add logs, or lower --block-size"
            )
        blocks = np.memmap(blocks_path, np.int32, "r", shape=(counts["blocks"], block_size))
        save_dataset(blocks, tokenizer.pad_token_id, test_size, seed, partial)
        tokenizer.save_pretrained(partial / "tokenizer")
    return counts


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--input-dir", type=Path, default=Path("data/raw"), help="folder of CSVs (data/raw)")
    add(
        "--output-dir",
        type=Path,
        default=Path("data/tokenized_datasets"),
        help="folder for the dataset, replaced if there (data/tokenized_datasets)",
    )
    add("--model", default="gpt2-medium", help="hub name or folder of the model whose tokenizer to use (gpt2-medium)")
    add("--block-size", type=positive_int, default=512, help="tokens a block (512)")
    add("--test-size", type=float, default=0.1, help="share of the blocks to split off for testing (0.1)")
    add("--seed", type=int, default=42, help="of the shuffle (42)")
    add("--jobs", type=positive_int, default=os.cpu_count(), help="threads (all cores)")
    args = parser.parse_args()
    if args.block_size < 3:
        parser.error("--block-size must be 3 or more: a block holds <|endoftext|>, a token and a newline")
    if not 0 < args.test_size < 1:
        parser.error("--test-size must lie between 0 and 1")
    return args


def main() -> None:
    args = parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.jobs)  # read by the tokenizers library when it first works
    with one_line_errors():
        counts = tokenize_logs(args.input_dir, args.output_dir, args.model, args.block_size, args.test_size, args.seed)
        padding = 1 - counts["tokens"] / (counts["blocks"] * args.block_size)
        for name, count in counts.items():
            print(f"{name:22} {count:>13,}", file=sys.stderr)
        print(f"{'padding':22} {padding:>13.2%}", file=sys.stderr)


if __name__ == "__main__":
    main()
