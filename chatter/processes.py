"""Joining and leaving the process group, DeepSpeed's config, and the libraries' errors in plain words."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatter.command import InputError, log


def join_process_group() -> None:
    """Join the process group that deepspeed or torchrun describes, or a group of this process alone."""
    import deepspeed
    import torch

    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if not torch.cuda.is_available():
        # Its shared-memory operator needs a compiler, and 40 s to compile. Gloo does without.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        try:
            deepspeed.init_distributed("gloo")  # before TrainingArguments, which would count one process
        except torch.distributed.DistNetworkError as error:
            place = "port {MASTER_PORT} of {MASTER_ADDR}".format_map(os.environ)
            raise InputError(
                f"{place} is in use or cannot be reached. Pass another --master_port to the launcher."
            ) from error


def leave_process_group() -> None:
    """Leave the process group, all processes at once, when nothing else refers to it any more.

    Its threads must not be running when Python ends, or Python aborts. They need Python's lock to free their last
    tensors, and the end of the group waits for them: with the lock held, and so forever, if an object in C++ such as
    the reducer of DistributedDataParallel was the last to refer to the group.
    """
    from torch import distributed

    if distributed.is_initialized():
        gc.collect()
        distributed.barrier()
        distributed.destroy_process_group()


def load_deepspeed_config(path: Path, offload: bool) -> dict[str, Any]:
    """Read ds_config.json, without its offloading if `offload` is false.

    Where DeepSpeed cannot compile its CPU Adam, the config makes it use PyTorch's AdamW.
    """
    from deepspeed.ops.op_builder import CPUAdamBuilder

    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("zero_optimization"), dict):
        raise InputError(f"{path} has no section zero_optimization. Start from ds_config.json, or pass --no-deepspeed.")
    if not offload:
        for section in ("offload_optimizer", "offload_param"):
            config["zero_optimization"].pop(section, None)
    if "offload_optimizer" not in config["zero_optimization"]:
        return config
    # PyTorch looks for ninja on PATH, where it is not if .venv/bin/python runs without the environment activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log("loading DeepSpeed's CPU Adam (the first time it is compiled, which takes a minute)")
    try:
        CPUAdamBuilder().load(verbose=False)
    except Exception:  # whatever the compiler, or the lack of one, leads to
        log("DeepSpeed cannot compile its CPU Adam: using PyTorch's AdamW, slower; apt-get install g++ python3-dev")
        config["zero_force_ds_cpu_optimizer"] = False
    return config


@contextlib.contextmanager
def plain_library_errors(output_dir: Path) -> Iterator[None]:
    """Turn errors of the libraries into plain ones: a full disk, memory that runs out, settings that contradict.

    safetensors, tokenizers and torch.save have errors of their own for a full disk, here that of `output_dir`.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = str(error)
        if type(error).__module__.startswith("pydantic"):  # which DeepSpeed checks its config with
            raise InputError(f"the --deepspeed config is not valid: {' '.join(text.split())[:300]}.") from error
        if any(sign in text for sign in ("No space left", "PytorchStreamWriter", "inline_container")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(output_dir.parent)) from error
        if "out of memory" in text:
            raise InputError(
                "out of GPU memory. Pass a lower --micro-batch-size; --batch-size can stay as it is."
            ) from error
        if "loss scale already at minimum" in text:
            raise InputError(
                "fp16 overflows at every step. Pass a lower --learning-rate, or --precision bf16."
            ) from error
        if "DeepSpeed config" in text:
            raise InputError(f"the --deepspeed config contradicts the options: {' '.join(text.split())}") from error
        raise
