"""The plan of a run, printed before it begins: the model, the data, the steps, and the memory and disk it takes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import psutil
import torch

from chatter.cli import InputError, log
from chatter.gpu import has_bf16
from chatter.training.checkpoints import completed, find_deletable
from chatter.training.memory import Mode, Shape, describe, estimate_gpu, estimate_gpu_peak, estimate_host, fits
from chatter.training.placement import memory_of_gpu
from chatter.training.run import TrainingRun
from chatter.training.settings import describe_learning_rate


def plan_memory(run: TrainingRun) -> dict[str, str]:
    """Return rows of the plan: what is offloaded, the memory that the run takes, and what would take more or less."""
    placement, cuda = run.placement, run.settings.device.type == "cuda"
    shape, mode = placement.shape, placement.mode
    rows = {"offloaded": describe_offloading(mode)}
    host, ram = estimate_host(shape, mode, cuda), psutil.virtual_memory().total
    if cuda:
        parts = estimate_gpu(shape, mode)
        needed, total = sum(parts.values()), memory_of_gpu()
        named = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items() if size > 5e7)
        rows["GPU memory"] = f"about {needed / 1e9:.1f} of {total / 1e9:.0f} GB, estimated ({named})"
        if not fits(needed, total):
            rows["GPU memory"] += ": too much. Pass a lower --micro-batch-size, or --gradient-checkpointing"
        if placement.other:
            rows["offloaded"] += f"; {compare_offloading(shape, placement.other, total)}"
        if faster := find_faster(run, total):
            rows["faster"] = faster
    rows["host memory"] = f"about {host / 1e9:.1f} of {ram / 1e9:.0f} GB, estimated"
    if not fits(host, ram):
        smaller = "--no-offload, or a smaller --model" if cuda and mode.offload_optimizer else "a smaller --model"
        rows["host memory"] += f": too much. Pass {smaller}"
    return rows


def find_faster(run: TrainingRun, total: float) -> str:
    """Return options that would make the run faster on a GPU of `total` bytes, or ""."""
    mode = run.placement.mode
    plain = replace(mode, deepspeed=False, offload_param=False, offload_optimizer=False, compiled=True)
    needed = estimate_gpu_peak(describe(run.model, run.placement.shape.tokens, plain), plain)
    if mode.processes == 1 and fits(needed, total) and plain != mode:
        option = "--compile" if not mode.deepspeed else "--no-deepspeed --compile"
        return f"{option}, with about {needed / 1e9:.1f} GB, for runs of more than ten minutes"
    if mode.offload_optimizer and run.settings.fp16 and has_bf16():
        return "--precision bf16: the CPU need not check the gradients for overflow"
    return ""


def describe_offloading(mode: Mode) -> str:
    """Return what is kept in the CPU's memory, as in "parameters and optimizer"."""
    return " and ".join(["parameters"] * mode.offload_param + ["optimizer"] * mode.offload_optimizer) or "nothing"


def compare_offloading(shape: Shape, other: Mode, total: float) -> str:
    """Return how much of the GPU's `total` memory the run would need in another mode, with or without offloading."""
    needed = estimate_gpu_peak(shape, other)
    text = f"{'--offload' if other.offloads else '--no-offload'} would need about {needed / 1e9:.1f} GB"
    if other.offloads:
        return text
    return text + (", which fits, and be faster" if fits(needed, total) else ", which is too much")


def print_plan(run: TrainingRun) -> None:
    """Print the model, the data, the steps and the memory of a run.

    Raises InputError if the disk has no room for a checkpoint.
    """
    args, settings, model, mode = run.args, run.settings, run.model, run.placement.mode
    parameters, trained = model.num_parameters(), model.num_parameters(only_trainable=True)
    # float32 weights, Adam's two moments and, with DeepSpeed, the weights in the precision of training
    checkpoint = trained * (12 + ((2 if mode.half else 4) if mode.deepspeed else 0))
    zero_stage = settings.deepspeed["zero_optimization"].get("stage", 0) if mode.deepspeed else 0
    kept = f"the newest {args.keep_checkpoints} and the best are kept" if args.keep_checkpoints else "all are kept"
    rows = {
        "model": f"{args.model}, {parameters:,} parameters"
        + (f", {trained:,} of them trained" * (trained < parameters)),
        "train, test": f"{len(run.blocks['train']):,} and {len(run.blocks['test']):,} blocks of "
        f"{run.chat_format.block_size} tokens",
        "steps": f"{settings.max_steps:,}, each of {args.batch_size} blocks: {settings.world_size} process(es) x "
        f"{run.placement.micro_batch_size} x {settings.gradient_accumulation_steps} accumulated",
        "learning rate": describe_learning_rate(settings.learning_rate, model.config.model_type, args.lora_rank),
        "training": f"{run.precision} on {settings.device}, with "
        + (f"DeepSpeed ZeRO stage {zero_stage}" if mode.deepspeed else "the plain Trainer")
        + ", compiled, which takes a minute at the first step" * args.compile,
        "a checkpoint": f"about {checkpoint / 1e9:.2g} GB, {kept}",
    }
    for name, value in (rows | plan_memory(run)).items():
        log(f"{name:18} {value}")
    disk = next(folder for folder in run.checkpoints.absolute().parents if folder.exists())
    deletable = find_deletable(run.checkpoints, completed(run.checkpoints) if args.resume else ())
    files = [path for each in deletable for path in each.rglob("*") if path.is_file()]
    free = shutil.disk_usage(disk).free + sum(path.stat().st_size for path in files)
    if free < checkpoint:
        raise InputError(
            f"a checkpoint takes about {checkpoint:,} bytes, but only {free:,} are free in {disk}. Free some space, or "
            "pass another --output-dir."
        )


def log_peak() -> None:
    """Log the peak GPU memory that PyTorch allocated in this process; do nothing without a GPU."""
    if torch.cuda.is_available():
        log(f"peak of GPU memory: {torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
