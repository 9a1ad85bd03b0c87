"""The loss: which tokens count, its mean over all of them, and bits per byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

from chatter.cli import InputError
from chatter.tokens.text_size import SplitText, TextSize

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
    several processes whose last batches differ in size. `text` is the text of the evaluated blocks.
    """

    def __init__(self, text: SplitText) -> None:
        self.text = text
        self.sums: dict[str, np.ndarray] = {}  # channel -> (2,) float64, the sum of losses and the number of tokens

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, Any]:
        """Add a batch of `sum_token_losses`; at the end of the evaluation return its results and start over.

        The results are the mean loss and, if they are known, the bits per byte, of all and by channel.
        """
        sums, labels = batch.predictions.cpu().numpy(), batch.label_ids.cpu().numpy()  # both of all processes
        for channel, some in zip(self.text.headers.find(labels)[0], sums, strict=True):
            self.sums[channel] = self.sums.get(channel, 0) + some
        if not compute_result:
            return {}
        by_channel, self.sums = self.sums, {}
        loss, tokens = sum(by_channel.values()).tolist()
        results = {"loss": loss / tokens, "bits_per_byte": bits_per_byte(loss / tokens, self.text.total)}
        if self.text.headers.channels:
            results["bits_per_byte_by_channel"] = {
                channel: bits_per_byte(by_channel[channel][0] / by_channel[channel][1], size)
                for channel, size in self.text.by_channel.items()
                if channel in by_channel  # it is found only if the header is among the labels
            }
        return results


def perplexity(loss: float) -> float:
    """Return the perplexity of a mean loss in nats per token; infinity if it overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(loss: float, size: TextSize) -> float | None:
    """Return the mean loss in nats per token of a text in bits per byte, or None if its bytes are not known.

    The tokens of headers cost bits, and have no bytes.
    """
    return loss / math.log(2) * size.tokens / size.bytes if size.bytes else None


def check_finite(loss: float, precision: str) -> None:
    """Raise InputError if the loss is NaN or infinite, so that no checkpoint of such a model is saved."""
    if not math.isfinite(loss):
        larger = {"fp16": "fp32 (or bf16, if the device has it)", "bf16": "fp32"}.get(precision)
        otherwise = f", or start again with --overwrite and --precision {larger}" if larger else ""
        raise InputError(f"the loss is {loss}. Pass --resume with a lower --learning-rate{otherwise}.")
