"""chatter.training.loss: padding does not count, and every other token counts the same."""

import math

import numpy as np
import pytest
import torch
from conftest import BLOCK_SIZE
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

from chatter.cli import InputError
from chatter.training.loss import MeanTokenLoss, check_finite, collate, perplexity, sum_token_losses
from chatter.training.model import load_model


def test_padding_is_not_a_label(tokenizer):
    pad = tokenizer.pad_token_id
    rows = [{"input_ids": np.array([5, 6, pad], np.int32)}, {"input_ids": np.array([7, pad, pad], np.int32)}]
    batch = collate(rows, pad)
    assert batch["input_ids"].tolist() == [[5, 6, pad], [7, pad, pad]] and batch["input_ids"].dtype == torch.int64
    assert batch["labels"].tolist() == [[5, 6, -100], [7, -100, -100]]


@pytest.fixture(scope="module")
def model(small_model, tokenizer):
    return load_model(str(small_model), tokenizer, BLOCK_SIZE).eval()


@pytest.fixture(scope="module")
def padded(tokenizer):
    """A block of ten tokens, and padding."""
    block = np.full(BLOCK_SIZE, tokenizer.pad_token_id, np.int32)
    block[:10] = np.arange(10)
    return block


def test_no_mask_is_the_same_as_a_mask(model, padded, tokenizer):
    """Padding comes after the text, where causal attention does not look."""
    batch = collate([{"input_ids": padded}], tokenizer.pad_token_id)
    mask = (batch["input_ids"] != tokenizer.pad_token_id).long()
    with torch.no_grad():
        bare, masked = model(**batch), model(**batch, attention_mask=mask)
    torch.testing.assert_close(bare.logits[:, :10], masked.logits[:, :10])
    torch.testing.assert_close(bare.loss, masked.loss)


def test_padding_does_not_change_the_loss(model, padded, tokenizer):
    long, short = (collate([{"input_ids": ids}], tokenizer.pad_token_id) for ids in (padded, padded[:10]))
    with torch.no_grad():
        torch.testing.assert_close(model(**long).loss, model(**short).loss)


def add_up(mean_loss, batches):
    """Give the batches of an evaluation to MeanTokenLoss as the Trainer does; return its result."""
    results = []
    for logits, labels in batches:
        is_last = len(results) == len(batches) - 1
        sums = EvalPrediction(sum_token_losses(logits, labels), None)
        results.append(mean_loss(sums, compute_result=is_last))
    *before, result = results
    assert not any(before)
    return result


@pytest.fixture
def uneven_batches():
    """Five blocks of 2 to 32 tokens, in batches of three, one and one."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, BLOCK_SIZE, 50, generator=generator) * 3
    labels = torch.randint(50, (5, BLOCK_SIZE), generator=generator)
    for row, length in zip(labels, (32, 2, 17, 3, 9), strict=True):
        row[length:] = -100
    return list(zip(logits.split([3, 1, 1]), labels.split([3, 1, 1]), strict=True))


def test_the_loss_of_uneven_batches_is_the_mean_over_all_tokens(uneven_batches):
    logits = torch.cat([logits[:, :-1].flatten(0, 1) for logits, _ in uneven_batches])
    labels = torch.cat([labels[:, 1:].flatten() for _, labels in uneven_batches])
    expected = cross_entropy(logits, labels).item()
    assert add_up(MeanTokenLoss(), uneven_batches) == {"loss": pytest.approx(expected, rel=1e-6)}
    batch_means = [cross_entropy(logits[0, :-1], labels[0, 1:]).item() for logits, labels in uneven_batches]
    assert np.mean(batch_means) != pytest.approx(expected, rel=1e-2)  # what the Trainer would have reported


def test_each_evaluation_starts_over(uneven_batches):
    mean_loss = MeanTokenLoss()
    first = add_up(mean_loss, uneven_batches)
    add_up(mean_loss, uneven_batches[:1])
    assert add_up(mean_loss, uneven_batches) == first


def test_perplexity():
    assert perplexity(0.0) == 1 and perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e4) == math.inf  # not an OverflowError


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_a_number_is_refused(loss):
    with pytest.raises(InputError, match=rf"the loss is {loss}\. Pass --resume with a lower"):
        check_finite(loss, "bf16")


def test_a_finite_loss_is_accepted():
    check_finite(1e4, "fp16")


def test_the_advice_for_an_infinite_loss_suits_the_precision():
    advice = {
        "fp16": r"--precision fp32 \(or bf16, if the device has it\)",
        "bf16": "--precision fp32",
        "fp32": "--learning-rate",
    }
    for precision, words in advice.items():
        with pytest.raises(InputError, match=rf"{words}\.$"):
            check_finite(float("nan"), precision)
