"""Choose the device for training or generation, and reject unusable GPUs before anything is loaded."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from chatter.cli import InputError, is_launched, log

NVIDIA = "0x10de"  # in PCI's list of vendors
AMD = Path("/dev/kfd")  # the driver of AMD's GPUs


class DeviceError(InputError):
    """A device that cannot be used."""


def choose_device(device: str, precision: str) -> str:
    """Return "cuda" or "cpu" for --device, and hide the GPUs that this process must not use.

    Call it before CUDA is initialized, since CUDA reads the environment once. Raises DeviceError if there is a GPU
    that cannot be used, or that cannot train in --precision.
    """
    share_cores()
    if device == "cpu":
        hide_gpus()
        return "cpu"
    num_gpus = count_gpus()
    take_one_gpu(num_gpus)

    from chatter import gpu  # imports torch, which reads the environment

    problem = gpu.find_problem(visible_gpus())
    if problem and not num_gpus:
        if device == "cuda":
            raise DeviceError("--device cuda: no CUDA GPU found. Pass --device cpu.")
        hide_gpus()
        log("no CUDA GPU found: training on the CPU")
        return "cpu"
    if problem:
        raise DeviceError(f"{problem} To train on the CPU, which takes far longer, pass --device cpu.")
    if precision == "bf16" and not gpu.has_bf16():
        raise DeviceError(f"{gpu.gpu_name()} has no bf16. Pass --precision fp16.")
    return "cuda"


def hide_gpus() -> None:
    """Hide the GPUs from all libraries, and keep DeepSpeed from looking for other accelerators."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}


def visible_gpus() -> list[str] | None:
    """Return the GPUs in CUDA_VISIBLE_DEVICES up to the first empty or negative entry, or None if it is not set."""
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return None
    names = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    end = next((place for place, name in enumerate(names) if not name or name[0] == "-"), len(names))
    return names[:end]


def take_one_gpu(num_gpus: int) -> None:
    """Make only the first GPU visible, and log it if there are more, unless a launcher assigns the GPUs.

    Otherwise transformers would use all GPUs in one process, and multiply the batch size by their number.
    """
    if is_launched():
        return
    visible = visible_gpus()
    if visible is None:
        visible = [str(number) for number in range(max(1, num_gpus))]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[0] if visible else ""
    if len(visible) > 1:
        log(f"using GPU {visible[0]} of {len(visible)}; to use all: deepspeed --num_gpus {len(visible)} train.py")


def count_gpus(root: Path = Path("/")) -> int:
    """Return the number of NVIDIA GPUs in the machine, whether torch can use them or not.

    The driver lists them. If it is installed but does not work, the PCI bus lists them.
    """
    places = "dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*"
    from_driver = next(filter(None, ([*root.glob(place)] for place in places)), [])
    if from_driver or not shutil.which("nvidia-smi"):
        return len(from_driver)
    displays = [path.parent for path in root.glob("sys/bus/pci/devices/*/class") if path.read_text()[:4] == "0x03"]
    return sum((display / "vendor").read_text().strip() == NVIDIA for display in displays)


def find_gpu() -> str:
    """Return the device for generation: "mps" on Apple silicon, "cuda" if torch can use a GPU, or else "cpu".

    CTranslate2 is asked first, because importing torch takes longer than generating a short message.
    """
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    try:
        from ctranslate2 import get_cuda_device_count

        if not get_cuda_device_count() and not count_gpus() and not AMD.exists():
            return "cpu"
    except ImportError:
        pass
    problem = find_cuda_problem()
    if problem and count_gpus():
        log(f"{problem} Using the CPU.")
    return "cpu" if problem else "cuda"


def find_cuda_problem() -> str:
    """Return why torch cannot use the GPU, and what to do; "" if it can."""
    try:
        from chatter.gpu import find_problem
    except ModuleNotFoundError as error:
        return f"the package {error.name} is not installed."
    problem = find_problem(visible_gpus())
    return "there is no GPU." if problem and not count_gpus() and not AMD.exists() else problem


def share_cores() -> None:
    """Give each process of torchrun its share of the cores, for DeepSpeed's Adam on the CPU.

    torchrun sets OMP_NUM_THREADS to 1 if it is not set. Call this before torch is imported, since torch reads it then.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1":
        from chatter.workers import usable_cores

        os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
