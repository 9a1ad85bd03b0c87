"""Run a script as if the machine had GPUs, as far as the answers of the driver and torch.cuda go. Nothing runs on them.

$GPUS is a JSON object: `number` in the machine, their `capability`, the `archs` and `build` that torch was built for,
and the `driver`'s complaint, with which torch has none.

    GPUS='{"number": 1, "capability": [7, 0]}' python tests/spies/with_gpus.py train.py --precision bf16
"""

import json
import os
import runpy
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import torch

from chatter import devices

gpus = {"number": 1, "capability": [8, 0], "archs": ["sm_75", "sm_80", "sm_90"], "build": "13.0", "driver": ""}
gpus |= json.loads(os.environ["GPUS"])


def device_count():
    visible = devices.visible_gpus()
    return gpus["number"] if visible is None else min(len(visible), gpus["number"])


def is_available():
    if gpus["driver"]:
        warnings.warn(gpus["driver"], stacklevel=2)
    return bool(gpus["build"] and not gpus["driver"] and device_count())


devices.count_gpus = lambda: gpus["number"]
torch.version.cuda = gpus["build"]
torch.cuda.device_count, torch.cuda.is_available = device_count, is_available
torch.cuda.get_device_name = lambda index=0: "Tesla V100" if gpus["capability"] == [7, 0] else "A GPU"
torch.cuda.get_device_capability = lambda index=0: tuple(gpus["capability"])
torch.cuda.get_arch_list = lambda: gpus["archs"]
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
