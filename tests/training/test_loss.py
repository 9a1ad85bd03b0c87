"""chatter.training.loss: padding does not count, and every other token counts the same."""

import math

import numpy as np
import pytest
import torch
from conftest import BLOCK_SIZE
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction

from chatter.cli import InputError
from chatter.tokens.chat import begin_chat, newline_id
from chatter.tokens.text_size import UNKNOWN, TextSize, count_text
from chatter.training.loss import MeanTokenLoss, bits_per_byte, check_finite, collate, perplexity, sum_token_losses
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
        sums = EvalPrediction(sum_token_losses(logits, labels), labels)
        results.append(mean_loss(sums, compute_result=is_last))
    *before, result = results
    assert not any(before)
    return result


@pytest.fixture
def uneven_batches():
    """Five blocks of 2 to 32 tokens, in batches of three, one and one."""
    generator = torch.Generator().manual_seed(0)
    return make_batches(torch.randint(50, (5, BLOCK_SIZE), generator=generator), (32, 2, 17, 3, 9), 50)


def make_batches(ids, lengths, vocabulary):
    """Random logits for blocks of so many tokens, in batches of three, one and one."""
    labels = ids.clone()
    for row, length in zip(labels, lengths, strict=True):
        row[length:] = -100
    logits = torch.randn(*ids.shape, vocabulary, generator=torch.Generator().manual_seed(1)) * 3
    return list(zip(logits.split([3, 1, 1]), labels.split([3, 1, 1]), strict=True))


@pytest.fixture
def text(tokenizer):
    """The text of a block, without channels."""
    return count_text(Dataset.from_dict({"input_ids": [[tokenizer.bos_token_id, 5, 6]]}), tokenizer)


def test_the_loss_of_uneven_batches_is_the_mean_over_all_tokens(uneven_batches, text):
    logits = torch.cat([logits[:, :-1].flatten(0, 1) for logits, _ in uneven_batches])
    labels = torch.cat([labels[:, 1:].flatten() for _, labels in uneven_batches])
    expected = cross_entropy(logits, labels).item()
    assert add_up(MeanTokenLoss(text), uneven_batches)["loss"] == pytest.approx(expected, rel=1e-6)
    batch_means = [cross_entropy(logits[0, :-1], labels[0, 1:]).item() for logits, labels in uneven_batches]
    assert np.mean(batch_means) != pytest.approx(expected, rel=1e-2)  # what the Trainer would have reported


def test_each_evaluation_starts_over(uneven_batches, text):
    mean_loss = MeanTokenLoss(text)
    first = add_up(mean_loss, uneven_batches)
    add_up(mean_loss, uneven_batches[:1])
    assert add_up(mean_loss, uneven_batches) == first


def test_bits_per_byte_are_all_nats_over_all_bytes_in_total_and_by_channel(tokenizer):
    """The header costs bits, and has no bytes."""
    newline, start, pad = newline_id(tokenizer), tokenizer.bos_token_id, tokenizer.pad_token_id
    begins = [begin_chat(tokenizer, start, newline, header) for header in ("#a", "#b", "", "#a", "#b")]
    said = ["hi you", "LUL", "what is it", "hm hm hm", "\U0001f602 \u00e9"]
    rows = [[*begin, *tokenizer.encode(text), newline] for begin, text in zip(begins, said, strict=True)]
    blocks = [[*row, *[pad] * (BLOCK_SIZE - len(row))] for row in rows]
    text = count_text(Dataset.from_dict({"input_ids": blocks}), tokenizer, ["a", "b"])
    batches = make_batches(torch.tensor(blocks), [*map(len, rows)], len(tokenizer))
    nats = [
        cross_entropy(logits[:-1], labels[1:], reduction="sum").item()
        for batch in batches
        for logits, labels in zip(*batch, strict=True)
    ]
    sizes = [len(f"{text}\n".encode()) for text in said]
    result = add_up(MeanTokenLoss(text), batches)
    assert result["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / sum(sizes))
    assert result["bits_per_byte_by_channel"] == {
        channel: pytest.approx(sum(nats[n] for n in some) / math.log(2) / sum(sizes[n] for n in some))
        for channel, some in {"a": (0, 3), "b": (1, 4), UNKNOWN: (2,)}.items()
    }
    whole = [tuple(torch.cat(parts) for parts in zip(*batches, strict=True))]
    assert add_up(MeanTokenLoss(text), whole) == {name: pytest.approx(value) for name, value in result.items()}


def test_bits_per_byte_of_unknown_text_are_unknown(uneven_batches, text):
    assert bits_per_byte(1.0, TextSize(10, None)) is None and bits_per_byte(1.0, TextSize(10, 0)) is None
    text.by_channel["alpha"] = TextSize(1, None)
    assert add_up(MeanTokenLoss(text), uneven_batches)["bits_per_byte"] is None


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
