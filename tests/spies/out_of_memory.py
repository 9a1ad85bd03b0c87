"""Run train.py, and let the GPU's memory run out in the first forward pass, or while the model is moved: $WHEN=Trainer.

The error is the one that PyTorch raises. Nothing of it needs a GPU.

    WHEN=Trainer python tests/spies/out_of_memory.py train.py --output-dir models/large
"""

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["TQDM_DISABLE"] = "1"  # as train.py does before it imports them
import torch
import transformers


def run_out(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB.")


if os.environ.get("WHEN") == "Trainer":
    transformers.Trainer.__init__ = run_out
else:
    transformers.GPT2LMHeadModel.forward = run_out
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
