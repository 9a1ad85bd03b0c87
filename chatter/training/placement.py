"""Choose the micro-batch, and what is offloaded: the fastest choice that is estimated to fit on the GPU.

What a step learns is the same up to rounding and dropout. But each micro-batch takes the host some time, and an
offloaded optimizer takes more. So use few micro-batches, and offload only if the GPU is too small otherwise.
"""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from chatter.cli import InputError
from chatter.training.library_errors import is_out_of_gpu_memory
from chatter.training.memory import Mode, Shape, describe, estimate_gpu_peak, fits
from chatter.training.restart import StartAgain
from chatter.training.zero import OFFLOADED, PROJECT_CONFIG

LARGEST_ON_CPU = 8  # blocks of a micro-batch: more take memory on a CPU, and no less time
FIRST_STEPS = 3  # by then a run has taken the memory that it will take


@dataclass(frozen=True)
class Placement:
    """The micro-batch and the offloading of a run."""

    micro_batch_size: int
    mode: Mode
    shape: Shape  # of the model and this micro-batch
    other: Mode | None  # `mode` with the opposite offloading; None if the config does not offload
    smaller: tuple[str, ...]  # options that make it take less memory; empty if there are none


def choose_placement(
    args: argparse.Namespace, model: nn.Module, block_size: int, half: bool, config: dict[str, Any] | None
) -> Placement:
    """Return the placement for the options of train.py and DeepSpeed's config; None for the plain Trainer.

    An option that is given is taken as it is. Without one, the offloading of a config of the user's own stays, and on a
    CPU that of any config. Raises InputError if --offload is given but cannot be done.
    """
    offloading = find_mode(args, half, config)
    resident = replace(offloading, offload_param=False, offload_optimizer=False)
    if args.offload and offloading == resident:
        reason = f"{args.deepspeed} does not offload" if config else "the plain Trainer cannot offload"
        raise InputError(f"{reason}. Leave out {'--offload' if config else '--offload or --no-deepspeed'}.")
    if args.offload is None:
        may_choose = args.device == "cuda" and args.deepspeed.resolve() == PROJECT_CONFIG
        modes = [resident, offloading] if may_choose else [offloading]
    else:
        modes = [offloading if args.offload else resident]
    given = args.micro_batch_size or (config or {}).get("train_micro_batch_size_per_gpu", "auto")
    sizes = divisors(args, offloading.processes) if given == "auto" else [given]
    total = memory_of_gpu() if args.device == "cuda" else math.inf
    shape = describe(model, block_size, offloading)
    shapes = {size: replace(shape, tokens=size * block_size) for size in sizes}
    candidates = [(size, mode) for mode in modes for size in sizes]
    size, mode = next(
        (each for each in candidates if fits(estimate_gpu_peak(shapes[each[0]], each[1]), total)),
        candidates[-1],
    )
    smaller: tuple[str, ...] = ()
    if half_size := next((each for each in sizes if each <= size / 2), None):
        smaller = "--micro-batch-size", str(half_size)
    elif mode != modes[-1]:
        smaller = ("--offload",)
    other = None if resident == offloading else offloading if mode == resident else resident
    return Placement(size, mode, shapes[size], other, smaller)


def find_mode(args: argparse.Namespace, half: bool, config: dict[str, Any] | None) -> Mode:
    """Return how a run trains if it offloads all that its config says. Raises InputError if that is not to the CPU."""
    zero = (config or {}).get("zero_optimization", {})
    devices = [(zero.get(name) or {}).get("device", "none") for name in OFFLOADED]
    if others := {*devices} - {"cpu", "none"}:
        raise InputError(f"{args.deepspeed} offloads to {others.pop()}, which train.py cannot do. Write cpu or none.")
    optimizer, param = (device == "cpu" for device in devices)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or processes)
    return Mode(
        half=half,
        deepspeed=config is not None,
        offload_param=param,
        offload_optimizer=optimizer,
        checkpointing=args.gradient_checkpointing,
        compiled=args.compile,
        processes=processes,
        local=local,
    )


def divisors(args: argparse.Namespace, processes: int) -> list[int]:
    """Return the sizes of micro-batches that a process's share of a batch can be divided into, the largest first."""
    share = max(1, args.batch_size // processes)
    largest = min(share, LARGEST_ON_CPU) if args.device != "cuda" else share
    return [size for size in range(largest, 0, -1) if share % size == 0]


def memory_of_gpu() -> int:
    """Return the memory of the smallest GPU that torch sees, in bytes: all processes have to choose the same."""
    return min(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))


class FirstSteps(TrainerCallback):
    """Raises StartAgain if GPU memory runs out in the first steps and other options would take less.

    It does so only in a run of one process, as it cannot restart the others.
    """

    def __init__(self, placement: Placement) -> None:
        self.placement, self.done = placement, 0

    def on_step_end(self, args, state, control, **kwargs):
        self.done += 1

    def __enter__(self) -> FirstSteps:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        may_start_again = self.done < FIRST_STEPS and self.placement.smaller and self.placement.mode.processes == 1
        if may_start_again and isinstance(error, Exception) and is_out_of_gpu_memory(error):
            raise StartAgain(self.placement.smaller) from error
