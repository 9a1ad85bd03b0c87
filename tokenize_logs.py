"""Stage 2: CSV -> blocks of tokens, a DatasetDict.

Reads   every .csv file below --input-dir; the column `message` of date,time,channel,username,message.
Writes  --output-dir: a datasets.DatasetDict with `train` and `test`, rows of --block-size tokens in two columns,
        `input_ids` (uint16, or int32 for a vocabulary that needs it) and `attention_mask` (int8, 0 on padding), the
        tokenizer in its folder `tokenizer`, and a data card, README.md.

A block is <|endoftext|>, then message after message of one file, each whole and followed by a newline token, then
[PAD] up to the block size:

    <|endoftext|> hello chat \\n hi @you \\n LUL LUL \\n [PAD] [PAD]

    python tokenize_logs.py
    python tokenize_logs.py --model gpt2 --block-size 256 --test-size 0.05 --drop-duplicates 3
    python tokenize_logs.py --input-dir data/demo/raw --output-dir data/demo/tokenized_datasets --model models/tiny-gpt2
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from parse_logs import (
    FIELDS,
    InputError,
    check_replaceable,
    one_line_errors,
    parser_of,
    positive_int,
    remove,
    written_beside,
)

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import numpy as np
    from datasets import DatasetDict
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

END_TOKEN = "<|endoftext|>"
PAD_TOKEN = "[PAD]"
READ_BYTES = 4 << 20  # of CSV at a time: bounds memory


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model on the hub or in a folder, with [PAD] added as its last id if it has no padding."""
    from transformers import PreTrainedTokenizerFast

    try:
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(model)  # tokenizer.json as it stands, and no torch
        except ValueError:  # there is none: an older model, with a vocabulary and merges
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no tokenizer for the model {model!r}: it is neither a folder that holds one nor to be had from the "
            "Hugging Face hub; check the name and the connection"
        ) from error
    if tokenizer.eos_token is None:  # GPT-2's files do not name it
        if END_TOKEN not in tokenizer.get_vocab():
            raise InputError(f"the tokenizer of {model} has no token for the end of a text; take a model with GPT-2's")
        tokenizer.add_special_tokens({"eos_token": END_TOKEN})
    for name in ("bos_token", "unk_token"):  # of no use here, and CTranslate2 loads no model that lacks them
        if getattr(tokenizer, name) is None:
            tokenizer.add_special_tokens({name: tokenizer.eos_token})
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    if tokenizer.decode([newline_of(tokenizer)]) != "\n":
        raise InputError(
            f"the tokenizer of {model} has no token of its own for a line break; take a model with GPT-2's"
        )
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


def count_rows(csv_path: Path) -> int:
    """Count the rows of a CSV, for the progress bar: quickly, and too many if messages hold line breaks."""
    with csv_path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(READ_BYTES), b"")) - 1


def clean(message: str) -> str:
    """Strip white space at the ends and make an inner line break a blank, so that a newline always ends a message.

    GPT-2 then never merges a message's last token with the newline: its pre-tokenizer keeps white space that text
    follows apart from white space at the end.
    """
    message = message.strip()
    return re.sub(r"[\r\n]+", " ", message) if "\n" in message or "\r" in message else message


def encode(tokenizer: PreTrainedTokenizerBase | Tokenizer, messages: list[str]) -> list[list[int]]:
    """Tokenize messages, one list of ids each. The tokenizer may be of transformers or of tokenizers.

    What a chatter types is text: "<|endoftext|>" in a message becomes the tokens of these letters, never the special
    token, which would let a chatter forge the borders of a chat.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(messages, add_special_tokens=False)]


def newline_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Give the token that ends a message."""
    [[newline, *_]] = encode(tokenizer, ["\n"])
    return newline


def load_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[list[str]], np.ndarray]:
    """Give the fastest function that tokenizes messages as `encode` does: clean messages -> their ids, each message's
    followed by the newline's, in one array (num_tokens,) of integers.

    fastokens is some fifty times as fast as the Hugging Face tokenizer, on many lines at once. It is taken if it reads
    the tokenizer and gives the same for a tenth of the vocabulary; the tests compare all of it, and real chat.
    """
    import fastokens
    import numpy as np

    newline = newline_of(tokenizer)

    def encode_each(messages: list[str]) -> np.ndarray:
        return np.array([token for ids in encode(tokenizer, messages) for token in (*ids, newline)], np.uint32)

    def encode_joined(messages: list[str]) -> np.ndarray:
        ids, _ = fast.encode_batch_flat(["".join(f"{message}\n" for message in messages)], split_special_tokens=True)
        return np.frombuffer(ids, np.uint32)

    some = tokenizer.backend_tokenizer.decode_batch([[token] for token in range(0, len(tokenizer), 10)], False)
    words = [*filter(None, map(clean, some))]
    try:
        fast = fastokens.Tokenizer.from_json_str(tokenizer.backend_tokenizer.to_str())
        if np.array_equal(encode_joined(words), encode_each(words)):
            return encode_joined
        reason = "it gives other tokens"
    except ValueError as error:
        reason = str(error)
    print(f"fastokens does not fit this tokenizer ({reason}); the slower Hugging Face tokenizer works", file=sys.stderr)
    return encode_each


