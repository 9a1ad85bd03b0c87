"""Fused kernels in place of many small ones: one for GELU, one for AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from transformers import PreTrainedModel


def fuse_gelu(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model with PyTorch's own tanh-GELU in place of `gelu_new`, up to rounding the same function.

    `gelu_new` is eight kernels, and keeps 20 times the width of a token for the backward pass instead of 8. The config
    stays as it is, and so does what is saved.
    """
    from transformers.activations import GELUTanh, NewGELUActivation

    for module in [*model.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, NewGELUActivation):
                setattr(module, name, GELUTanh())
    return model


def choose_optimizer(precision: str, cuda: bool, deepspeed: bool) -> str:
    """Return the Trainer's name of the AdamW to take: fused under the plain Trainer, but not with a GradScaler.

    A fused one skips the steps that overflow in fp16 by itself, and accelerate does not notice. DeepSpeed steps in
    partitions of its own.
    """
    return "adamw_torch" if deepspeed or (cuda and precision == "fp16") else "adamw_torch_fused"
