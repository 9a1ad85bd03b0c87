"""Run train.py --no-deepspeed, and write which DistributedDataParallel are alive when the process group ends.

The JSON file $SEEN/<rank>.json has two numbers: how many were made, and how many are alive.

    SEEN=/tmp torchrun --nproc_per_node 2 tests/spies/model_is_gone.py train.py --no-deepspeed --output-dir models/gone
"""

import json
import os
import runpy
import sys
import weakref
from pathlib import Path

from torch import distributed
from torch.nn.parallel import DistributedDataParallel

made = []
init, destroy = DistributedDataParallel.__init__, distributed.destroy_process_group


def spying_init(self, *args, **kwargs):
    made.append(weakref.ref(self))
    init(self, *args, **kwargs)


def spying_destroy(*args, **kwargs):
    seen = [len(made), sum(reference() is not None for reference in made)]
    Path(os.environ["SEEN"], f"{os.environ['RANK']}.json").write_text(json.dumps(seen))
    destroy(*args, **kwargs)


DistributedDataParallel.__init__, distributed.destroy_process_group = spying_init, spying_destroy
del sys.argv[0]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
runpy.run_path(sys.argv[0], run_name="__main__")
