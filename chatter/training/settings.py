"""The settings of a run: TrainingArguments, learning rate, precision, optimizer."""

from __future__ import annotations

import argparse
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments

from chatter.cli import InputError, log
from chatter.gpu import has_bf16
from chatter.training.placement import Placement

# The defaults of --learning-rate. Those of models other than GPT-2 are from bench/learning_rates.py.
GPT2_LEARNING_RATE, OTHER_LEARNING_RATE, ADAPTER_LEARNING_RATE = 1e-3, 3e-4, 3e-3
HIGH_LEARNING_RATE = 1e-3  # at this rate, models other than GPT-2 learn less


def count_steps(num_blocks: int, batch_size: int) -> int:
    """Return the number of optimizer steps in an epoch. The last one may have fewer blocks."""
    return math.ceil(num_blocks / batch_size)


def training_arguments(
    args: argparse.Namespace,
    placement: Placement,
    deepspeed_config: dict[str, Any] | None,
    steps_per_epoch: int,
    checkpoints: Path,
    precision: str,
) -> TrainingArguments:
    """Build the TrainingArguments for the options of train.py. Raises InputError if they contradict each other."""
    cuda = args.device == "cuda"
    if args.report_to == "tensorboard" and not find_spec("tensorboard"):
        raise InputError("--report-to tensorboard needs tensorboard. Run pip install tensorboard.")
    size, num_processes = placement.micro_batch_size, placement.mode.processes
    accumulation, rest = divmod(args.batch_size, size * num_processes)
    if rest or not accumulation:
        factors = f"{num_processes} process(es)"
        if size > 1:
            factors = f"{factors} times the micro-batch size of {size}"
        raise InputError(f"--batch-size {args.batch_size} is not a multiple of {factors}. Change one of them.")
    max_steps = args.max_steps or math.ceil(args.epochs * steps_per_epoch)
    warmup_steps = math.ceil(args.warmup_epochs * steps_per_epoch)
    if warmup_steps >= max_steps > 1:
        log(f"the warm-up of {warmup_steps} steps is not shorter than the run of {max_steps}: training without it")
    return TrainingArguments(
        output_dir=str(checkpoints),
        deepspeed=deepspeed_config,
        torch_compile=args.compile,
        use_cpu=not cuda,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        tf32=(cuda and precision == "fp32" and has_bf16()) or None,
        optim=choose_optimizer(precision, cuda, deepspeed=not args.no_deepspeed),
        activation_checkpointing=args.gradient_checkpointing,
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",  # see Schedule in callbacks.py
        warmup_steps=warmup_steps if warmup_steps < max_steps else 0,  # or the peak would not be reached
        max_steps=max_steps,
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size,
        gradient_accumulation_steps=accumulation,
        save_strategy="epoch",
        eval_strategy="epoch",
        eval_on_start=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # a loss of nan must be visible
        batch_eval_metrics=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        label_names=["labels"],  # the Trainer does not find them in a model with adapters
        report_to=args.report_to,
        disable_tqdm=True,  # Progress in callbacks.py replaces it
        log_level_replica="error",  # as in the first process, see train.py
        seed=args.seed,
    )


def default_learning_rate(model_type: str, lora_rank: int) -> float:
    if model_type == "gpt2":
        return GPT2_LEARNING_RATE
    return ADAPTER_LEARNING_RATE if lora_rank else OTHER_LEARNING_RATE


def describe_learning_rate(rate: float, model_type: str, lora_rank: int) -> str:
    """Return a learning rate as the plan shows it, with a remark if it is the default, or high.

    For adapters, high rates are usual, and get no remark.
    """
    text = np.format_float_scientific(rate, trim="-", exp_digits=1)
    if rate == default_learning_rate(model_type, lora_rank):
        others = "adapters of other models" if lora_rank else "models other than GPT-2"
        return f"{text}, the default for {'GPT-2' if model_type == 'gpt2' else others}"
    if model_type != "gpt2" and rate >= HIGH_LEARNING_RATE and not lora_rank:
        return f"{text}, which is high for models other than GPT-2"
    return text


def choose_precision(args: argparse.Namespace, dtype: torch.dtype | None = None) -> str:
    """Return fp16, bf16 or fp32 for --precision and a model whose pretrained weights have `dtype`.

    Raises InputError if the device cannot train in it.
    """
    cuda = args.device == "cuda"
    if args.precision == "auto":
        return "fp32" if not cuda else "bf16" if dtype == torch.bfloat16 and has_bf16() else "fp16"
    can_fp16 = cuda
    if not args.no_deepspeed:
        from deepspeed.accelerator import get_accelerator

        can_fp16 = get_accelerator().is_fp16_supported()
    if args.precision == "fp16" and not can_fp16:
        raise InputError("this device cannot train in fp16. Pass --precision bf16 or fp32.")
    return args.precision


def choose_optimizer(precision: str, cuda: bool, deepspeed: bool) -> str:
    """Return the Trainer's name for AdamW: the fused one, except with the plain Trainer in fp16 on a GPU.

    There, it skips steps that overflow, and accelerate does not notice it. DeepSpeed looks for overflows itself.
    """
    return "adamw_torch" if cuda and precision == "fp16" and not deepspeed else "adamw_torch_fused"
