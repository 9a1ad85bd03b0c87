"""Models with random weights and datasets with random tokens, for benches of speed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from harness import ROOT
from tokenizers import Tokenizer
from transformers import GPT2Config, PreTrainedTokenizerFast

from chatter.tokens.chat import ChatFormat
from chatter.tokens.dataset import save_dataset
from chatter.tokens.splits import split_blocks
from chatter.tokens.tokenizer import load_tokenizer
from chatter.training.model import load_model

SHAPES = {"gpt2-medium": (1024, 24, 16), "small": (256, 4, 4)}  # width, layers, heads
BATCH_SIZE = 24


def make_model(folder: Path, shape: str) -> None:
    """Save a model of a shape in SHAPES, as train.py would: random weights, 512 positions, GPT-2's vocabulary size.

    The tokenizer is from models/tiny-gpt2, filled up with tokens that appear in no text.
    """
    width, num_layers, num_heads = SHAPES[shape]
    small = load_tokenizer(str(ROOT / "models/tiny-gpt2"))
    parts = json.loads(small.backend_tokenizer.to_str())
    parts["added_tokens"] = []  # they come last, as in GPT-2's vocabulary
    parts["model"]["vocab"] |= {f"filler{token}": token for token in range(len(parts["model"]["vocab"]), 50_256)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        eos_token=small.eos_token,
        bos_token=small.eos_token,
        unk_token=small.eos_token,
        pad_token=small.pad_token,
    )
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=width, n_layer=num_layers, n_head=num_heads)
    config.save_pretrained(folder)  # load_model makes random weights for a config without weights
    load_model(str(folder), tokenizer, config.n_positions).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ChatFormat.of(tokenizer, config.n_positions).save(folder)


def make_dataset(folder: Path, model: Path, num_blocks: int, block_size: int) -> None:
    """Save `num_blocks` random blocks for training and BATCH_SIZE for testing, as tokenize_logs.py does."""
    tokenizer = load_tokenizer(str(model))
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, tokenizer.eos_token_id, (num_blocks + BATCH_SIZE, block_size), dtype=np.uint16)
    blocks.tofile(folder / "blocks")
    splits = split_blocks(len(blocks), BATCH_SIZE / len(blocks), 0)
    save_dataset(folder / "blocks", splits, blocks.shape[1], tokenizer, folder / "dataset")
    tokenizer.save_pretrained(folder / "dataset/tokenizer")
