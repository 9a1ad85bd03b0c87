"""The memory and disk that a run takes, estimated and printed before it begins.

The estimates leave out CUDA's context, the allocator's fragments, and what kernels need for themselves: a GPU needs
ROOM more. bench/bench_memory.py compares them with a simulation of every tensor.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace

import psutil
import torch
from transformers import PreTrainedModel, TrainingArguments

from chatter.cli import InputError, log
from chatter.gpu import is_ampere
from chatter.training.run import TrainingRun

ROOM = 1.15, 1.0e9  # an estimate times the first, plus the second, must fit
# Host memory of Python, torch and DeepSpeed in bytes, without CUDA (measured) and with it (a guess).
LIBRARIES = {False: 1.2e9, True: 2.5e9}
MAX_LIVE = 1e9  # parameters that ZeRO-3 keeps on the GPU at once: stage3_max_live_parameters


@dataclass(frozen=True)
class Shape:
    """The sizes of a model and a micro-batch that decide how much memory they take."""

    parameters: int
    largest: int  # parameters of its largest matrix
    layers: int
    width: int
    inner: int  # width inside the MLP
    vocabulary: int
    tokens: int  # of a micro-batch


@dataclass(frozen=True)
class Mode:
    """How a run trains. `processes` share what ZeRO-3 splits; `local` of them are on this machine."""

    half: bool  # fp16 or bf16
    deepspeed: bool = True
    offload_param: bool = True
    offload_optimizer: bool = True
    checkpointing: bool = False
    processes: int = 1
    local: int = 1


def estimate_gpu(shape: Shape, mode: Mode) -> dict[str, float]:
    """Return the parts of a process's peak GPU memory, at the beginning of the backward pass, in bytes."""
    bytes_each, share = 2 if mode.half else 4, 1 / mode.processes
    if not mode.deepspeed:
        states = {"weights": 4 + 2 * mode.half, "gradients": 4 + 4 * (mode.processes > 1), "optimizer": 8}
        states = {name: size * shape.parameters for name, size in states.items()}
    else:
        live = bytes_each * min(shape.parameters, MAX_LIVE)
        kept = 0 if mode.offload_param else bytes_each * shape.parameters * share
        states = {"weights": max(live, kept) if mode.processes == 1 else live + kept}
        states["gradients"] = bytes_each * shape.largest
        states["optimizer"] = 0
        if not mode.offload_optimizer:
            states["gradients"] = max(states["gradients"], bytes_each * shape.parameters * share)
            states["optimizer"] = 12 * shape.parameters * share  # float32 weights, and Adam's two moments
    parts = states | estimate_activations(shape, mode)
    if mode.deepspeed and not mode.offload_optimizer:  # float32 gradients and a temporary, after activations are freed
        step = 8 * shape.parameters * share
        parts["step"] = max(0, step - parts["activations"] - parts["loss"])
    return parts


def estimate_activations(shape: Shape, mode: Mode) -> dict[str, float]:
    """Return the memory that a micro-batch's forward pass keeps, and the loss at its peak, in bytes.

    A layer keeps: its input, the output of its first norm, queries, keys and values, the output of attention, the sum
    after it, the output of its second norm; what goes into GELU and what comes out; two dropout masks of a byte each.
    The plain Trainer uses autocast, where the input and the sum are float32. A checkpointed layer keeps its input,
    and only one layer at a time is computed again.
    """
    bytes_each = 2 if mode.half else 4
    residual = 4 if mode.half and not mode.deepspeed else bytes_each
    layer = 2 * residual * shape.width + 6 * bytes_each * shape.width + 2 * bytes_each * shape.inner + 2 * shape.width
    ends = 2 * residual * shape.width + bytes_each * shape.width  # embeddings, and around the last norm
    loss = 12 * shape.vocabulary  # in float32: logarithms of probabilities, and two gradients
    if mode.checkpointing:
        kept = shape.layers * residual * shape.width
        recomputed = layer + 2 * bytes_each * shape.inner  # with gradients, after those for the loss are freed
        return {"activations": shape.tokens * (kept + ends), "loss": shape.tokens * max(loss, recomputed)}
    return {"activations": shape.tokens * (shape.layers * layer + ends), "loss": shape.tokens * loss}


def estimate_host(shape: Shape, mode: Mode, cuda: bool) -> float:
    """Return the peak of this machine's host memory in bytes, over all processes on it.

    Offloaded tensors lie in pinned memory, which PyTorch rounds up, by a quarter on average.
    """
    bytes_each, on_machine = 2 if mode.half else 4, mode.local / mode.processes
    offloaded = bytes_each * mode.offload_param + (16 + bytes_each) * mode.offload_optimizer if mode.deepspeed else 0
    states = (1.25 if cuda else 1) * offloaded * shape.parameters * on_machine
    loading = 4 * shape.parameters * mode.local  # in float32, before it is split or moved
    here = 0.0
    if not cuda:
        parts = estimate_gpu(shape, mode)
        if mode.deepspeed and mode.offload_param:  # on a CPU the offloaded weights are used in place
            del parts["weights"]
        here = sum(parts.values()) * mode.local
    return max(states + here, loading) + LIBRARIES[cuda] * mode.local


def describe(model: PreTrainedModel, tokens: int) -> Shape:
    """Return the sizes of a model and of micro-batches of `tokens` tokens."""
    config = model.config
    sizes = [each.numel() if not hasattr(each, "ds_numel") else each.ds_numel for each in model.parameters()]
    inner = getattr(config, "n_inner", None) or getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return Shape(sum(sizes), max(sizes), config.num_hidden_layers, config.hidden_size, inner, config.vocab_size, tokens)


