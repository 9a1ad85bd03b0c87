"""Estimate the memory that a run takes.

The estimates leave out CUDA's context, the allocator's fragments, and what kernels need for themselves: a GPU needs
ROOM more. bench/bench_memory.py compares them with a simulation of every tensor, bench/gpu.py with a real GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ROOM = 1.15, 1.0e9  # an estimate times the first, plus the second, must fit
# Host memory of Python, torch and DeepSpeed in bytes, without CUDA and with it. Measured: gpt2-medium on an H100 took
# 11.3 GB with --offload (estimated: 11.4), and 3.2 GB without (3.9).
LIBRARIES = {False: 1.2e9, True: 2.5e9}
# Elements of the gradients that ZeRO-3 reduces at once. The Trainer's "auto" is the square of the width, a million for
# gpt2-medium, whose layers have 12.6 million each. Larger buckets took more memory and no less time.
BUCKET_SIZE = 50_000_000
COMPILED = 0.75  # of the activations: what kernels of torch.compile compute again (measured on gpt2-medium)
MAX_LIVE = 1e9  # parameters that ZeRO-3 keeps on the GPU at once: stage3_max_live_parameters


@dataclass(frozen=True)
class Mode:
    """How a run trains. `processes` share what ZeRO-3 splits; `local` of them are on this machine."""

    half: bool  # fp16 or bf16
    deepspeed: bool = True
    offload_param: bool = True
    offload_optimizer: bool = True
    checkpointing: bool = False
    compiled: bool = False
    processes: int = 1
    local: int = 1

    @property
    def offloads(self) -> bool:
        return self.offload_param or self.offload_optimizer


@dataclass(frozen=True)
class Shape:
    """The sizes of a model and a micro-batch that decide how much memory they take."""

    parameters: int
    trained: int  # of the parameters
    layers: int
    width: int
    vocabulary: int
    tokens: int  # of a micro-batch
    activations: float  # bytes that the layers keep for each token, from `count_activations`


def estimate_gpu(shape: Shape, mode: Mode) -> dict[str, float]:
    """Return the parts of a process's peak GPU memory, at the beginning of the backward pass, in bytes."""
    bytes_each, share = 2 if mode.half else 4, 1 / mode.processes
    if not mode.deepspeed:
        copies = 2 * mode.half  # autocast's
        states = {
            "weights": (4 + copies) * shape.parameters,
            "gradients": (4 + 4 * (mode.processes > 1)) * shape.trained,
            "optimizer": 8 * shape.trained,
        }
    else:
        live = bytes_each * min(shape.parameters, MAX_LIVE)
        kept = 0 if mode.offload_param else bytes_each * shape.parameters * share
        states = {"weights": max(live, kept) if mode.processes == 1 else live + kept}
        states["gradients"] = bytes_each * min(shape.trained, BUCKET_SIZE)
        states["optimizer"] = 0
        if not mode.offload_optimizer:
            states["gradients"] = max(states["gradients"], bytes_each * shape.trained * share)
            states["optimizer"] = 12 * shape.trained * share  # float32 weights, and Adam's two moments
    parts = states | estimate_activations(shape, mode)
    if mode.deepspeed and not mode.offload_optimizer:  # float32 gradients and a temporary, after activations are freed
        step = 8 * shape.trained * share
        parts["step"] = max(0, step - parts["activations"] - parts["loss"])
    return parts


def estimate_gpu_peak(shape: Shape, mode: Mode) -> float:
    """Return a process's peak GPU memory in bytes."""
    return sum(estimate_gpu(shape, mode).values())


