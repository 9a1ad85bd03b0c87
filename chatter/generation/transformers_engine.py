"""Hugging Face transformers, on any device: the reference for other engines."""

from __future__ import annotations

import os
from logging import CRITICAL
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    CompileConfig,
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.utils import logging

from chatter.cli import InputError, describe_error, log
from chatter.devices import DeviceError, find_cuda_problem
from chatter.generation.engine import Engine, Sampling, weight_files
from chatter.tokens.chat import ChatFormat


class TransformersEngine(Engine):
    """Samples with the `generate` of transformers."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: Tokenizer, chat_format: ChatFormat, may_move: bool = False
    ) -> None:
        """`may_move` lets the model move to the CPU if the memory of the GPU runs out."""
        super().__init__(tokenizer, chat_format)
        self.model, self.may_move = model, may_move
        self.compiled = {}  # arguments of `generate` for single messages

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def compile(self) -> None:
        """Compile the model for single messages, with a cache that has room for a whole block.

        The compiled model takes prompts of any length. Batches are not compiled, as each size would be compiled anew.
        """
        config = CompileConfig()
        config._compile_all_devices = True  # also on a CPU, where the tests run
        positions = self.format.block_size
        self.compiled = {"cache_implementation": "static", "max_cache_len": positions, "compile_config": config}
        log("compiling the model, which may take a minute")
        try:
            self.sample([self.format.start], 1, Sampling(max_new_tokens=min(8, positions // 2)))
        except Exception as error:  # no compiler, a model with other code; torch raises nothing more specific
            reason = describe_error(error).partition("\\n")[0]  # below it, torch advises its developers
            raise InputError(f"the model cannot be compiled ({reason}). Leave out --compile.") from error

    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        try:
            return self.sample_here(prompt, num_messages, sampling)
        except torch.OutOfMemoryError:
            if not self.may_move:
                raise
            log("out of GPU memory: using the CPU")
            self.model.to("cpu").float()
            return self.sample_here(prompt, num_messages, sampling)

    def sample_here(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        """Sample on the device that the model is on."""
        input_ids = torch.tensor([prompt], device=self.model.device)  # (1, prompt_length) int64
        penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty, prompt_ignore_length=len(prompt))
        shape = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        output = self.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            num_return_sequences=num_messages,
            do_sample=not sampling.is_greedy,
            **({} if sampling.is_greedy else shape),
            logits_processor=LogitsProcessorList([penalty]),
            max_new_tokens=sampling.max_new_tokens,
            min_new_tokens=1,  # a message is not empty
            suppress_tokens=self.format.never,
            eos_token_id=self.format.newline,
            pad_token_id=self.format.pad,
            **(self.compiled if num_messages == 1 else {}),
        )  # (num_messages, prompt_length + longest message) int64
        newline = self.format.newline
        sampled = output[:, len(prompt) :].tolist()
        return [ids[: ids.index(newline)] if newline in ids else ids for ids in sampled]


def load(
    folder: Path, device: str, tokenizer: Tokenizer, chat_format: ChatFormat, may_move: bool
) -> TransformersEngine:
    """Load a model. Raises InputError if its weights cannot be read, DeviceError if the device cannot be used."""
    return TransformersEngine(load_weights(folder, device), tokenizer, chat_format, may_move)


def load_weights(folder: Path, device: str) -> PreTrainedModel:
    """Load the weights in the precision they were saved in; in float32 on a CPU, where half precision is slow.

    Raises InputError if they cannot be read, and DeviceError if the device cannot be used.
    """
    if device == "cuda" and (problem := find_cuda_problem()):
        raise DeviceError(f"--device cuda cannot be used: {problem}")
    logging.disable_progress_bar()
    logging.set_verbosity(CRITICAL)  # it would warn about padding after shorter messages, and print tables of errors
    for path in weight_files(folder):
        if not os.access(path, os.R_OK):
            raise InputError(f"{path} cannot be read: permission denied. Make it readable for this user.")
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the weights in {folder} cannot be read ({error}). Run train.py again with --overwrite."
        ) from error
    except RuntimeError as error:  # its text is about an option of transformers
        raise InputError(
            f"the weights in {folder} do not fit its config.json. Copy both from the same model, or run train.py again "
            "with --overwrite."
        ) from error
    logging.set_verbosity_error()
    try:
        if device == "cpu":
            model.float()
        return model.to(device).eval()
    except (AssertionError, RuntimeError) as error:
        raise DeviceError(f"--device {device} cannot be used: {str(error).splitlines()[0]}.") from error
