"""Stage 2: CSV -> blocks of tokens, a DatasetDict.

Reads   the column `message` of every .csv file below --input-dir (date,time,channel,username,message), and `channel`
        with --with-channel. It also reads .parquet, .arrow and .feather files with such a column.
Writes  --output-dir: a datasets.DatasetDict with `train` and `test`, rows of --block-size tokens in two columns,
        `input_ids` (uint16, or int32 for a vocabulary that needs it) and `attention_mask` (int8, 0 on padding); the
        tokenizer in the folder `tokenizer`; the counts in summary.json; a data card, README.md; and said.u64, hashes
        of the messages for generate.py --no-copies.

A block is the model's beginning-of-text token (GPT-2: <|endoftext|>), then whole messages of one file in order, each
followed by a newline token, then padding up to the block size:

    <|endoftext|> hello chat \\n hi @you \\n LUL LUL \\n [PAD] [PAD]

With --with-channel, each block contains one channel, and the line `#channel` follows <|endoftext|>.

    python tokenize_logs.py
    python tokenize_logs.py --model gpt2 --block-size 256 --test-size 0.05 --test-last --drop-duplicates 3
    python tokenize_logs.py --input-dir data/demo/raw --output-dir data/demo/tokenized_datasets --model models/tiny-gpt2
"""

from __future__ import annotations

if __name__ == "__main__":
    import chatter.interrupt  # noqa: F401 (from here on, Ctrl-C prints one line)

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from chatter.cli import InputError, bounded, make_parser, plain_errors, positive_int
from chatter.files import DATASET_MARKER, atomic_output, delete, file_size, reserved
from chatter.logs.folders import find_tables
from chatter.tokens.chat import SMALLEST_BLOCK
from chatter.workers import Workers, open_workers, prepare_workers, usable_cores

if TYPE_CHECKING:
    import numpy as np

    from chatter.tokens.encoder import SavedEncoder
    from chatter.tokens.packing import BlockWriter
    from chatter.tokens.rows import Rows

PRELOADED = ("pyarrow.csv", "chatter.tokens.rows", "chatter.tokens.encoder", "chatter.wording.training_messages")
ORIGIN_FIELDS = ("channel", "date", "time")