def truncate(ids: np.ndarray, newline: int, max_tokens: int) -> tuple[np.ndarray, int]:
    """Cut messages of more than `max_tokens` tokens, the newline included, which stays; count them."""
    import numpy as np

    ends = np.flatnonzero(ids == newline) + 1
    lengths = np.diff(ends, prepend=0)
    num_long = int((lengths > max_tokens).sum())
    if num_long:
        places = np.arange(len(ids)) - np.repeat(ends - lengths, lengths)  # of tokens in their messages
        ids = ids[(places < max_tokens - 1) | (ids == newline)]
    return ids, num_long


def pack(batches: Iterable[np.ndarray], block_size: int, start: int, newline: int, pad: int) -> Iterator[np.ndarray]:
    """Group messages, whole and in order, into blocks: arrays of ids -> arrays (num_blocks, block_size).

    A batch holds whole messages of less than `block_size` tokens, each with its newline.

    >>> list(pack([np.array([1, 2, 91, 3, 91, 4, 91])], block_size=6, start=90, newline=91, pad=92))
    [array([[90,  1,  2, 91,  3, 91]]), array([[90,  4, 91, 92, 92, 92]])]
    """
    import numpy as np

    def frame(contents: list[np.ndarray]) -> np.ndarray:
        blocks = np.full((len(contents), block_size), pad, ids.dtype)
        blocks[:, 0] = start
        for block, content in zip(blocks, contents, strict=True):
            block[1 : 1 + len(content)] = content
        return blocks

    rest = None  # messages of the block that is still open
    for ids in batches:
        ids = ids if rest is None else np.concatenate([rest, ids])
        ends = np.flatnonzero(ids == newline) + 1
        contents, first = [], 0
        while len(ids) - first >= block_size:
            last = ends[np.searchsorted(ends, first + block_size - 1, side="right") - 1]
            contents.append(ids[first:last])
            first = last
        rest = ids[first:]
        if contents:
            yield frame(contents)
    if rest is not None and len(rest):
        yield frame([rest])


def drop_duplicates(messages: list[str], copies: Counter, max_copies: int) -> list[str]:
    """Keep the first `max_copies` of identical messages; `copies` remembers those of earlier calls."""
    kept = []
    for message in messages:
        copies[message] += 1
        if copies[message] <= max_copies:
            kept.append(message)
    return kept


def block_dtype(tokenizer: PreTrainedTokenizerBase) -> np.dtype:
    """Give the smallest type of integers that holds the vocabulary and that PyTorch takes: uint16, or int32."""
    import numpy as np

    return np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.int32)


def tokenize_files(
    csv_paths: list[Path], tokenizer: PreTrainedTokenizerBase, block_size: int, max_copies: int | None, output: Path
) -> Counter:
    """Write the blocks of all files, one after the other, to the file `output`; return what was counted.

    At most `max_copies` identical messages of a file are taken (None: all).
    """
    from tqdm import tqdm

    encoder = load_encoder(tokenizer)
    newline = newline_of(tokenizer)
    counts = Counter({"files": len(csv_paths), "messages": 0, "empty messages skipped": 0})
    if max_copies:
        counts["duplicate messages dropped"] = 0
    counts.update(dict.fromkeys(["truncated messages", "blocks", "tokens"], 0))

    def encoded(csv_path: Path) -> Iterator[np.ndarray]:
        copies = Counter()
        for messages in read_messages(csv_path):
            progress.update(len(messages))
            texts = [text for text in map(clean, messages) if text]
            counts["empty messages skipped"] += len(messages) - len(texts)
            if max_copies:
                num_texts, texts = len(texts), drop_duplicates(texts, copies, max_copies)
                counts["duplicate messages dropped"] += num_texts - len(texts)
            counts["messages"] += len(texts)
            ids, num_truncated = truncate(encoder(texts), newline, block_size - 1)
            counts["truncated messages"] += num_truncated
            yield ids.astype(block_dtype(tokenizer))

    num_rows = sum(map(count_rows, csv_paths))
    with (
        output.open("wb") as file,
        tqdm(desc="tokenizing", total=num_rows, unit=" messages", unit_scale=True, disable=None) as progress,
    ):
        for csv_path in csv_paths:
            for blocks in pack(encoded(csv_path), block_size, tokenizer.eos_token_id, newline, tokenizer.pad_token_id):
                file.write(blocks)
                counts["blocks"] += len(blocks)
                counts["tokens"] += int((blocks != tokenizer.pad_token_id).sum())
    return counts


