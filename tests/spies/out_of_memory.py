"""Run train.py with too little GPU memory: in the first pass, or while the model is moved ($WHEN=Trainer).

With $TOKENS only for more than so many tokens at once. The error is the one that PyTorch raises, and nothing of it
needs a GPU. On a GPU, $BYTES limits how much memory PyTorch takes.

    TOKENS=128 python tests/spies/out_of_memory.py train.py --output-dir models/large
"""

import os
import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ["TQDM_DISABLE"] = "1"  # as train.py does before it imports them
import torch
import transformers

forward = transformers.GPT2LMHeadModel.forward


def run_out(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1 GiB.")


def run_out_of_much(self, input_ids, **kwargs):
    return forward(self, input_ids, **kwargs) if input_ids.numel() <= int(os.environ["TOKENS"]) else run_out()


if "BYTES" in os.environ:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(float(os.environ["BYTES"]) / total)
elif os.environ.get("WHEN") == "Trainer":
    transformers.Trainer.__init__ = run_out
else:
    transformers.GPT2LMHeadModel.forward = run_out_of_much if "TOKENS" in os.environ else run_out
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
