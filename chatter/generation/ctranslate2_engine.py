"""CTranslate2, on a CPU, with weights that were converted for it.

Once the converted weights exist, it needs neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ctranslate2
from tokenizers import Tokenizer

from chatter.cli import log
from chatter.files import atomic_output, beside, delete, locked
from chatter.generation.engine import Engine, Sampling
from chatter.tokens.chat import ChatFormat

DIGEST = "weights.sha256"  # beside the converted weights
DIGEST_BYTES = 1 << 16  # of each part of a weights file that is hashed
# Families whose logits CTranslate2 computes as transformers does; tests/test_families.py compares them. It ignores
# Llama's scaling of rotary positions and Gemma 2's soft cap, and fails on Pythia and on a separate head_dim.
EXACT = {"gpt2", "qwen2", "qwen3"}


class CTranslate2Engine(Engine):
    """Samples on a CPU, from converted weights."""

    def __init__(self, weights: Path, tokenizer: Tokenizer, chat_format: ChatFormat) -> None:
        super().__init__(tokenizer, chat_format)
        self.weights = weights
        self.load_generator()

    def load_generator(self) -> None:
        self.model, self.has_sampled = ctranslate2.Generator(str(self.weights), "cpu"), False

    def seed(self, seed: int) -> None:
        ctranslate2.set_random_seed(seed % ((1 << 32) - 1))  # the largest 32-bit seed means a random one
        if self.has_sampled:  # its threads keep the seed that they began with
            self.load_generator()

    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        self.has_sampled = True
        [result] = self.model.generate_batch(
            [self.tokens(prompt)],
            include_prompt_in_result=False,
            num_hypotheses=num_messages,
            sampling_topk=1 if sampling.is_greedy else min(sampling.top_k, self.tokenizer.get_vocab_size()),
            sampling_topp=1 if sampling.is_greedy else sampling.top_p,
            sampling_temperature=sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            max_length=sampling.max_new_tokens,
            min_length=1,  # a message is not empty
            suppress_sequences=[self.tokens([token]) for token in self.format.never],
            end_token=[self.format.newline],
        )
        return result.sequences_ids

    def tokens(self, ids: list[int]) -> list[str]:
        return [self.tokenizer.id_to_token(token) for token in ids]


def load(folder: Path, device: str, tokenizer: Tokenizer, chat_format: ChatFormat, may_move: bool) -> CTranslate2Engine:
    """Load the converted weights of a model. Raises ValueError if CTranslate2 would not compute the same logits."""
    check_exact(json.loads((folder / "config.json").read_bytes()))
    weights = converted_weights(folder)
    try:
        return CTranslate2Engine(weights, tokenizer, chat_format)
    except (RuntimeError, ValueError) as error:  # damage that the digest does not cover
        log(f"the converted weights in {weights} cannot be loaded ({error})")
        delete(weights / DIGEST)
        return CTranslate2Engine(converted_weights(folder), tokenizer, chat_format)


def check_exact(config: dict[str, Any]) -> None:
    """Raise ValueError if CTranslate2 would compute other logits than transformers for this config.json."""
    family = config.get("model_type")
    if family not in EXACT:
        raise ValueError(f"its logits differ for models of the family {family}")
    if (config.get("rope_parameters") or {}).get("rope_type", "default") != "default":
        raise ValueError("its logits differ for scaled rotary positions")
    if config.get("use_sliding_window"):
        raise ValueError("its logits differ for sliding windows")


def converted_weights(folder: Path) -> Path:
    """Return the folder of weights for CTranslate2; convert them first if they are missing, outdated or damaged.

    A CPU computes in float32: float16 takes half the disk, but its conversion at each start takes as long
    as loading float32. int8 changes the likeliest next token in 11 of 100 places of the sample's test blocks.
    """
    converted = folder.resolve() / "ctranslate2"
    digest = digest_weights(folder)

    def is_current() -> bool:
        with contextlib.suppress(OSError):  # a file is missing
            return (converted / DIGEST).read_bytes() == digest_copy(digest, converted)
        return False

    if not is_current():
        from ctranslate2.converters import TransformersConverter

        with locked(beside(converted, "lock"), converted, wait=True):
            if not is_current():  # another process may have converted them in the meantime
                log(f"converting the weights of {folder} for the CPU, once")
                with atomic_output(converted) as partial:
                    TransformersConverter(str(folder)).convert(str(partial), quantization="float32")
                    (partial / DIGEST).write_bytes(digest_copy(digest, partial))
    return converted


def digest_weights(folder: Path) -> str:
    """Return a digest of a model's weights, of which about 4 MB of each file are read.

    Hashing all 1.4 GB of gpt2-medium takes as long as sampling a message, and training changes every part.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FileNotFoundError(folder / "model.safetensors")
    return digest_files(files)


def digest_copy(weights: str, converted: Path) -> bytes:
    """Return the content of DIGEST: the digest of the model's weights, and one of the converted files."""
    files = [path for path in sorted(converted.iterdir()) if path.name[0] != "." and path.name != DIGEST]
    return f"{weights} {digest_files(files)}".encode()


def digest_files(paths: Iterable[Path]) -> str:
    """Return a SHA-256 of the name, the size and 65 evenly spaced parts of each file."""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for part in range(65):
                file.seek(part * max(size - DIGEST_BYTES, 0) // 64)
                digest.update(file.read(DIGEST_BYTES))
    return digest.hexdigest()
