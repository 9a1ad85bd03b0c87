"""What the tests share: the scripts run as a user runs them, and small models and chats to run them on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("here", deadline=None)  # a busy machine may take long over one example
hypothesis.settings.load_profile("here")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"  # real logs and GPT-2's vocabulary, on machines that have them
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores, and torch's threads would wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"  # what a test does not find in a folder, it must not wait for


def pytest_collection_modifyitems(items):
    """Run the fast tests first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def run(script, *args, cwd=ROOT, launcher=(sys.executable,), check=True, **env):
    """Run a script in a process of its own. `check` fails the test if the script fails, with what it said."""
    command = [*map(str, launcher), str(ROOT / script), *map(str, args)]
    done = subprocess.run(command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=600)
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr[-4000:]}"
    return done


def error_of(script, *args, **kwargs):
    """Run a script that must fail as a user's mistake does; give its one line on stderr."""
    done = run(script, *args, check=False, **kwargs)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    *before, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr and line.startswith(f"{script}: error: "), done.stderr
    plan = "model|train, test|steps|training|in CPU memory|a checkpoint"
    said = f"no CUDA|making a copy|loading DeepSpeed|.* no weights|({plan})  |epoch|    "
    assert not [text for text in before if not re.match(said, text)], done.stderr
    return line


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A folder with a GPT-2 of random weights (2 layers, width 32, 64 positions) and models/tiny-gpt2's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(ROOT / "models/tiny-gpt2", n_embd=32, n_layer=2, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(ROOT / "models/tiny-gpt2", model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture
def full_disk(request, tmp_path):
    """A folder on a disk of 64 kB, or of the size given as a parameter."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '64k')}", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