def save_dataset(
    blocks_path: Path,
    shape: tuple[int, int],
    tokenizer: PreTrainedTokenizerBase,
    test_size: float,
    seed: int,
    dataset_dir: Path,
) -> DatasetDict:
    """Shuffle the blocks of a file, split off the share `test_size` of them as `test`, and save both as a DatasetDict.

    `shape` is (num_blocks, block_size). 1,000 blocks at a time are in memory.
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
            for first in range(0, len(rows), 1000):
                ids = np.empty((len(rows[first : first + 1000]), block_size), dtype)
                for block, row in zip(ids, rows[first : first + 1000], strict=True):
                    file.seek(row * block.nbytes)  # a memory-mapped file would count as memory of ours
                    file.readinto(block)
                columns = [ids, (ids != tokenizer.pad_token_id).astype(np.int8)]
                lists = [pa.FixedSizeListArray.from_arrays(column.ravel(), block_size) for column in columns]
                writer.write_table(pa.Table.from_arrays(lists, schema=features.arrow_schema))
            writer.finalize()
        with open(arrow_file, "rb") as file:  # else datasets makes one up, and no two runs give the same bytes
            fingerprint = hashlib.file_digest(file, "md5").hexdigest()[:16]
        splits[name] = Dataset(Dataset.from_file(arrow_file).data, fingerprint=fingerprint)
    splits.save_to_disk(dataset_dir)
    return splits


def data_card(dataset: DatasetDict, model: str, counts: Counter, arguments: dict) -> str:
    """Write up in Markdown how a dataset was made."""
    from importlib.metadata import version

    rows = {
        **{f"`{name}` blocks": f"{len(split):,}" for name, split in dataset.items()},
        **{name: f"{count:,}" for name, count in counts.items() if name != "blocks"},
        "padding": f"{padding(counts, arguments['block_size']):.2%}",
        "tokenizer": f"of {model}, in `tokenizer/`",
        **{name.replace("_", " "): value for name, value in arguments.items()},
        "versions": ", ".join(f"{package} {version(package)}" for package in ["datasets", "fastokens", "transformers"]),
    }
    lines = [
        "# Blocks of chat",
        "",
        "Made by tokenize_logs.py, for `datasets.load_from_disk`. A row is a block of tokens: <|endoftext|>, whole",
        "messages of one file in order, each with a newline, and padding. Rows are shuffled. These are other people's",
        "words.",
        "",
        "| | |",
        "|---|--:|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def padding(counts: Counter, block_size: int) -> float:
    """Give the share of padding in all tokens."""
    return 1 - counts["tokens"] / (counts["blocks"] * block_size)


def tokenize_logs(
    input_dir: Path,
    output_dir: Path,
    model: str,
    block_size: int = 512,
    test_size: float = 0.1,
    seed: int = 42,
    max_copies: int | None = None,
) -> Counter:
    """Make the dataset of `output_dir` out of the CSVs of `input_dir`; return what was counted."""
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
        blocks_path = partial / "scratch" / "blocks"
        blocks_path.parent.mkdir(parents=True)
        counts = tokenize_files(csv_paths, tokenizer, block_size, max_copies, blocks_path)
        if counts["blocks"] < 2:
            more = block_size + 1 - counts["tokens"]
            raise InputError(
                f"{input_dir} holds {counts['tokens']} tokens, and a train and a test split take a block of "
                f"{block_size} each: add logs with {more} tokens more (a message has about 8), or lower --block-size"
            )
        shape = counts["blocks"], block_size
        dataset = save_dataset(blocks_path, shape, tokenizer, test_size, seed, partial)
        tokenizer.save_pretrained(partial / "tokenizer")
        arguments = {"block_size": block_size, "test_size": test_size, "seed": seed}
        (partial / "README.md").write_text(data_card(dataset, model, counts, arguments), encoding="utf-8")
        remove(blocks_path.parent)
    return counts


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
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
    add("--drop-duplicates", type=positive_int, metavar="N", help="take N copies of an identical message a file (all)")
    add("--jobs", type=positive_int, default=os.cpu_count(), help="threads (all cores)")
    args = parser.parse_args()
    if args.block_size < 3:
        parser.error("--block-size must be 3 or more: a block holds <|endoftext|>, a token and a newline")
    if not 0 < args.test_size < 1:
        parser.error("--test-size must lie between 0 and 1")
    return args


def main() -> None:
    args = parse_args()
    for variable in ("RAYON_NUM_THREADS", "FASTOKENS_BPE_THREADS"):  # read by the tokenizers when they first work
        os.environ[variable] = str(args.jobs)
    with one_line_errors():
        counts = tokenize_logs(
            args.input_dir,
            args.output_dir,
            args.model,
            args.block_size,
            args.test_size,
            args.seed,
            args.drop_duplicates,
        )
        for name, count in counts.items():
            print(f"{name:26} {count:>12,}", file=sys.stderr)
        print(f"{'padding':26} {padding(counts, args.block_size):>12.2%}", file=sys.stderr)


if __name__ == "__main__":
    main()
