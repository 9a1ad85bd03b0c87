"""Simulate the GPU memory of training GPT-2 in its four sizes, compare it with train.py's estimate, and list what fits.

Nothing is allocated: forward and backward run on fake tensors, under torch's MemTracker, with attention as on a GPU
(no dropout in it, which would make the CPU keep its scores, and dropout masks of a byte). All figures are estimates.
They leave out CUDA's context, the allocator's fragments and the space that kernels take for themselves.

    python bench/bench_memory.py
    python bench/bench_memory.py --quick
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from functools import cache

import torch
from harness import parse_args, save, table
from torch import nn

from chatter.devices import hide_gpus
from chatter.training.memory import (
    BUCKET_SIZE,
    MAX_LIVE,
    Mode,
    Shape,
    describe,
    estimate_gpu,
    estimate_gpu_peak,
    estimate_host,
    fits,
)
from chatter.training.model import fuse_gelu

SIZES = {"gpt2": (768, 12, 12), "gpt2-medium": (1024, 24, 16), "gpt2-large": (1280, 36, 20), "gpt2-xl": (1600, 48, 25)}
MICRO_BATCHES = [1, 2, 4, 8, 16]
BLOCK_SIZE, VOCABULARY = 512, 50_258
GPUS = [8, 16, 24, 32, 80]  # GB
MODES = {
    "--offload": Mode(half=True),
    "--no-offload": Mode(half=True, offload_param=False, offload_optimizer=False),
    "--no-deepspeed": Mode(half=True, deepspeed=False),
}
NOTEBOOK_RAM = 12.7  # GB, of a free notebook with a GPU of 16 GB


class CudaDropout(nn.Module):
    """Dropout whose mask takes a byte for each element, as CUDA's does; a CPU's takes as much as the element."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.native_dropout(hidden_states, self.share, True)[0]


def make_network(size: str, dtype: torch.dtype, fused: bool, checkpointing: bool) -> nn.Module:
    """Return a GPT-2 to train, ready for simulation."""
    from transformers import GPT2Config, GPT2LMHeadModel

    width, num_layers, num_heads = SIZES[size]
    shape = {"n_embd": width, "n_layer": num_layers, "n_head": num_heads, "n_positions": BLOCK_SIZE}
    config = GPT2Config(vocab_size=VOCABULARY, attn_pdrop=0.0, use_cache=False, **shape)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        network = GPT2LMHeadModel(config).train()
    finally:
        torch.set_default_dtype(before)
    network.loss_type = "ForCausalLM"
    for module in [*network.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, nn.Dropout) and name != "attn_dropout":
                setattr(module, name, CudaDropout(child.p))
    if checkpointing:
        network.activation_checkpointing_enable({"use_reentrant": False})
    return fuse_gelu(network) if fused else network


