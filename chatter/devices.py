"""Which device a run or an engine takes: one GPU without a launcher, and refusals before anything is loaded."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from pathlib import Path

from chatter.cli import InputError, is_launched, log

WHEELS = "https://download.pytorch.org/whl"
NVIDIA = "0x10de"  # in PCI's list of vendors
AMPERE = (8, 0)  # the first compute capability with bf16 and TF32


class DeviceError(InputError):
    """A device that cannot be used."""


def choose_device(device: str, precision: str) -> str:
    """Return "cuda" or "cpu" for what --device says, and hide from CUDA the GPUs that are not to be used.

    To be called before anything else asks CUDA, which reads the environment once. Raises DeviceError if there is a GPU
    that cannot be used, or that cannot train in --precision.
    """
    share_cores()
    if device == "cpu":
        hide_gpus()
        return "cpu"
    num_gpus = count_gpus()
    take_one_gpu(num_gpus)
    problem = find_problem()
    if problem and not num_gpus:
        if device == "cuda":
            raise DeviceError("--device cuda: no CUDA GPU found. Pass --device cpu.")
        hide_gpus()
        log("no CUDA GPU found: training on the CPU")
        return "cpu"
    if problem:
        raise DeviceError(f"{problem} To train on the CPU, which takes far longer, pass --device cpu.")
    if precision == "bf16" and not is_ampere():
        raise DeviceError(f"{gpu_name()} has no bf16. Pass --precision fp16.")
    return "cuda"


def hide_gpus() -> None:
    """Hide the GPUs from all libraries, and have DeepSpeed not look for other accelerators."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}


def visible_gpus() -> list[str] | None:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, up to the first that is none; None if it is not set."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return None
    names = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    end = next((place for place, name in enumerate(names) if not name or name[0] == "-"), len(names))
    return names[:end]


def take_one_gpu(num_gpus: int) -> None:
    """Make one GPU visible, and say so, unless a launcher has set what this process takes.

    transformers would otherwise take all of them, in one process, with as many times the batch.
    """
    if is_launched():
        return
    visible = visible_gpus()
    if visible is None:
        visible = [str(number) for number in range(max(1, num_gpus))]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[0] if visible else ""
    if len(visible) > 1:
        log(f"taking GPU {visible[0]} of {len(visible)}; for all of them: deepspeed --num_gpus {len(visible)} train.py")


def count_gpus(root: Path = Path("/")) -> int:
    """Return how many NVIDIA GPUs are in the machine, whether torch can use them or not.

    They are those of the driver, or, where it is installed and does not work, those on the PCI bus.
    """
    places = "dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*"
    from_driver = next(filter(None, ([*root.glob(place)] for place in places)), [])
    if from_driver or not shutil.which("nvidia-smi"):
        return len(from_driver)
    displays = [path.parent for path in root.glob("sys/bus/pci/devices/*/class") if path.read_text()[:4] == "0x03"]
    return sum((display / "vendor").read_text().strip() == NVIDIA for display in displays)


def find_gpu() -> str:
    """Return the device to run on: a GPU that torch can use, or the CPU.

    Asks CTranslate2 before torch, whose import takes longer than a short message.
    """
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    try:
        from ctranslate2 import get_cuda_device_count

        if not get_cuda_device_count():
            return "cpu"
    except ImportError:
        pass
    return "cpu" if find_problem() else "cuda"


def find_problem() -> str:
    """Return why torch cannot use the GPU of this process, with what to install; "" if it can."""
    import torch

    with warnings.catch_warnings(record=True) as caught:  # torch says it again, and in several lines
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
        name = gpu_name() if available and local_rank() < torch.cuda.device_count() else ""
    if name:
        return "" if has_kernels() else wrong_build(name)
    if available:
        return f"process {local_rank()} of this machine has no GPU: there are {torch.cuda.device_count()}. Start fewer."
    if visible_gpus() == []:
        return "CUDA_VISIBLE_DEVICES hides the GPU from torch. Unset it."
    if not (torch.version.cuda or torch.version.hip):
        return f"torch {torch.__version__} is the CPU build and cannot use the GPU. {install('cu130')}"
    reason = " ".join(str(caught[-1].message).split())[:200] if caught else f"it needs CUDA {torch.version.cuda}"
    return f"torch cannot use the GPU ({reason}). Update NVIDIA's driver, or take an older CUDA: {install('cu126')}"


def wrong_build(name: str) -> str:
    """Return which build of torch has kernels for this process's GPU."""
    import torch

    major, minor = capability()
    lacks = f"torch {torch.__version__} has no kernels for {name} (sm_{major}{minor})."
    if (major, minor) < (5, 0):
        return f"{lacks} No build has."
    return f"{lacks} {install('cu126' if (major, minor) < (7, 5) else 'cu130')}"


def install(build: str) -> str:
    """Return the command that installs another build of the same version of torch."""
    import torch

    version = torch.__version__.split("+")[0]
    return f"Run pip install torch=={version}+{build} --index-url {WHEELS}/{build}."


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(local_rank())


def capability() -> tuple[int, int]:
    """Return the compute capability of this process's GPU, (7, 0) for a V100."""
    import torch

    return torch.cuda.get_device_capability(local_rank())


def has_kernels() -> bool:
    """Return whether torch has code for this process's GPU: of its generation, or PTX, which the driver compiles."""
    import torch

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


def is_ampere() -> bool:
    """Return whether this process's GPU computes in bf16 and TF32. transformers also counts emulated bf16."""
    import torch

    return bool(torch.version.hip) or capability() >= AMPERE


def share_cores() -> None:
    """Give each process of torchrun its share of the cores, for DeepSpeed's Adam on the CPU.

    torchrun sets OMP_NUM_THREADS to 1 if it is not set. To be called before torch is imported, which reads it.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        os.environ["OMP_NUM_THREADS"] = str(max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"])))
