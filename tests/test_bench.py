"""bench/: what its figures say about a GPU. `make bench QUICK=1` and `make gpu` run the benches themselves."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from chatter.tokens.tokenizer import load_tokenizer

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
    return json.loads(done.stdout.splitlines()[-1])  # DeepSpeed logs to stdout


@pytest.mark.thorough
@pytest.mark.slow
def test_the_gpu_in_use_is_named(tmp_path):
    """Not the first of the machine."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(NVIDIA_SMI)
    smi.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "1,0"}
    code = "import harness\nprint(json.dumps(harness.machine()['gpu']))"
    assert in_bench(code, **env) == "Tesla V100-PCIE-32GB, 570.1"


@pytest.mark.thorough
@pytest.mark.slow
def test_the_model_of_the_benches_has_a_token_for_each_id(tmp_path):
    """CTranslate2 scores tokens, not ids, and train.py wants no more rows than tokens."""
    code = f"""
from pathlib import Path
from random_models import make_model, SHAPES
SHAPES["tiny"] = (32, 2, 2)
make_model(Path({str(tmp_path / "model")!r}), "tiny")
print("null")"""
    in_bench(code)
    tokenizer = load_tokenizer(str(tmp_path / "model"))
    assert len(tokenizer) == 50_258 and (tokenizer.eos_token_id, tokenizer.pad_token_id) == (50_256, 50_257)
    assert None not in [tokenizer.backend_tokenizer.id_to_token(token) for token in range(len(tokenizer))]