def simulate(size: str, micro_batch: int, half: bool = True, fused: bool = True, checkpointing: bool = False) -> float:
    """Return the peak of a process that offloads, in bytes: each gradient leaves as soon as it is complete."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode():
        network = make_network(size, torch.float16 if half else torch.float32, fused, checkpointing)
        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
        input_ids = torch.zeros((micro_batch, BLOCK_SIZE), dtype=torch.int64)
        tracker = MemTracker()
        tracker.track_external(network)
        with tracker:
            network(input_ids=input_ids, labels=input_ids).loss.backward()
        [by_kind] = tracker.get_tracker_snapshot("peak").values()
        peak = {str(kind).split(".")[-1]: size for kind, size in by_kind.items()}
        num_parameters = network.num_parameters()
    bytes_each = 2 if half else 4
    live = min(num_parameters, MAX_LIVE) * bytes_each  # of gpt2-xl, ZeRO-3 lets the rest go in between
    bucket = min(num_parameters, BUCKET_SIZE) * bytes_each  # in which ZeRO-3 collects gradients
    return peak["Total"] - peak["PARAM"] + live + bucket


@cache
def shape_of_block(size: str, mode: Mode) -> Shape:
    """Return the shape that train.py estimates with, from weights without data, for micro-batches of a block."""
    with torch.device("meta"):
        return describe(make_network(size, torch.float32, fused=True, checkpointing=False), BLOCK_SIZE, mode)


def shape_of(size: str, micro_batch: int, mode: Mode) -> Shape:
    only_precision = Mode(half=mode.half, deepspeed=mode.deepspeed)  # what activations depend on
    return replace(shape_of_block(size, only_precision), tokens=micro_batch * BLOCK_SIZE)


def compare_with_estimate(sizes: list[str], micro_batches: list[int]) -> list[dict]:
    """Return a row for each size, micro-batch and way to train: GB by estimate and by simulation."""
    rows = []
    ways = {"fp16": {}, "fp16, checkpointing": {"checkpointing": True}, "fp32": {"half": False}}
    ways |= {"fp16, gelu_new": {"fused": False}}
    for size in sizes:
        for micro_batch in micro_batches:
            for way, options in ways.items():
                if micro_batch != 8 and way in ("fp32", "fp16, gelu_new"):
                    continue
                simulated = simulate(size, micro_batch, **options) / 1e9
                row = {"model": size, "micro-batch": str(micro_batch), "way": way, "simulated GB": simulated}
                if options.get("fused", True):
                    mode = Mode(half=options.get("half", True), checkpointing=options.get("checkpointing", False))
                    estimated = estimate_gpu_peak(shape_of(size, micro_batch, mode), mode) / 1e9
                    rows.append(row | {"estimated GB": estimated, "estimated / simulated": estimated / simulated})
                else:
                    rows.append(row | {"estimated GB": "", "estimated / simulated": ""})
                print(rows[-1], file=sys.stderr)
    return rows


def largest_micro_batch(size: str, mode: Mode, gigabytes: float) -> str:
    """Return the largest micro-batch of a block or more that is estimated to fit a GPU; "-" if none does."""
    fitting = [
        batch for batch in MICRO_BATCHES if fits(estimate_gpu_peak(shape_of(size, batch, mode), mode), gigabytes * 1e9)
    ]
    return str(max(fitting)) if fitting else "-"


def what_fits(sizes: list[str]) -> list[dict]:
    """Return a row for each size and mode: the largest micro-batch for each GPU, and the estimated host memory."""
    rows = []
    for size in sizes:
        for name, mode in MODES.items():
            for checkpointing in (False, True):
                chosen = replace(mode, checkpointing=checkpointing)
                row = {"model": size, "train.py": name + " --gradient-checkpointing" * checkpointing}
                row |= {f"{gigabytes} GB": largest_micro_batch(size, chosen, gigabytes) for gigabytes in GPUS}
                host = estimate_host(shape_of(size, 8, chosen), chosen, cuda=True) / 1e9
                rows.append(row | {"host GB": f"{host:.1f}", "notebook": largest_on_notebook(size, chosen, host)})
    return rows


def largest_on_notebook(size: str, mode: Mode, host: float) -> str:
    return largest_micro_batch(size, mode, 15.8) if fits(host * 1e9, NOTEBOOK_RAM * 1e9) else "-"


def estimate_of_deepspeed(sizes: list[str]) -> list[dict]:
    """Return DeepSpeed's own estimate of weights, gradients and optimizer, beside train.py's estimate."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

    rows = []
    for size in sizes:
        for name in ("--offload", "--no-offload"):
            offload = MODES[name].offload_optimizer
            shape = shape_of(size, 8, MODES[name])
            largest = shape.vocabulary * shape.width  # parameters of the largest matrix
            host, gpu, _ = estimate_zero3_model_states_mem_needs(
                shape.parameters, largest, cpu_offload=offload, cpu_offload_params=offload, zero_init=False
            )
            parts = estimate_gpu(shape, MODES[name])
            states = sum(parts[part] for part in ("weights", "gradients", "optimizer"))
            row = {"model": size, "train.py": name, "GPU, DeepSpeed": gpu / 1e9, "GPU, estimated": states / 1e9}
            rows.append(
                row
                | {"host, DeepSpeed": host / 1e9, "host, estimated": estimate_host(shape, MODES[name], cuda=True) / 1e9}
            )
    return rows


def main() -> None:
    args = parse_args(__doc__, rounds=None)
    hide_gpus()
    warnings.filterwarnings("ignore", module="torch.distributed")  # of gradients that are gone
    sizes = ["gpt2"] if args.quick else [*SIZES]
    rows = compare_with_estimate(sizes, [1, 8] if args.quick else MICRO_BATCHES)
    estimates, fitting = estimate_of_deepspeed(sizes), what_fits(sizes)
    print(f"estimates: GPU memory with both offloads\n\n{table(rows)}\n")
    print(f"estimates: weights, gradients and optimizer in GB\n\n{table(estimates)}\n")
    print(f"estimates: the largest of the micro-batches {MICRO_BATCHES} that fits, of {BLOCK_SIZE} tokens a block\n")
    print(
        f"{table(fitting)}\n\n-: none. notebook: a GPU of 16 GB and {NOTEBOOK_RAM} GB of host memory, as free ones have"
    )
    save("memory", {"rows": rows, "states": estimates, "fits": fitting}, args)
    worst = max(abs(row["estimated / simulated"] - 1) for row in rows if row["estimated / simulated"] != "")
    print(f"\nthe estimate differs from the simulation by {worst:.1%} at most")
    sys.exit(worst > 0.15)


if __name__ == "__main__":
    main()
