"""Imports what the scripts import, with what train.py sets before. For the server of tests/warm.py."""

import functools
import gc
import os
import weakref
from importlib import import_module

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
LIBRARIES = """cpuinfo confusable_homoglyphs.confusables datasets deepspeed
    deepspeed.runtime.zero.muon.muon_optimizer matplotlib.backends.backend_agg matplotlib.figure polars
    torch.utils.cpp_extension transformers.models.gpt2.modeling_gpt2 transformers.trainer"""

cpuinfo, *_ = map(import_module, LIBRARIES.split())
cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)
cpuinfo.get_cpu_info()  # for DeepSpeed, which looks at the CPU before it loads its CPU Adam: a second
for finalizer in weakref.finalize._registry.values():
    finalizer.atexit = False  # torch's operators need not be taken back one by one when a copy ends: 40 ms
gc.freeze()  # the copies need not look for garbage here
