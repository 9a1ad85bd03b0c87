"""The GPU as torch sees it: whether it can be used, and what it can do."""

from __future__ import annotations

import os
import warnings

import torch

WHEELS = "https://download.pytorch.org/whl"
AMPERE = (8, 0)  # the first compute capability with bf16 and TF32


def find_problem(visible: list[str] | None) -> str:
    """Return why torch cannot use the GPU of this process, and what to install; "" if it can.

    `visible` lists the GPUs of CUDA_VISIBLE_DEVICES; None if it is not set.
    """
    with warnings.catch_warnings(record=True) as caught:  # the last one is quoted below, in one line
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
        name = gpu_name() if available and local_rank() < torch.cuda.device_count() else ""
    if name:
        return "" if has_kernels() else describe_wrong_build(name)
    if available:
        found = torch.cuda.device_count()
        return f"process {local_rank()} of this machine has no GPU, as torch finds only {found}. Start fewer processes."
    if visible == []:
        return "CUDA_VISIBLE_DEVICES hides the GPU from torch. Unset it."
    if not (torch.version.cuda or torch.version.hip):
        return f"torch {torch.__version__} is the CPU build and cannot use the GPU. {install_advice('cu130')}"
    reason = " ".join(str(caught[-1].message).split())[:200] if caught else f"it needs CUDA {torch.version.cuda}"
    return (
        f"torch cannot use the GPU ({reason}). Update NVIDIA's driver, or use an older CUDA: {install_advice('cu126')}"
    )


def describe_wrong_build(name: str) -> str:
    """Return an error text that says which build of torch has kernels for this process's GPU."""
    major, minor = capability()
    lacks = f"torch {torch.__version__} has no kernels for {name} (sm_{major}{minor})."
    if (major, minor) < (5, 0):
        return f"{lacks} No build supports it."
    return f"{lacks} {install_advice('cu126' if (major, minor) < (7, 5) else 'cu130')}"


def install_advice(build: str) -> str:
    """Return the command that installs another build of the same version of torch."""
    version = torch.__version__.split("+")[0]
    return f"Run pip install torch=={version}+{build} --index-url {WHEELS}/{build}."


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def gpu_name() -> str:
    return torch.cuda.get_device_name(local_rank())


def capability() -> tuple[int, int]:
    """Return the compute capability of this process's GPU, such as (7, 0) for a V100."""
    return torch.cuda.get_device_capability(local_rank())


def has_kernels() -> bool:
    """Return whether torch has kernels for this process's GPU, compiled or as PTX that the driver can compile."""
    if torch.version.hip:
        return True
    found = capability()
    for arch in torch.cuda.get_arch_list():  # sm_70, sm_90a, compute_90
        kind, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        built = int(digits[:-1]), int(digits[-1])
        if built <= found and (kind == "compute" or built[0] == found[0]):
            return True
    return False


def has_bf16() -> bool:
    """Return whether this process's GPU computes in bf16 and TF32. transformers also accepts emulated bf16."""
    return bool(torch.version.hip) or capability() >= AMPERE
