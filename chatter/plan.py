"""What a run is going to do, before it begins: its size, its steps, what it takes of memory and disk."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.checkpoints import precision_of
from chatter.cli import InputError, log
from chatter.memory import plan_memory

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from datasets import DatasetDict
    from transformers import PreTrainedModel, TrainingArguments


def print_plan(
    model: PreTrainedModel, blocks: DatasetDict, settings: TrainingArguments, args: argparse.Namespace
) -> None:
    """Print what will be trained, on what and how. Raises InputError if the disk has no room for a checkpoint."""
    parameters, block_size = model.num_parameters(), len(blocks["train"][0]["input_ids"])
    trained = model.num_parameters(only_trainable=True)
    precision = precision_of(settings)
    zero = (settings.deepspeed or {}).get("zero_optimization", {})
    offloaded = [part for part in ("param", "optimizer") if zero.get(f"offload_{part}", {}).get("device") == "cpu"]
    # float32 weights with Adam's two moments and, of DeepSpeed, the weights in the precision of training
    checkpoint = trained * (12 + ((4 if precision == "fp32" else 2) if settings.deepspeed else 0))
    rows = {
        "model": f"{args.model}, {parameters:,} parameters"
        + (f", {trained:,} of them trained" * (trained < parameters)),
        "train, test": f"{len(blocks['train']):,} and {len(blocks['test']):,} blocks of {block_size} tokens",
        "steps": f"{settings.max_steps:,}, each of {args.batch_size} blocks: {settings.world_size} process(es) x "
        f"{args.micro_batch_size} x {settings.gradient_accumulation_steps} accumulated",
        "training": f"{precision} on {settings.device}, with "
        + (f"DeepSpeed ZeRO stage {zero.get('stage', 0)}" if settings.deepspeed else "the plain Trainer"),
        "in CPU memory": " and ".join(offloaded) or "nothing",
        "a checkpoint": f"about {checkpoint / 1e9:.2g} GB, {args.keep_checkpoints or 'all'} are kept",
    }
    for name, value in (rows | plan_memory(model, settings, block_size)).items():
        log(f"{name:18} {value}")
    disk = next(folder for folder in Path(settings.output_dir).absolute().parents if folder.exists())
    free = shutil.disk_usage(disk).free
    if free < checkpoint:
        raise InputError(
            f"a checkpoint takes about {checkpoint:,} bytes, but only {free:,} are free in {disk}. Free some space, or "
            "pass another --output-dir."
        )
