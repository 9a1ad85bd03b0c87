"""Imports what a training run imports, with what train.py sets before. For the server of tests/warm.py."""

import os

os.environ |= {"TQDM_DISABLE": "1", "HF_HUB_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}

import datasets  # noqa: F401
import deepspeed  # noqa: F401
import torch  # noqa: F401
import transformers.models.gpt2.modeling_gpt2
import transformers.trainer  # noqa: F401
