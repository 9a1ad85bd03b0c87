"""The copy of a model's weights for CTranslate2: made once, and compared once with the model in transformers.

CTranslate2 computes other logits for some models, and says nothing. For example, it ignores Llama 3's scaling of rotary
positions and Gemma 2's soft cap. Such a copy is not used, and only the reason is kept. Once a copy exists, neither
torch nor transformers is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import ctranslate2
import numpy as np
import psutil
from tokenizers import Tokenizer

from chatter.cli import InputError, log, one_line
from chatter.files import atomic_output, beside, delete, locked
from chatter.generation.engine import weight_files
from chatter.tokens.chat import ChatFormat, encode_chat

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMPARISON = "comparison.json"  # beside the converted weights: how far the logits differ, or why there are no weights
DIGEST = "weights.sha256"
DIGEST_BYTES = 1 << 16  # of each part of a weights file that is hashed
# The largest difference of logits, as a share of their standard deviation. Rounding made 2e-5 of it in SmolLM2 and 2e-6
# in random models. The smallest difference of a wrong computation was 2e-3, in a random Gemma with another head_dim.
TOLERANCE = 2e-4
MEMORY = 8  # bytes per parameter, for a conversion
MAX_REASON = 200  # characters of a library's error, some of which list every model
CHAT = """\
hello chat
what game is this? I just got here
LUL that was so close
you have to jump BEFORE the wall, not after it...
!uptime
gg wp, see you on 12/24 :)
@somebody yes, the second level is harder
nooooo why did you sell the sword
\u00bfhablas espa\u00f1ol? \U0001f602 \u3053\u3093\u306b\u3061\u306f
POGGERS POGGERS POGGERS
she's at 99% health, it's 3.5k damage (or more) / hit
first time watching & this is great!!
""".splitlines()


def converted_weights(folder: Path) -> Path:
    """Return the folder of weights for CTranslate2; convert them first if they are missing, outdated or damaged.

    Raises ValueError if CTranslate2 cannot convert the model or does not compute its logits. This is found out once.

    A CPU computes in float32: float16 takes half the disk, but its conversion at each start takes as long
    as loading float32. int8 changes the likeliest next token in 11 of 100 places of the sample's test blocks.
    """
    converted = folder.resolve() / "ctranslate2"
    digest = digest_model(folder)

    def is_current() -> bool:
        with contextlib.suppress(OSError):  # a file is missing
            return (converted / DIGEST).read_bytes() == digest_copy(digest, converted)
        return False

    if not is_current():
        check_memory(folder)
        with locked(beside(converted, "lock"), converted, wait=True):
            if not is_current():  # another process may have converted them in the meantime
                log(f"converting the weights of {folder} for the CPU, once")
                with atomic_output(converted) as partial:
                    comparison = convert(folder, partial)
                    (partial / COMPARISON).write_text(json.dumps(comparison, indent=1), encoding="utf-8")
                    (partial / DIGEST).write_bytes(digest_copy(digest, partial))
    if reason := json.loads((converted / COMPARISON).read_bytes())["reason"]:
        raise ValueError(reason)
    return converted


def check_memory(folder: Path) -> None:
    """Raise ValueError if the memory that is free now is not enough to convert a model."""
    files = weight_files(folder)
    half = json.loads((folder / "config.json").read_bytes()).get("dtype") in ("float16", "bfloat16")
    needed = sum(path.stat().st_size for path in files) / (2 if half else 4) * MEMORY
    free = psutil.virtual_memory().available
    if needed > free:
        raise ValueError(f"its conversion needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free")


def convert(folder: Path, partial: Path) -> dict[str, float | str | None]:
    """Convert a model into the folder `partial`, and compare the two. Return the content of COMPARISON.

    It has the `difference` of logits, and the `reason` why the copy must not be used, or "". A copy that must not be
    used is deleted.
    """
    from ctranslate2.converters import TransformersConverter
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    difference = None
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = fill_block(tokenizer, ChatFormat.load(folder))
    try:
        expected = logits_of_model(folder, ids)  # first, as its errors say what is wrong with the weights
        TransformersConverter(str(folder)).convert(str(partial), quantization="float32", force=True)
        difference = compare(logits_of_copy(partial, tokenizer, ids), expected)
        if difference <= TOLERANCE:  # not if it is NaN
            return {"difference": difference, "reason": ""}
        reason = f"its logits would differ from the model's by {difference:.0e} of their standard deviation"
    except (OSError, MemoryError, ImportError, InputError, SafetensorError):  # may be gone next time
        raise
    except Exception as error:  # whatever its converters raise for models that they do not know
        reason = one_line(f"{type(error).__name__}: {error}")[:MAX_REASON]
    delete(partial)
    partial.mkdir()
    return {"difference": difference, "reason": reason}


def fill_block(tokenizer: Tokenizer, chat_format: ChatFormat) -> list[int]:
    """Return the ids of a whole block of chat."""
    repeated = CHAT * (chat_format.block_size // len(CHAT) + 1)  # a line has at least one token
    return encode_chat(tokenizer, chat_format, repeated, 1 << 40)[: chat_format.block_size]


def compare(copy: NDArray[np.float32], model: NDArray[np.float32]) -> float:
    """Return the largest difference of the copy's logits and the model's, as a share of their standard deviation."""
    rows = min(copy.shape[-1], model.shape[-1])  # of the embeddings; a copy may have more
    copy, model = (each[:, :rows] - each[:, :rows].mean(axis=1, keepdims=True) for each in (copy, model))
    return float(np.abs(copy - model).max() / model.std())


def logits_of_copy(converted: Path, tokenizer: Tokenizer, ids: list[int]) -> NDArray[np.float32]:
    """Return the logits that CTranslate2 computes at each token, (num_tokens, rows)."""
    tokens = [tokenizer.id_to_token(token) for token in ids]
    return np.array(ctranslate2.Generator(str(converted), "cpu").forward_batch([tokens]))[0]


def logits_of_model(folder: Path, ids: list[int]) -> NDArray[np.float32]:
    """Return the logits that transformers computes at each token, (num_tokens, rows)."""
    import torch

    from chatter.generation.transformers_engine import load_weights

    with torch.inference_mode():
        return load_weights(folder, "cpu")(torch.tensor([ids])).logits[0].numpy()


def digest_model(folder: Path) -> str:
    """Return a digest of what the copy depends on: the weights, their config, and the version of CTranslate2."""
    weights, config = digest_files(weight_files(folder)), (folder / "config.json").read_bytes()
    return hashlib.sha256(f"{weights} {ctranslate2.__version__} ".encode() + config).hexdigest()


def digest_copy(model: str, converted: Path) -> bytes:
    """Return the content of DIGEST: the digest of the model, and one of the converted files."""
    files = [path for path in sorted(converted.iterdir()) if path.name[0] != "." and path.name != DIGEST]
    return f"{model} {digest_files(files)}".encode()


def digest_files(paths: Iterable[Path]) -> str:
    """Return a SHA-256 of the name, the size and 65 evenly spaced parts of each file, some 4 MB.

    Hashing all 1.4 GB of gpt2-medium takes as long as sampling a message, and training changes many of them.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for part in range(65):
                file.seek(part * max(size - DIGEST_BYTES, 0) // 64)
                digest.update(file.read(DIGEST_BYTES))
    return digest.hexdigest()
