"""DeepSpeed's config, and the settings with which the GPU waits less for ZeRO-3's Python code.

ZeRO-3 fetches, releases and reduces in Python, in hooks of each module and for each bucket of gradients, while the GPU
waits. So whole layers are fetched at once, as leaf modules, and their gradients are reduced in a few large buckets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from chatter.cli import InputError
from chatter.training.memory import BUCKET_SIZE, Mode

BUCKETS = "reduce_bucket_size", "stage3_prefetch_bucket_size"
PERSISTENCE = "stage3_param_persistence_threshold"  # elements of the largest weight that is never released
ALL = 10**12
GATHERED = "stage3_gather_16bit_weights_on_model_save"  # without it, a checkpoint has no whole weights
KEPT = ["stage"]  # of the section zero_optimization: what a checkpoint depends on
OFFLOADED = "offload_optimizer", "offload_param"
PROJECT_CONFIG = Path(__file__).resolve().parents[2] / "ds_config.json"


def read_config(path: Path) -> dict[str, Any]:
    """Read a DeepSpeed config with a section zero_optimization. Raises InputError if it is invalid."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(config, dict) or not isinstance(config.get("zero_optimization"), dict):
        raise InputError(f"{path} has no section zero_optimization. Start from ds_config.json, or pass --no-deepspeed.")
    return config


def complete_config(config: dict[str, Any], model: nn.Module, mode: Mode) -> dict[str, Any]:
    """Return a config with leaf modules and larger buckets, unless it sets them, and without offloading if not wanted.

    Checkpoints have whole weights whatever the config says, because the model is saved from them.

    Offloaded or not, the optimizer is PyTorch's fused AdamW: as fast as DeepSpeed's own for the CPU, which has to be
    compiled, and whose states other optimizers cannot load.
    """
    zero = dict(config["zero_optimization"])
    if not mode.offloads:
        zero = {name: value for name, value in zero.items() if name not in OFFLOADED}
    if zero.get("stage") == 3:
        zero[GATHERED] = True
        zero |= {name: BUCKET_SIZE for name in BUCKETS if zero.get(name) == "auto"}
        if zero.get(PERSISTENCE) == "auto" and mode.processes == 1 and not mode.offloads:
            zero[PERSISTENCE] = ALL  # all weights are on the GPU: nothing has to be fetched
        if layers := find_layers(model):
            zero.setdefault("leaf_module", {"classes": layers})
    completed = config | {"zero_optimization": zero}
    if "offload_optimizer" in zero:
        completed.setdefault("zero_force_ds_cpu_optimizer", False)
    return completed


def without_placement(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config without the settings of where and when things are computed, which a resumed run may change."""
    zero = {name: value for name, value in config["zero_optimization"].items() if name in KEPT}
    return config | {"zero_optimization": zero, "zero_force_ds_cpu_optimizer": None}


def find_layers(model: nn.Module) -> list[str]:
    """Return the full names of the classes of a model's layers, such as ["transformers...GPT2Block"]."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    found = {type(module) for module in model.modules() if type(module).__name__ in names}
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in found)
