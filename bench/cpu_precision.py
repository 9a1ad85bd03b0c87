"""Print the precision in which this CPU trains faster, bf16 or fp32, for train.py --precision.

A CPU with AMX or AVX512-BF16 multiplies bf16 matrices about twice as fast as fp32. Others have to convert each number,
which is slower. So it times a layer of SmolLM2, forward and backward, for a second in each precision.

    python bench/cpu_precision.py
"""

from __future__ import annotations

import time

import torch

SHAPE = 1024, 576, 1536  # tokens of 8 blocks of 128, width and inner width of SmolLM2-135M
SECONDS = 1.0  # for each precision


def products_per_second(dtype: torch.dtype) -> float:
    """Return how often a layer of SHAPE is computed in a second, forward and backward."""
    tokens, width, inner = SHAPE
    inputs = torch.randn(tokens, width, dtype=dtype, requires_grad=True)
    weights = torch.randn(inner, width, dtype=dtype, requires_grad=True)

    def step() -> None:
        torch.nn.functional.linear(inputs, weights).sum().backward()

    step()  # the first one chooses a kernel
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        step()
        steps += 1
    return steps / (time.perf_counter() - started)


def faster_precision() -> str:
    speeds = {name: products_per_second(dtype) for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))}
    return max(speeds, key=speeds.get)


if __name__ == "__main__":
    print(faster_precision())
