"""The weights of a base model, recognized by a digest: LoRA adapters fit no others."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


def digest_weights(folder: Path) -> str:
    """Return a digest of the names, types, shapes and values of the weights in a folder, in however many files.

    Without weights, it is a digest of the config, which random weights are made from.
    """
    files = weight_files(folder)
    digest = hashlib.sha256(b"" if files else (folder / "config.json").read_bytes())
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(safe_open(path, "pt")) for path in files]
        holders = {name: file for file in opened for name in sorted(file.keys())}
        for name in sorted(holders):
            weight = holders[name].get_tensor(name)
            digest.update(f"{name} {weight.dtype} {[*weight.shape]}".encode())
            digest.update(weight.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers loads the weights of a model from."""
    if (folder / SAFE_WEIGHTS_NAME).exists():
        return [folder / SAFE_WEIGHTS_NAME]
    if (folder / SAFE_WEIGHTS_INDEX_NAME).exists():
        index = json.loads((folder / SAFE_WEIGHTS_INDEX_NAME).read_text(encoding="utf-8"))
        return [folder / name for name in sorted({*index["weight_map"].values()})]
    return sorted(folder.glob("*.safetensors"))


def has_weights(folder: Path, digest: str) -> bool:
    """Return whether a folder still has the weights of a digest."""
    with contextlib.suppress(OSError, ValueError, KeyError, SafetensorError):
        return digest_weights(folder) == digest
    return False
