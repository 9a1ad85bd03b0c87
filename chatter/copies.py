"""The copy of a model's weights that CTranslate2 reads."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from chatter.cli import log
from chatter.files import atomic_output, beside, locked

DIGEST_BYTES = 1 << 16
# Families whose logits CTranslate2 computes as transformers does: tests/test_families.py compares them. With Llama's it
# ignores the scaling of rotary positions, with Gemma 2's the soft cap; it fails on Pythia's and on a separate head_dim.
EXACT = {"gpt2", "qwen2", "qwen3"}


def check_exact(config: dict[str, Any]) -> None:
    """Raise ValueError if CTranslate2 does not compute exactly what a model with this config.json says."""
    family = config.get("model_type")
    if family not in EXACT:
        raise ValueError(f"it is not exact for models of the family {family}")
    if (config.get("rope_parameters") or {}).get("rope_type", "default") != "default":
        raise ValueError("it is not exact for scaled rotary positions")
    if config.get("use_sliding_window"):
        raise ValueError("it is not exact for sliding windows")


def ctranslate2_copy(folder: Path) -> Path:
    """Return the copy of the weights for CTranslate2, made if there is none or it is of other weights.

    In float32, in which a CPU computes: float16 takes half the disk, and as long to convert at each start as float32
    takes to load. int8 changes the likeliest next token in 11 of 100 places of the sample's test blocks.
    """
    copy = folder.resolve() / "ctranslate2"
    source, digest = copy / "weights.sha256", digest_weights(folder)

    def is_current() -> bool:
        return source.exists() and source.read_text(encoding="utf-8") == digest

    if not is_current():
        from ctranslate2.converters import TransformersConverter

        with locked(beside(copy, "lock"), copy, wait=True):
            if not is_current():  # nobody else has made it in the meantime
                log(f"making a copy of {folder} for the CPU, once")
                with atomic_output(copy) as partial:
                    TransformersConverter(str(folder)).convert(str(partial), quantization="float32")
                    (partial / source.name).write_text(digest, encoding="utf-8")
    return copy


def digest_weights(folder: Path) -> str:
    """Return a digest of a model's weights: of the size and 65 spread blocks of each file, 4 MB at most.

    All of gpt2-medium's 1.4 GB would take as long as a message. Training changes every block. Raises FileNotFoundError.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FileNotFoundError(folder / "model.safetensors")
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for part in range(65):
                file.seek(part * max(size - DIGEST_BYTES, 0) // 64)
                digest.update(file.read(DIGEST_BYTES))
    return digest.hexdigest()