def fits(needed: float, available: float) -> bool:
    """Return whether an estimate fits, with room for what it leaves out."""
    return needed * ROOM[0] + ROOM[1] <= available


def find_mode(settings: TrainingArguments) -> Mode:
    """Return how a run with these settings trains."""
    zero = (settings.deepspeed or {}).get("zero_optimization", {})
    offloaded = {part: zero.get(f"offload_{part}", {}).get("device") == "cpu" for part in ("param", "optimizer")}
    return Mode(
        settings.fp16 or settings.bf16,
        bool(settings.deepspeed),
        offloaded["param"],
        offloaded["optimizer"],
        settings.activation_checkpointing,
        settings.world_size,
        int(os.environ.get("LOCAL_WORLD_SIZE", settings.world_size)),
    )


def plan_memory(model: PreTrainedModel, settings: TrainingArguments, mode: Mode, block_size: int) -> dict[str, str]:
    """Return rows of the plan: the memory that the run takes, and options that would be faster or take less."""
    shape = describe(model, settings.per_device_train_batch_size * block_size)
    cuda = settings.device.type == "cuda"
    rows, how = {}, "estimated"
    if model.config.model_type != "gpt2" or not all(each.requires_grad for each in model.parameters()):
        how = "estimated as if all weights of a GPT-2 were trained"
    host, ram = estimate_host(shape, mode, cuda), psutil.virtual_memory().total
    if cuda:
        parts = estimate_gpu(shape, mode)
        needed, total = sum(parts.values()), torch.cuda.get_device_properties(settings.device).total_memory
        named = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items() if size > 5e7)
        rows["GPU memory"] = f"about {needed / 1e9:.1f} of {total / 1e9:.0f} GB, {how} ({named})"
        if not fits(needed, total):
            rows["GPU memory"] += ": too much. Pass a lower --micro-batch-size, or --gradient-checkpointing"
        rows |= advise(shape, mode, total, settings)
    rows["host memory"] = f"about {host / 1e9:.1f} of {ram / 1e9:.0f} GB, {how}"
    if not fits(host, ram):
        smaller = "--no-offload, or a smaller --model" if cuda and mode.offload_optimizer else "a smaller --model"
        rows["host memory"] += f": too much. Pass {smaller}"
    return rows


def advise(shape: Shape, mode: Mode, total: float, settings: TrainingArguments) -> dict[str, str]:
    """Return a row with an option that would be faster on a GPU of `total` bytes, if there is one."""
    if not mode.offload_optimizer:
        return {}
    needed = sum(estimate_gpu(shape, replace(mode, offload_param=False, offload_optimizer=False)).values())
    if fits(needed, total):
        return {"faster": f"--no-offload: about {needed / 1e9:.1f} GB of GPU memory, estimated"}
    if settings.fp16 and is_ampere():
        return {"faster": "--precision bf16: the CPU need not check the gradients for overflow"}
    return {}


def print_plan(run: TrainingRun) -> None:
    """Print the model, the data, the steps and the memory of a run.

    Raises InputError if the disk has no room for a checkpoint.
    """
    args, settings, model, mode = run.args, run.settings, run.model, find_mode(run.settings)
    parameters, trained = model.num_parameters(), model.num_parameters(only_trainable=True)
    offloaded = ["parameters"] * mode.offload_param + ["optimizer"] * mode.offload_optimizer
    # float32 weights, Adam's two moments and, with DeepSpeed, the weights in the precision of training
    checkpoint = trained * (12 + ((2 if mode.half else 4) if mode.deepspeed else 0))
    zero_stage = settings.deepspeed["zero_optimization"].get("stage", 0) if mode.deepspeed else 0
    rows = {
        "model": f"{args.model}, {parameters:,} parameters"
        + (f", {trained:,} of them trained" * (trained < parameters)),
        "train, test": f"{len(run.blocks['train']):,} and {len(run.blocks['test']):,} blocks of "
        f"{run.chat_format.block_size} tokens",
        "steps": f"{settings.max_steps:,}, each of {args.batch_size} blocks: {settings.world_size} process(es) x "
        f"{args.micro_batch_size} x {settings.gradient_accumulation_steps} accumulated",
        "training": f"{run.precision} on {settings.device}, with "
        + (f"DeepSpeed ZeRO stage {zero_stage}" if mode.deepspeed else "the plain Trainer"),
        "in CPU memory": " and ".join(offloaded) or "nothing",
        "a checkpoint": f"about {checkpoint / 1e9:.2g} GB, {args.keep_checkpoints or 'all'} are kept",
    }
    for name, value in (rows | plan_memory(model, settings, mode, run.chat_format.block_size)).items():
        log(f"{name:18} {value}")
    disk = next(folder for folder in run.checkpoints.absolute().parents if folder.exists())
    free = shutil.disk_usage(disk).free
    if free < checkpoint:
        raise InputError(
            f"a checkpoint takes about {checkpoint:,} bytes, but only {free:,} are free in {disk}. Free some space, or "
            "pass another --output-dir."
        )


def log_peak() -> None:
    """Log the peak GPU memory that PyTorch allocated in this process; do nothing without a GPU."""
    if torch.cuda.is_available():
        log(f"peak of GPU memory: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
