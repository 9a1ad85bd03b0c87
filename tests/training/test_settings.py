"""chatter.training.settings: learning rates, and fused kernels, which give the result of those that they replace."""

import re

import pytest
import torch
from conftest import BLOCK_SIZE, ROOT, assert_equals_plain_loop
from transformers.activations import GELUTanh, NewGELUActivation

from chatter.training.model import fuse_gelu, load_model
from chatter.training.settings import (
    ADAPTER_LEARNING_RATE,
    GPT2_LEARNING_RATE,
    HIGH_LEARNING_RATE,
    OTHER_LEARNING_RATE,
    choose_optimizer,
    default_learning_rate,
    describe_learning_rate,
)


@pytest.fixture(scope="module")
def models(small_model, tokenizer):
    """The same model twice, as transformers loads it and fused."""
    as_loaded, other = (load_model(str(small_model), tokenizer, BLOCK_SIZE).eval() for _ in range(2))
    other.load_state_dict(as_loaded.state_dict())  # the row of the padding token is drawn each time
    return as_loaded, fuse_gelu(other)


def test_every_gelu_is_replaced(models):
    kinds = [[type(module) for module in model.modules()] for model in models]
    assert kinds[0].count(NewGELUActivation) == 2 and kinds[1].count(NewGELUActivation) == 0
    assert kinds[1].count(GELUTanh) == 2


def test_the_loss_and_its_gradients_stay_what_they_were(models):
    input_ids = torch.arange(2 * BLOCK_SIZE).reshape(2, BLOCK_SIZE)
    losses = [model(input_ids=input_ids, labels=input_ids).loss for model in models]
    assert losses[1].item() == pytest.approx(losses[0].item(), abs=1e-5)
    for model, loss in zip(models, losses, strict=True):
        model.zero_grad()
        loss.backward()
    for (name, one), two in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, rtol=1e-4, atol=1e-6), name


def test_what_is_saved_stays_what_it_was(models, tmp_path):
    for model, name in zip(models, ("loaded", "fused"), strict=True):
        model.save_pretrained(tmp_path / name)
    for file in ("config.json", "generation_config.json", "model.safetensors"):
        assert (tmp_path / "loaded" / file).read_bytes() == (tmp_path / "fused" / file).read_bytes()
    assert '"activation_function": "gelu_new"' in (tmp_path / "fused/config.json").read_text()


@pytest.mark.parametrize(
    ("precision", "cuda", "deepspeed", "name"),
    [
        ("fp32", True, False, "adamw_torch_fused"),
        ("bf16", True, False, "adamw_torch_fused"),
        ("fp16", True, False, "adamw_torch"),  # accelerate would miss the steps that are skipped
        ("fp32", False, False, "adamw_torch_fused"),
        ("fp16", True, True, "adamw_torch_fused"),
    ],
)
def test_which_adamw(precision, cuda, deepspeed, name):
    assert choose_optimizer(precision, cuda, deepspeed) == name


def test_the_default_learning_rate_depends_on_the_family_and_the_plan_says_so():
    assert default_learning_rate("gpt2", None) == default_learning_rate("gpt2", 8) == GPT2_LEARNING_RATE == 1e-3
    assert default_learning_rate("qwen2", None) == default_learning_rate("gpt_neox", None) == OTHER_LEARNING_RATE
    assert default_learning_rate("llama", 8) == ADAPTER_LEARNING_RATE
    assert describe_learning_rate(3e-3, "llama", True) == "3e-3, the default for adapters of other models"
    assert describe_learning_rate(3e-4, "llama", False) == "3e-4, the default for models other than GPT-2"
    for adapters in (False, True):
        assert describe_learning_rate(GPT2_LEARNING_RATE, "gpt2", adapters) == "1e-3, the default for GPT-2"
        assert describe_learning_rate(5.5e-5, "llama", adapters) == "5.5e-5"


def test_a_rate_at_which_a_model_forgets_is_called_high():
    """Not for GPT-2, and not for adapters."""
    assert describe_learning_rate(2e-3, "llama", False) == "2e-3, which is high for models other than GPT-2"
    assert describe_learning_rate(2e-3, "llama", True) == describe_learning_rate(2e-3, "gpt2", False) == "2e-3"
    assert OTHER_LEARNING_RATE < HIGH_LEARNING_RATE  # a default is not called high


@pytest.mark.parametrize("page", ["train.py", "docs/training.md"])
def test_the_default_learning_rates_are_documented(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for rate in (GPT2_LEARNING_RATE, OTHER_LEARNING_RATE, ADAPTER_LEARNING_RATE):
        number = describe_learning_rate(rate, "other", False).split(",")[0]
        assert re.search(rf"\b{number}\b", text)


@pytest.mark.slow
def test_fused_adamw_and_checkpointing_equal_a_plain_loop(train, plain_loop):
    assert_equals_plain_loop(train("--no-deepspeed", "--gradient-checkpointing"), plain_loop)


@pytest.mark.slow
def test_checkpointing_under_zero3_equals_a_plain_loop(train, plain_loop):
    assert_equals_plain_loop(train("--gradient-checkpointing"), plain_loop)
