"""Run train.py on a CPU in fp16, which DeepSpeed refuses on CPUs where it is slow.

python tests/spies/fp16_on_cpu.py train.py --precision fp16 --output-dir models/half
"""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from chatter.training import distributed

original = distributed.join_process_group


def join_process_group():
    original()  # imports DeepSpeed, which train.py sets up before
    from deepspeed.accelerator import get_accelerator

    type(get_accelerator()).is_fp16_supported = lambda self: True


distributed.join_process_group = join_process_group
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
