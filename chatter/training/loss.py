"""The loss: which tokens count, and its mean over all of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction, PreTrainedTokenizerBase

from chatter.cli import InputError

COUNTED_BLOCKS = 2000  # whose text is decoded, to count its bytes
IGNORED_LABEL = -100  # the label that PyTorch's cross-entropy leaves out


def collate(rows: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """Stack blocks into a micro-batch: `input_ids` and `labels`, both (micro_batch_size, block_size) int64.

    Padding is not a label. There is no attention mask: padding comes after the text, where causal attention does not
    look, and without a mask PyTorch uses its fast attention kernel.
    """
    input_ids = torch.from_numpy(np.stack([row["input_ids"] for row in rows]).astype(np.int64))
    return {"input_ids": input_ids, "labels": input_ids.masked_fill(input_ids == pad, IGNORED_LABEL)}


def sum_token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Add up the losses of each block's tokens: (batch, 2) float64, the sums and the numbers of tokens.

    `logits` is (batch, block_size, vocab_size), `labels` is (batch, block_size) and not shifted yet.
    """
    sums = [
        cross_entropy(row[:-1].float(), label[1:], reduction="sum") for row, label in zip(logits, labels, strict=True)
    ]
    return torch.stack([torch.stack(sums).double(), (labels[:, 1:] != IGNORED_LABEL).sum(1).double()], dim=1)


class MeanTokenLoss:
    """The mean loss over all tokens of an evaluation, for the Trainer's `compute_metrics`.

    The Trainer's own is a mean over batches, which gives tokens in padded batches more weight, and is wrong on
    several processes whose last batches differ in size.
    """

    def __init__(self) -> None:
        self.sums = 0

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Add a batch of `sum_token_losses`; at the end of the evaluation return the mean and start over."""
        self.sums = self.sums + batch.predictions.sum(0)
        if not compute_result:
            return {}
        (loss, tokens), self.sums = self.sums.tolist(), 0
        return {"loss": loss / tokens}


def perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss in nats per token; infinity if it overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def tokens_per_byte(blocks: Dataset, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return how many tokens the model predicts for a byte of UTF-8, in up to COUNTED_BLOCKS evenly spaced blocks.

    With it, a loss in nats per token becomes bits per byte, which can be compared between tokenizers. Newlines and
    headers count, the start token and padding do not.
    """
    rows = np.linspace(0, len(blocks) - 1, min(len(blocks), COUNTED_BLOCKS)).astype(int)
    predicted = [ids[1:][ids[1:] != tokenizer.pad_token_id].tolist() for ids in blocks.select(rows)["input_ids"]]
    texts = tokenizer.backend_tokenizer.decode_batch(predicted, skip_special_tokens=False)
    return sum(map(len, predicted)) / max(sum(len(text.encode()) for text in texts), 1)


def check_finite(loss: float, precision: str) -> None:
    """Raise InputError if the loss is NaN or infinite, so that no checkpoint of such a model is saved."""
    if not math.isfinite(loss):
        larger = {"fp16": "fp32 (or bf16, if the device has it)", "bf16": "fp32"}.get(precision)
        otherwise = f", or start again with --overwrite and --precision {larger}" if larger else ""
        raise InputError(f"the loss is {loss}. Pass --resume with a lower --learning-rate{otherwise}.")
