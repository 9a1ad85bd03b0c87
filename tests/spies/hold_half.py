"""Run train.py under ZeRO-3, and write what each process holds of the parameters before the first step.

The JSON file $SEEN/<rank>.json has three numbers: the elements of the parameters that this process holds, the elements
of the parameters, and the number of parameters.

    SEEN=/tmp torchrun --nproc_per_node 2 tests/spies/hold_half.py train.py --output-dir models/split
"""

import json
import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from chatter.training.callbacks import Progress

original = Progress.on_train_begin


def on_train_begin(self, args, state, control, **kwargs):
    parameters = list(kwargs["model"].parameters())
    held = sum(parameter.ds_tensor.numel() for parameter in parameters)
    seen = [held, sum(parameter.ds_numel for parameter in parameters), len(parameters)]
    Path(os.environ["SEEN"], f"{os.environ['RANK']}.json").write_text(json.dumps(seen))
    return original(self, args, state, control, **kwargs)


Progress.on_train_begin = on_train_begin
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
