"""chatter.devices: which device a run takes, and what is refused before anything is loaded.

No GPU is at hand: tests/spies/with_gpus.py answers in the place of the driver and torch.cuda.
"""

import json
import os
import sys

import pytest
import torch
from conftest import SPIES, TORCHRUN, error_of, run

from chatter import devices, gpu

VERSION = torch.__version__.split("+")[0]
CU126 = f"Run pip install torch=={VERSION}+cu126 --index-url https://download.pytorch.org/whl/cu126."
CU130 = f"Run pip install torch=={VERSION}+cu130 --index-url https://download.pytorch.org/whl/cu130."
ON_CPU = "To train on the CPU, which takes far longer, pass --device cpu."


def refusal(tmp_path, *args, **gpus):
    """Return how train.py refuses such GPUs. There is no dataset and no model: neither is looked for."""
    args = ["--dataset-dir", tmp_path / "nowhere", "--output-dir", tmp_path / "model", *args]
    line = error_of("train.py", *args, launcher=[sys.executable, SPIES / "with_gpus.py"], GPUS=json.dumps(gpus))
    assert list(tmp_path.iterdir()) == []
    return line.removeprefix("train.py: error: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "gpus", "line"),
    [
        (
            [],
            {"capability": [7, 0]},
            f"torch {torch.__version__} has no kernels for Tesla V100 (sm_70). {CU126} {ON_CPU}",
        ),
        ([], {"build": None}, f"torch {torch.__version__} is the CPU build and cannot use the GPU. {CU130} {ON_CPU}"),
        (
            ["--device", "cuda"],
            {"driver": "The NVIDIA driver on your system\nis too old (found version 11040)."},
            "torch cannot use the GPU (The NVIDIA driver on your system is too old (found version 11040).). Update "
            f"NVIDIA's driver, or use an older CUDA: {CU126} {ON_CPU}",
        ),
        (
            ["--precision", "bf16"],
            {"capability": [7, 0], "archs": ["sm_70"]},
            "Tesla V100 has no bf16. Pass --precision fp16.",
        ),
        (["--device", "cuda"], {"number": 0}, "--device cuda: no CUDA GPU found. Pass --device cpu."),
    ],
    ids=["V100 and the default wheel", "CPU build", "old driver", "bf16", "none"],
)
def test_a_gpu_that_cannot_be_used(args, gpus, line, tmp_path):
    assert refusal(tmp_path, *args, **gpus) == line


@pytest.mark.slow
def test_the_cpu_is_taken_if_it_is_asked_for(tmp_path):
    """Then the next thing that is missing is the dataset."""
    assert "nowhere is not a complete dataset" in refusal(tmp_path, "--device", "cpu", build=None)


@pytest.mark.thorough
@pytest.mark.slow
def test_of_several_gpus_one_is_taken(tmp_path):
    """And a launcher's choice stays. That CUDA then shows one is the driver's promise, which no test here sees."""
    basics = ["--dataset-dir", tmp_path / "nowhere", "--output-dir", tmp_path / "model"]
    spied = {"launcher": [sys.executable, SPIES / "with_gpus.py"], "GPUS": json.dumps({"number": 3}), "check": False}
    for env, said in (
        ({}, "using GPU 0 of 3; to use all: deepspeed --num_gpus 3 train.py\n"),
        ({"CUDA_VISIBLE_DEVICES": "2,1"}, "using GPU 2 of 2; to use all: deepspeed --num_gpus 2 train.py\n"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ""),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, ""),
    ):
        before, after = run("train.py", *basics, **spied, **env).stderr.split("train.py: error: ")
        assert before == said and "is not a complete dataset" in after


