"""Stage 2: CSV -> blocks of tokens, a DatasetDict.

Reads   the column `message` of every .csv file below --input-dir (date,time,channel,username,message), and `channel`
        with --with-channel.
Writes  --output-dir: a datasets.DatasetDict with `train` and `test`, rows of --block-size tokens in two columns,
        `input_ids` (uint16, or int32 for a vocabulary that needs it) and `attention_mask` (int8, 0 on padding); the
        tokenizer in the folder `tokenizer`; what was counted in summary.json; a data card, README.md; and said.u64,
        by which generate.py --no-copies knows what was said.

A block is the model's token for a beginning (GPT-2: <|endoftext|>), then message after message of one file, each whole
and followed by a newline token, then padding up to the block size:

    <|endoftext|> hello chat \\n hi @you \\n LUL LUL \\n [PAD] [PAD]

With --with-channel, a block is of one channel, and the line `#channel` follows <|endoftext|>.

    python tokenize_logs.py
    python tokenize_logs.py --model gpt2 --block-size 256 --test-size 0.05 --drop-duplicates 3
    python tokenize_logs.py --input-dir data/demo/raw --output-dir data/demo/tokenized_datasets --model models/tiny-gpt2
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.channels import channel_header
from chatter.chat import begin_chat, clean, load_encoder, load_tokenizer, newline_id
from chatter.cli import InputError, make_parser, number, plain_errors, positive_int
from chatter.files import atomic_output, delete, reserved
from chatter.logs.folders import find_tables
from chatter.logs.tables import read_chats
from chatter.packing import Packer, truncate
from chatter.report import write_data_report
from chatter.wording.training_messages import SAID, hash_messages, write_said

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import numpy as np
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerBase

# Of datasets that were written before there were manifests.
OLDER_FILES = ("dataset_dict.json", "README.md", "train/*", "test/*", "tokenizer/*", "summary.json*", "said.u64*")
SAVED_BLOCKS = 1000  # in memory at a time while the dataset is saved


def tokenize_logs(
    input_dir: Path,
    output_dir: Path,
    model: str,
    block_size: int = 512,
    test_size: float = 0.1,
    seed: int = 42,
    max_copies: int | None = None,
    with_channel: bool = False,
) -> Counter:
    """Make the dataset in `output_dir` from the CSVs below `input_dir`; return what was counted."""
    if not input_dir.is_dir():
        raise InputError(f"{input_dir} is not a folder. Run parse_logs.py first, or pass another one with --input-dir.")
    csv_paths = find_tables(input_dir)
    if not csv_paths:
        raise InputError(
            f"no .csv file in {input_dir}. Run parse_logs.py first, or pass another folder with --input-dir."
        )
    import numpy as np

    with reserved(output_dir, OLDER_FILES) as folder, atomic_output(folder) as partial:
        tokenizer = load_tokenizer(model)
        if block_size > tokenizer.model_max_length:
            raise InputError(
                f"--block-size {block_size} is more than the {tokenizer.model_max_length} positions of {model}. Pass a "
                "smaller one."
            )
        scratch = partial / "scratch"
        scratch.mkdir(parents=True)
        counts, channels = write_blocks(csv_paths, tokenizer, block_size, max_copies, with_channel, scratch)
        if counts["blocks"] < 2:
            missing = block_size + 1 - counts["tokens"]
            raise InputError(
                f"{input_dir} contains {counts['tokens']} tokens, too few for a train and a test split of at least one "
                f"block of {block_size} each. Add logs with {missing} more tokens (a message has about 8), or pass a "
                "smaller --block-size."
            )
        shape = counts["blocks"], block_size
        dataset = save_dataset(scratch / "blocks", shape, tokenizer, test_size, seed, partial)
        write_said(np.fromfile(scratch / SAID, "<u8"), partial / SAID)
        delete(scratch)
        tokenizer.save_pretrained(partial / "tokenizer")
        summary = {"tokenizer of": model, "block size": block_size, "test size": test_size, "seed": seed}
        summary |= {"channels": channels} if with_channel else {}
        summary |= {f"{name} blocks": len(split) for name, split in dataset.items()}
        summary |= counts | {"padding": padding(counts, block_size), "versions": versions()}
        write_data_report(partial, summary)
    return counts


def list_inputs(csv_paths: list[Path]) -> None:
    """Print on stderr how large and how old each input is."""
    for path in csv_paths:
        state = path.stat()
        print(
            f"{path}: {state.st_size:,} bytes, of {datetime.fromtimestamp(state.st_mtime):%Y-%m-%d %H:%M}",
            file=sys.stderr,
        )


def drop_duplicates(messages: list[str], copies: Counter, max_copies: int) -> list[str]:
    """Keep the first `max_copies` of identical messages; `copies` remembers those of earlier calls."""
    kept = []
    for message in messages:
        copies[message] += 1
        if copies[message] <= max_copies:
            kept.append(message)
    return kept


def block_dtype(tokenizer: PreTrainedTokenizerBase) -> np.dtype:
    """Return the smallest integer type that fits the vocabulary and that PyTorch supports: uint16, or int32."""
    import numpy as np

    return np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)


def write_blocks(
    csv_paths: list[Path],
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    max_copies: int | None,
    with_channel: bool,
    folder: Path,
) -> tuple[Counter, list[str]]:
    """Write the blocks of all files, one after the other, to the file `blocks`, and the hashes of messages to SAID.

    At most `max_copies` identical messages of a file are kept (None: all). `with_channel` makes blocks of one channel
    each, which begin with its header. Return what was counted, and the channels.
    """
    from tqdm import tqdm

    encoder = load_encoder(tokenizer)
    newline = newline_id(tokenizer)
    counts = Counter({"files": len(csv_paths), "messages": 0, "empty messages skipped": 0})
    if max_copies:
        counts["duplicate messages dropped"] = 0
    counts.update(dict.fromkeys(["truncated messages", "blocks", "tokens"], 0))
    begins = {}  # channel -> how its blocks begin

    def make_packer(channel: str) -> Packer:
        if channel not in begins:
            header = channel_header(channel) if channel else ""
            begins[channel] = begin_chat(tokenizer, tokenizer.bos_token_id, newline, header)
            if len(begins[channel]) > block_size - 2:
                raise InputError(
                    f"the header of channel {channel} leaves no room for a message in a block of {block_size} tokens. "
                    "Pass a larger --block-size."
                )
        return Packer(block_size, begins[channel], newline, tokenizer.pad_token_id)

    def write(blocks: np.ndarray) -> None:
        file.write(blocks)
        counts["blocks"] += len(blocks)
        counts["tokens"] += int((blocks != tokenizer.pad_token_id).sum())

    num_bytes = sum(path.stat().st_size for path in csv_paths)
    with (
        (folder / "blocks").open("wb") as file,
        (folder / SAID).open("wb") as said,
        tqdm(desc="tokenizing", total=num_bytes, unit="B", unit_scale=True, disable=None) as bar,
    ):
        for csv_path in csv_paths:
            copies, packers = Counter(), {}
            for channel, messages in read_chats(csv_path, with_channel, bar.update):
                texts = [text for text in map(clean, messages) if text]
                counts["empty messages skipped"] += len(messages) - len(texts)
                if max_copies:
                    num_texts, texts = len(texts), drop_duplicates(texts, copies, max_copies)
                    counts["duplicate messages dropped"] += num_texts - len(texts)
                counts["messages"] += len(texts)
                said.write(hash_messages(texts))
                packer = packers[channel] = packers.get(channel) or make_packer(channel)
                ids, num_truncated = truncate(encoder(texts), newline, packer.room)
                counts["truncated messages"] += num_truncated
                write(packer.add(ids.astype(block_dtype(tokenizer))))
            for packer in packers.values():
                write(packer.finish())
    return counts, [*begins]


def save_dataset(
    blocks_path: Path,
    shape: tuple[int, int],
    tokenizer: PreTrainedTokenizerBase,
    test_size: float,
    seed: int,
    dataset_dir: Path,
) -> DatasetDict:
    """Shuffle the blocks of a file, split off the share `test_size` of them as `test`, and save both as a DatasetDict.

    `shape` is (num_blocks, block_size). SAVED_BLOCKS blocks at a time are in memory.
    """
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset, DatasetDict, Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    num_blocks, block_size = shape
    dtype = block_dtype(tokenizer)
    order = np.random.default_rng(seed).permutation(num_blocks)
    num_test = min(max(round(num_blocks * test_size), 1), num_blocks - 1)
    features = Features(
        input_ids=List(Value(dtype.name), length=block_size), attention_mask=List(Value("int8"), length=block_size)
    )
    scratch = blocks_path.parent
    splits = DatasetDict()
    for name, rows in {"train": order[num_test:], "test": order[:num_test]}.items():
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
        with open(arrow_file, "rb") as file:  # otherwise datasets invents one, and no two runs give the same bytes
            fingerprint = hashlib.file_digest(file, "md5").hexdigest()[:16]
        splits[name] = Dataset(Dataset.from_file(arrow_file).data, fingerprint=fingerprint)
    splits.save_to_disk(dataset_dir)
    return splits


def padding(counts: Counter, block_size: int) -> float:
    """Return the share of padding in all tokens."""
    return 1 - counts["tokens"] / (counts["blocks"] * block_size)


def versions() -> str:
    """Return the versions of the packages that the dataset depends on."""
    from importlib.metadata import version

    return ", ".join(f"{package} {version(package)}" for package in ("datasets", "fastokens", "transformers"))


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--input-dir", type=Path, default=Path("data/raw"), help="folder of CSVs")
    add(
        "--output-dir",
        type=Path,
        default=Path("data/tokenized_datasets"),
        help="folder for the dataset; an older dataset is replaced",
    )
    add("--model", default="gpt2-medium", help="hub name or folder of the model whose tokenizer to use")
    # A block has room for <|endoftext|>, a token and a newline.
    add("--block-size", type=number(int, at_least=3, at_most=1 << 20), default=512, help="tokens per block")
    add("--test-size", type=number(float, above=0, below=1), default=0.1, help="share of the blocks to use for testing")
    add("--seed", type=number(int, at_least=0, below=2**63), default=42, help="random seed of the shuffle")
    add("--drop-duplicates", type=positive_int, metavar="N", help="keep N copies of an identical message per file")
    add("--with-channel", action="store_true", help="begin each block with the line #channel")
    add("--verbose", action="store_true", help="list the CSVs, with size and date")
    add("--jobs", type=positive_int, default=os.cpu_count(), help="threads")
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        for variable in ("RAYON_NUM_THREADS", "FASTOKENS_BPE_THREADS"):  # read by the tokenizers on first use
            os.environ[variable] = str(min(args.jobs, os.cpu_count() or 1))
        if args.verbose:
            list_inputs(find_tables(args.input_dir))
        counts = tokenize_logs(
            args.input_dir,
            args.output_dir,
            args.model,
            args.block_size,
            args.test_size,
            args.seed,
            args.drop_duplicates,
            args.with_channel,
        )
        for name, count in counts.items():
            print(f"{name:26} {count:>12,}", file=sys.stderr)
        print(f"{'padding':26} {padding(counts, args.block_size):>12.2%}", file=sys.stderr)


if __name__ == "__main__":
    main()
