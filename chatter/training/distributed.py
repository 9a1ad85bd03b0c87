"""Join and leave the process group of one process or several."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import socket
import sys
import traceback
from collections.abc import Iterator

from chatter.cli import is_launched


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