@pytest.fixture
def environment(monkeypatch):
    """The environment, without what decides about devices, and as it was after the test."""
    before = dict(os.environ)
    for name in ("CUDA_VISIBLE_DEVICES", "RANK", "LOCAL_RANK", "DS_ACCELERATOR", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    os.environ.clear()  # monkeypatch would leave what the functions under test set
    os.environ.update(before)


@pytest.mark.parametrize(
    ("visible", "num_gpus", "taken"),
    [(None, 3, "0"), (None, 1, "0"), ("2,1", 3, "2"), ("GPU-5f,GPU-6a", 2, "GPU-5f"), ("", 2, ""), ("-1", 2, "")],
)
def test_one_gpu_is_left_visible(environment, visible, num_gpus, taken):
    if visible is not None:
        environment.setenv("CUDA_VISIBLE_DEVICES", visible)
    devices.take_one_gpu(num_gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


def test_a_launchers_gpus_stay(environment):
    environment.setenv("RANK", "1")
    environment.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    devices.take_one_gpu(3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_a_process_without_a_gpu_of_its_own_is_refused(environment):
    environment.setattr(torch.cuda, "is_available", lambda: True)
    environment.setattr(torch.cuda, "device_count", lambda: 2)
    environment.setenv("LOCAL_RANK", "2")
    assert (
        gpu.find_problem(devices.visible_gpus())
        == "process 2 of this machine has no GPU, as torch finds only 2. Start fewer processes."
    )


def test_gpus_that_are_hidden_are_named(environment):
    environment.setattr(torch.cuda, "is_available", lambda: False)
    environment.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.find_problem(devices.visible_gpus()) == "CUDA_VISIBLE_DEVICES hides the GPU from torch. Unset it."


@pytest.mark.parametrize(
    ("capability", "archs", "has"),
    [
        ((7, 0), ["sm_75", "sm_80", "sm_90"], False),
        ((7, 0), ["sm_50", "sm_60", "sm_70", "sm_75"], True),
        ((8, 9), ["sm_75", "sm_80", "sm_86", "sm_90"], True),  # of the same generation
        ((9, 0), ["sm_75", "sm_80", "sm_90a"], True),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_80", "sm_90", "compute_90"], True),  # which the driver compiles
        ((7, 0), ["compute_75"], False),
    ],
)
def test_kernels_for_a_gpu(environment, capability, archs, has):
    """As torch's table of compute capabilities has it (torch/cuda/__init__.py)."""
    environment.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    environment.setattr(torch.cuda, "get_arch_list", lambda: archs)
    assert gpu.has_kernels() == has


@pytest.mark.parametrize(
    ("files", "has_nvidia_smi", "number"),
    [
        ({}, True, 0),
        ({"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": "", "dev/nvidia-uvm": ""}, False, 2),
        ({"proc/driver/nvidia/gpus/0000:01:00.0/information": ""}, False, 1),
        ({"sys/bus/pci/devices/1/class": "0x030200\n", "sys/bus/pci/devices/1/vendor": "0x10de\n"}, True, 1),
        ({"sys/bus/pci/devices/1/class": "0x030200\n", "sys/bus/pci/devices/1/vendor": "0x10de\n"}, False, 0),
        ({"sys/bus/pci/devices/1/class": "0x030000\n", "sys/bus/pci/devices/1/vendor": "0x1002\n"}, True, 0),
        ({"sys/bus/pci/devices/1/class": "0x020000\n", "sys/bus/pci/devices/1/vendor": "0x10de\n"}, True, 0),
    ],
    ids=["none", "device files", "driver", "broken driver", "a display without a driver", "AMD", "network card"],
)
def test_gpus_in_the_machine(environment, tmp_path, files, has_nvidia_smi, number):
    environment.setattr(devices.shutil, "which", lambda name: has_nvidia_smi and name)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert devices.count_gpus(tmp_path) == number


@pytest.mark.parametrize(
    ("torchrun", "before", "after"), [(True, "1", "4"), (True, "3", "3"), (False, "1", "1"), (True, None, None)]
)
def test_processes_of_torchrun_share_the_cores(environment, torchrun, before, after):
    environment.setattr(os, "sched_getaffinity", lambda process: range(9), raising=False)
    environment.setenv("LOCAL_WORLD_SIZE", "2")
    if torchrun:
        environment.setenv("TORCHELASTIC_RUN_ID", "none")
    if before:
        environment.setenv("OMP_NUM_THREADS", before)
    devices.share_cores()
    assert os.environ.get("OMP_NUM_THREADS") == after


@pytest.mark.slow
def test_what_torchrun_sets_is_what_is_replaced(script_with):
    """torchrun sets one thread for each of several processes, and torch takes what share_cores makes of it."""
    body = ["import os", "from chatter.devices import share_cores", "before = os.environ['OMP_NUM_THREADS']"]
    body += ["os.sched_getaffinity = lambda process: range(4)", "share_cores()", "import torch"]
    _, script = script_with(*body, "print(before, torch.get_num_threads())")
    os.environ.pop("OMP_NUM_THREADS", None)
    env = {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}
    done = run(script, launcher=TORCHRUN, **env)
    assert done.stdout.split("\n")[:2] == ["1 2", "1 2"]
