"""Run train.py on blocks with headers, whose tokens do not count in the loss.

python bench/peers/train_header_unlearned.py train.py --dataset-dir data/tokenized_datasets --output-dir models/other
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from chatter.tokens import dataset
from chatter.training import loss

load, collate = dataset.load_blocks, loss.collate


def load_blocks(dataset_dir):
    """Notice the token that ends a header."""
    from chatter.tokens.chat import newline_id

    loaded, tokenizer = load(dataset_dir)
    loss.newline = newline_id(tokenizer)
    return loaded, tokenizer


def collate_without_headers(rows, pad):
    batch = collate(rows, pad)
    is_header = (batch["input_ids"] == loss.newline).cumsum(1) == 0
    ends = is_header.sum(1, keepdim=True)  # where the newline of the header is
    batch["labels"].masked_fill_(is_header, loss.IGNORED_LABEL).scatter_(1, ends, loss.IGNORED_LABEL)
    return batch


dataset.load_blocks, loss.collate = load_blocks, collate_without_headers
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