def estimate_activations(shape: Shape, mode: Mode) -> dict[str, float]:
    """Return the memory that a micro-batch's forward pass keeps, and the loss at its peak, in bytes.

    A checkpointed layer keeps its input, and only one layer at a time is computed again, beside its gradients.
    """
    loss = 12 * shape.vocabulary  # in float32: logarithms of probabilities, and two gradients
    if not mode.checkpointing:
        layers = (COMPILED if mode.compiled else 1) * shape.activations
        return {"activations": shape.tokens * layers, "loss": shape.tokens * loss}
    residual = 2 if mode.half and mode.deepspeed else 4  # under autocast, sums and norms are in float32
    kept = (shape.layers + 2) * residual * shape.width
    recomputed = 1.5 * shape.activations / shape.layers
    return {"activations": shape.tokens * kept, "loss": shape.tokens * max(loss, recomputed)}


def estimate_host(shape: Shape, mode: Mode, cuda: bool) -> float:
    """Return the peak of this machine's host memory in bytes, over all processes on it.

    Offloaded tensors lie in pinned memory, which PyTorch rounds up, by a quarter on average.
    """
    bytes_each, on_machine = 2 if mode.half else 4, mode.local / mode.processes
    offloaded = 0.0
    if mode.deepspeed:
        offloaded += bytes_each * mode.offload_param * shape.parameters
        offloaded += (16 + bytes_each) * mode.offload_optimizer * shape.trained
    states = (1.25 if cuda else 1) * offloaded * on_machine
    loading = 4 * shape.parameters * mode.local  # in float32, before it is split or moved
    here = 0.0
    if not cuda:
        parts = estimate_gpu(shape, mode)
        if mode.deepspeed and mode.offload_param:  # on a CPU the offloaded weights are used in place
            del parts["weights"]
        here = sum(parts.values()) * mode.local
    return max(states + here, loading) + LIBRARIES[cuda] * mode.local


def fits(needed: float, available: float) -> bool:
    """Return whether an estimate fits, with room for what it leaves out."""
    return needed * ROOM[0] + ROOM[1] <= available


def describe(model: nn.Module, tokens: int, mode: Mode) -> Shape:
    """Return the sizes of a model that is not split yet, and of micro-batches of `tokens` tokens."""
    config = model.config.get_text_config()
    return Shape(
        parameters=sum(each.numel() for each in model.parameters()),
        trained=sum(each.numel() for each in model.parameters() if each.requires_grad),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        tokens=tokens,
        activations=count_activations(model, mode),
    )


class LikeCuda(TorchFunctionMode):
    """Computes dropout and attention on a CPU as CUDA does: masks of a byte, and attention that keeps no scores."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is functional.dropout:
            return drop(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            kwargs = kwargs | {"dropout_p": 0.0}
        return function(*args, **kwargs)


def drop(hidden: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(hidden, p, True)[0] if training and p else hidden


def count_activations(model: nn.Module, mode: Mode) -> float:
    """Return the bytes that a model without its output layer keeps for the backward pass, per token.

    Counts the tensors that a forward pass on fake tensors, which have shapes but no contents, keeps. What it keeps
    for one block is subtracted from what it keeps for two, so that copies of weights do not count.
    """
    length = 256
    kept = [count_kept(model, torch.Size((blocks, length)), mode) for blocks in (1, 2)]
    return (kept[1] - kept[0]) / length


def count_kept(model: nn.Module, shape: torch.Size, mode: Mode) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, besides the weights."""
    inner = model.get_base_model().base_model if hasattr(model, "peft_config") else model.base_model
    dtype = torch.bfloat16 if mode.half and mode.deepspeed else torch.float32
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=mode.half and not mode.deepspeed)
    kept: dict[int, torch.UntypedStorage] = {}  # by address; held, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True), LikeCuda():
        weights: dict[str, Any] = {
            name: torch.empty(each.shape, dtype=dtype, device="cpu").requires_grad_(each.requires_grad)
            for name, each in inner.named_parameters()
        }
        input_ids = torch.zeros(shape, dtype=torch.int64, device="cpu")
        with saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
            output = torch.func.functional_call(inner.train(), weights, (input_ids,), {"use_cache": False})
        for each in weights.values():
            kept.pop(each.untyped_storage()._cdata, None)
        del output
    return sum(storage.nbytes() for storage in kept.values())
