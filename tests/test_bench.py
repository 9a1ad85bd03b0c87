"""bench/: what its figures say about a GPU. `make bench QUICK=1` and `make gpu` run the benches themselves."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

# nvidia-smi of a machine with two GPUs
NVIDIA_SMI = """#!/bin/sh
case "$*" in
    *"--id=1 "*name,driver_version*) echo "Tesla V100-PCIE-32GB, 570.1" ;;
    *) echo "wrong: $*" >&2; exit 1 ;;
esac
"""


def in_bench(code, **env):
    """Run code in a process of its own, which can import the benches; return what it prints, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json\n{code}"],
        cwd=ROOT / "bench",
        env=os.environ | {"PYTHONPATH": str(ROOT / "bench")} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_gpu_in_use_is_named(tmp_path):
    """Not the first of the machine."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(NVIDIA_SMI)
    smi.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "1,0"}
    code = "import harness\nprint(json.dumps(harness.machine()['gpu']))"
    assert in_bench(code, **env) == "Tesla V100-PCIE-32GB, 570.1"


@pytest.mark.slow
def test_gpus_on_pcie_have_peaks_of_their_own():
    """By NVIDIA's data sheets, and none for a GPU that is not in the table."""
    names = ["Tesla V100-PCIE-32GB", "Tesla V100-SXM2-32GB", "NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3", "Radeon"]
    code = f"from bench_train import peak_of\nprint(json.dumps([peak_of(name) for name in {names}]))"
    assert in_bench(code) == [112e12, 125e12, 756e12, 989e12, None]
