"""Errors of the libraries in plain words: memory that runs out, a full disk, settings that contradict each other."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from chatter.cli import InputError

OUT_OF_GPU_MEMORY = (  # from PyTorch, cuBLAS or cuDNN
    "out of GPU memory. Pass a lower --micro-batch-size (--batch-size can stay the same), or --gradient-checkpointing."
)
# A pattern for "type: text" of an error -> the message that replaces it. The first match counts.
KNOWN_ERRORS = {
    r"(CUDA|HIP) out of memory|_STATUS_ALLOC_FAILED|cuda failure.*out of memory": OUT_OF_GPU_MEMORY,
    r"shared memory segment|/dev/shm/nccl|DistBackendError.*No space left": (
        "NCCL needs more shared memory than is free in /dev/shm (df -h /dev/shm). Start the container with "
        "--shm-size=2g or --ipc=host, or set NCCL_SHM_DISABLE=1."
    ),
    r"(CUDA|HIP) error: out of memory|(cuda|hip)ErrorMemoryAllocation": (
        "CUDA is out of memory outside PyTorch's allocator: usually pinned host memory for offloading. Pass "
        "--no-offload if the GPU has room, or use a machine with more RAM; nvidia-smi shows what else uses the GPU."
    ),
    r"can't allocate memory|cannot allocate memory|DefaultCPUAllocator": (
        "out of host memory. Close other programs, or use a machine with more RAM; if the GPU has room, "
        "--no-offload takes less."
    ),
    r"loss scale already at min": (
        "fp16 overflows at every step. Pass --resume with a lower --learning-rate, or start again with --overwrite and "
        "--precision fp32 (or bf16, if the device has it)."
    ),
    r"gloo.*connection (closed|reset) by peer|communicator was aborted": (
        "another process of this run has failed. Its own error line says why."
    ),
}


def find_known(error: Exception) -> str | None:
    """Return the message that replaces an error, or None."""
    text = " ".join(str(error).split())
    if type(error).__module__.startswith("pydantic"):  # DeepSpeed validates its config with pydantic
        return f"the --deepspeed config is not valid: {text[:300]}."
    if "DeepSpeed config" in text:
        return f"the --deepspeed config contradicts the options: {text}"
    text = f"{type(error).__name__}: {text}"
    found = (
        message for pattern, message in KNOWN_ERRORS.items() if re.search(pattern, text, re.IGNORECASE | re.DOTALL)
    )
    return next(found, None)


def is_out_of_gpu_memory(error: Exception) -> bool:
    return find_known(error) == OUT_OF_GPU_MEMORY


@contextlib.contextmanager
def plain_library_errors(output_dir: Path) -> Iterator[None]:
    """Replace errors of the libraries: a full disk, memory that runs out, settings that contradict each other.

    NCCL reports a full /dev/shm as a full disk, and CUDA reports pinned host memory as its own. safetensors, tokenizers
    and torch.save have their own errors for a full disk; it is the disk of `output_dir`.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if type(error).__name__ == "DistNetworkError":  # whichever library joins the group
            place = "port {MASTER_PORT} of {MASTER_ADDR}".format_map(os.environ)
            raise InputError(
                f"{place} is in use or cannot be reached. Pass another --master_port to the launcher."
            ) from error
        if message := find_known(error):
            raise InputError(message) from error
        if any(sign in str(error) for sign in ("No space left", "PytorchStreamWriter", "inline_container")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output_dir.parent)) from error
        raise