def tokenize_logs(
    input_dir: Path,
    output_dir: Path,
    model: str,
    block_size: int = 512,
    test_size: float = 0.1,
    seed: int = 42,
    drop_duplicates: int | None = None,
    with_channel: bool = False,
    test_last: bool = False,
    jobs: int = 1,
    max_tokens: int | None = None,
) -> Counter:
    """Make the dataset in `output_dir` from the CSVs below `input_dir`, as the options say; return the counts."""
    csv_paths = find_csvs(input_dir)
    num_bytes = sum(map(file_size, csv_paths))
    prepare_workers(jobs, num_bytes, PRELOADED)

    import numpy as np

    from chatter.tokens.dataset import BYTES, BYTES_BY_CHANNEL, save_dataset, write_data_report
    from chatter.tokens.packing import BlockWriter
    from chatter.tokens.splits import count_unknown, split_blocks
    from chatter.tokens.text_size import count_text
    from chatter.tokens.tokenizer import load_tokenizer, save_encoder
    from chatter.wording.training_messages import HASHES, write_hashes

    with (
        reserved(output_dir, DATASET_MARKER) as folder,
        atomic_output(folder) as output,
        open_workers(jobs, num_bytes, PRELOADED) as workers,
    ):
        tokenizer = load_tokenizer(model)
        if block_size > tokenizer.model_max_length:
            raise InputError(
                f"--block-size {block_size} is more than the {tokenizer.model_max_length} positions of {model}. Pass a "
                "smaller one."
            )
        scratch = output / "scratch"
        scratch.mkdir(parents=True)
        with (scratch / "blocks").open("wb") as blocks, (scratch / HASHES).open("wb") as hashes:
            writer = BlockWriter(blocks, tokenizer, block_size)
            encoder = save_encoder(tokenizer, scratch / "tokenizer.json")
            counts = write_messages(
                csv_paths, writer, hashes, encoder, workers, drop_duplicates, with_channel, test_last
            )
        if counts["blocks"] < 2:
            missing = block_size + 1 - counts["tokens"]
            raise InputError(
                f"{input_dir} contains {counts['tokens']} tokens, too few for a train and a test split of at least one "
                f"block of {block_size} each. Add logs with {missing} more tokens (a message has about 8), or pass a "
                "smaller --block-size."
            )
        origins = np.concatenate(writer.origins) if test_last else None
        if test_last:
            counts.update(count_unknown(origins))
        max_blocks = max_tokens and max(2, max_tokens // block_size)
        splits = split_blocks(counts["blocks"], test_size, seed, origins, max_blocks)
        if max_tokens:
            counts["blocks left out"] = counts["blocks"] - sum(map(len, splits.values()))
        dataset = save_dataset(scratch / "blocks", splits, block_size, tokenizer, output)
        write_hashes(np.fromfile(scratch / HASHES, "<u8"), output / HASHES)
        delete(scratch)
        tokenizer.save_pretrained(output / "tokenizer")
        summary = {"tokenizer of": model, "block size": block_size, "test size": test_size, "seed": seed}
        summary |= {"test split": "the newest blocks of each channel" if test_last else "random blocks"}
        summary |= {"channels": [*writer.begins]} if with_channel else {}
        summary |= {f"{name} blocks": len(split) for name, split in dataset.items()}
        text = count_text(dataset["test"], tokenizer, summary.get("channels", ()))
        summary |= {BYTES: text.total.bytes}
        if with_channel:
            summary[BYTES_BY_CHANNEL] = {channel: size.bytes for channel, size in text.by_channel.items()}
        summary |= counts | {"padding": padding(counts, block_size), "versions": versions()}
        write_data_report(output, summary)
    return counts


def find_csvs(input_dir: Path) -> list[Path]:
    """Return the CSVs below a folder. Raises InputError if there are none."""
    if not input_dir.is_dir():
        raise InputError(f"{input_dir} is not a folder. Run parse_logs.py first, or pass another one with --input-dir.")
    csv_paths = find_tables(input_dir)
    if not csv_paths:
        raise InputError(
            f"no .csv file in {input_dir}. Run parse_logs.py first, or pass another folder with --input-dir."
        )
    return csv_paths


def write_messages(
    csv_paths: list[Path],
    writer: BlockWriter,
    hashes: BinaryIO,
    encoder: SavedEncoder,
    workers: Workers,
    max_duplicates: int | None,
    with_channel: bool,
    test_last: bool,
) -> Counter:
    """Write the messages of all files, in order, as blocks to `writer`, and their hashes (uint64) to `hashes`.

    At most `max_duplicates` identical messages of a file are kept (None: all). `with_channel` makes blocks of one
    channel each, with the channel's header at the beginning. `test_last` gives the writer the origins of the messages.
    Return the counts.
    """
    from chatter.tokens.rows import is_one_part, read_rows

    counts = Counter({"files": len(csv_paths), "messages": 0, "empty messages skipped": 0})
    if max_duplicates:
        counts["duplicate messages dropped"] = 0
    fields = ORIGIN_FIELDS if test_last else ("channel",) * with_channel

    def calls() -> Iterator[tuple]:
        for csv_path in csv_paths:
            read = partial(read_rows, csv_path, fields, max_duplicates)
            for rows in [None] if is_one_part(csv_path) else read():  # None: the worker reads the file
                yield csv_path, read, rows, with_channel, test_last, encoder, writer.dtype

    current = csv_paths[0]
    tokenized = workers.map("tokenizing", tokenize, calls(), workers.num_bytes, ahead=2)
    for csv_path, chats, some_hashes, some_counts in tokenized:
        if csv_path != current:
            writer.finish_file()
            current = csv_path
        for channel, ids, origins in chats:
            if channel is None:  # another stream begins
                writer.finish_file()
            else:
                writer.add(channel, ids, origins)
        hashes.write(some_hashes)
        counts.update(some_counts)
    writer.finish_file()
    counts.update(writer.counts)
    return counts


def tokenize(
    csv_path: Path,
    read: Callable[[], Iterator[Rows]],
    rows: Rows | None,
    with_channel: bool,
    test_last: bool,
    encoder: SavedEncoder,
    dtype: np.dtype,
) -> tuple[Path, list[tuple[str | None, np.ndarray, np.ndarray | None]], np.ndarray, Counter]:
    """Tokenize some rows of a file, or all that `read` yields.

    Return the path; each channel (None: another stream begins) with its ids and, if `test_last`, the origins of its
    messages; the hashes of the messages; and counts.
    """
    from chatter.tokens.chat import clean
    from chatter.tokens.splits import split_origins
    from chatter.tokens.tables import split_chats
    from chatter.wording.training_messages import hash_messages

    tokenized, said, counts = [], [], Counter()
    for some in [rows] if rows else read():
        source = some.columns, csv_path, with_channel, some.last
        chats = [(channel, [*map(clean, messages)]) for channel, messages in split_chats(*source)]
        origins = split_origins(*source) if test_last else [None] * len(chats)
        for (channel, messages), sent in zip(chats, origins, strict=True):
            texts = [text for text in messages if text]
            tokenized.append((channel, encoder.load()(texts).astype(dtype), sent))
            said += texts
            counts["messages"] += len(texts)
            counts["empty messages skipped"] += len(messages) - len(texts)
        if some.num_dropped:
            counts["duplicate messages dropped"] += some.num_dropped
    return csv_path, tokenized, hash_messages(said), counts


def list_inputs(csv_paths: list[Path]) -> None:
    """Print the size and the modification time of each input on stderr."""
    for path in csv_paths:
        state = path.stat()
        print(
            f"{path}: {state.st_size:,} bytes, modified {datetime.fromtimestamp(state.st_mtime):%Y-%m-%d %H:%M}",
            file=sys.stderr,
        )


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
        help="folder for the dataset; an older one is replaced",
    )
    add("--model", default="gpt2-medium", help="hub name or folder of the model whose tokenizer to use")
    block_size = bounded(int, at_least=SMALLEST_BLOCK, at_most=1 << 20)
    add("--block-size", type=block_size, default=512, help="tokens per block")
    add("--test-size", type=bounded(float, above=0, below=1), default=0.1, help="share of blocks for testing")
    add("--test-last", action="store_true", help="test on the newest blocks of each channel, not on random ones")
    add("--seed", type=bounded(int, at_least=0, below=2**63), default=42, help="random seed of the shuffle")
    add("--drop-duplicates", type=positive_int, metavar="N", help="keep at most N of identical messages per file")
    add("--max-tokens", type=positive_int, metavar="N", help="keep N tokens: blocks picked at random from all files")
    add("--with-channel", action="store_true", help="begin each block with the line #channel")
    add("--verbose", action="store_true", help="list the CSVs, with size and date")
    add("--jobs", type=positive_int, default=usable_cores(), help="processes, with some 200 MB of memory each")
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        for variable in ("RAYON_NUM_THREADS", "FASTOKENS_BPE_THREADS"):  # read by the tokenizers on first use
            os.environ[variable] = str(min(args.jobs, usable_cores()))
        if args.verbose:
            list_inputs(find_csvs(args.input_dir))
        counts = tokenize_logs(**{name: value for name, value in vars(args).items() if name != "verbose"})
        for name, count in counts.items():
            print(f"{name:26} {count:>12,}", file=sys.stderr)
        print(f"{'padding':26} {padding(counts, args.block_size):>12.2%}", file=sys.stderr)


if __name__ == "__main__":
    main()
