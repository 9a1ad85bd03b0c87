"""Join and leave the process group, and replace errors of libraries with plain ones."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from chatter.cli import InputError, is_launched, log

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


class StartAgain(Exception):
    """Ends a run that can start again with other options, which take less memory."""

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(f"out of GPU memory in the first steps: starting again with {' '.join(options)}")
        self.options = options


@contextlib.contextmanager
def replaced_by_smaller_run() -> Iterator[None]:
    """Replace the process on StartAgain: after an error, the libraries and the traceback hold on to memory."""
    environment = dict(os.environ)  # join_process_group adds to it
    try:
        yield
    except StartAgain as error:
        log(str(error))
        os.execve(sys.executable, [sys.executable, *sys.argv, *error.options], environment)


def join_process_group() -> None:
    """Join the process group that deepspeed or torchrun describes, or a group of this process alone."""
    import cpuinfo
    import deepspeed
    import torch

    cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)  # DeepSpeed asks three times, for a second each
    if not is_launched():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if not torch.cuda.is_available():
        # DeepSpeed's shared-memory operator needs a compiler and 40 s to compile. Gloo works without it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # DeepSpeed counts a machine's CPUs by a process of their own, often at each step, unless it finds their number.
        os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        deepspeed.init_distributed("gloo")  # before TrainingArguments, which otherwise assumes one process


def leave_process_group() -> None:
    """Leave the process group, all processes at once, when nothing else refers to it any more.

    Python aborts if threads of the group are running when it exits. They need the GIL to free their last tensors, and
    destroying the group waits for them. If a C++ object such as the reducer of DistributedDataParallel holds the last
    reference to the group, destruction waits with the GIL held, and never ends. So collect garbage first.
    """
    from torch import distributed

    if distributed.is_initialized():
        gc.collect()
        distributed.barrier()
        distributed.destroy_process_group()


@contextlib.contextmanager
def leave_group_on_error() -> Iterator[None]:
    """Leave the process group on an error as well, without waiting for the other processes, which may never end."""
    try:
        yield
    except BaseException as error:
        distributed = sys.modules.get("torch.distributed")
        if distributed and distributed.is_available() and distributed.is_initialized():
            traceback.clear_frames(error.__traceback__)  # models in them refer to the group, see leave_process_group
            gc.collect()
            if distributed.get_backend() == "nccl":  # destroying it would wait for the other processes
                distributed.distributed_c10d._abort_process_group()
            else:
                distributed.destroy_process_group()
        raise


def find_known(error: Exception) -> str | None:
    """Return the message that replaces an error, or None."""
    text = f"{type(error).__name__}: {error}"
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
        text = str(error)
        if type(error).__module__.startswith("pydantic"):  # DeepSpeed validates its config with pydantic
            raise InputError(f"the --deepspeed config is not valid: {' '.join(text.split())[:300]}.") from error
        if type(error).__name__ == "DistNetworkError":  # whichever library joins the group
            place = "port {MASTER_PORT} of {MASTER_ADDR}".format_map(os.environ)
            raise InputError(
                f"{place} is in use or cannot be reached. Pass another --master_port to the launcher."
            ) from error
        if message := find_known(error):
            raise InputError(message) from error
        if any(sign in text for sign in ("No space left", "PytorchStreamWriter", "inline_container")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output_dir.parent)) from error
        if "DeepSpeed config" in text:
            raise InputError(f"the --deepspeed config contradicts the options: {' '.join(text.split())}") from error
        raise
