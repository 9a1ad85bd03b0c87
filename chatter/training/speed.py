"""How fast a run is: model FLOPs utilization (MFU), and the time to its end."""

from __future__ import annotations

import re

import torch

from chatter.training.memory import Shape

# Words of a GPU's name -> its dense half-precision peak in FLOP/s, from NVIDIA's data sheets; the first match counts.
# For other GPUs there is no MFU.
PEAKS = {
    ("V100", "PCIE"): 112e12,
    ("V100",): 125e12,
    ("A100",): 312e12,
    ("H100", "PCIE"): 756e12,
    ("H100", "NVL"): 835e12,
    ("H100",): 989e12,
    ("H200", "NVL"): 835e12,
    ("H200",): 989e12,
    ("T4",): 65e12,
    ("L4",): 121e12,
    ("A10",): 125e12,
}


def find_peak(gpu: str) -> float | None:
    """Return the peak of a GPU by its name, as in "Tesla V100-PCIE-32GB"; None if it is not in PEAKS."""
    words = re.split("[^A-Z0-9]+", gpu.upper())
    return next((peak for signs, peak in PEAKS.items() if all(sign in words for sign in signs)), None)


def flops_per_token(shape: Shape, block_size: int) -> float:
    """Return the FLOPs of a training step per token, as counted in appendix B of the PaLM paper.

    That is 6 per parameter, or 4 if it is not trained, and 12 * layers * width * block_size for the attention.
    """
    return 4 * shape.parameters + 2 * shape.trained + 12 * shape.layers * shape.width * block_size


def flops_utilization(tokens_per_second: float, shape: Shape, block_size: int, num_processes: int) -> float | None:
    """Return the share of the GPUs' half-precision peak that a run uses, from 0 to 1; None if the peak is not known."""
    peak = find_peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return peak and tokens_per_second * flops_per_token(shape, block_size) / (peak * num_processes)


def describe_seconds(seconds: float) -> str:
    """Return a duration in the unit that suits it, as in "90 seconds", "25 minutes" or "3.5 hours"."""
    if seconds < 100:
        return f"{seconds:.0f} second{'s' * (round(seconds) != 1)}"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"
