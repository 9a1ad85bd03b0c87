"""What generates tokens: CTranslate2 or transformers, behind one small interface. A new engine is a class and an entry
in ENGINES.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError, log
from chatter.copies import check_exact, ctranslate2_copy
from chatter.devices import DeviceError, find_gpu
from chatter.tokens.chat import ChatFormat

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled.

    Nucleus sampling: each token comes from the likeliest ones whose probabilities add up to `top_p`. Only the `top_k`
    likeliest are looked at, which is quicker and rarely leaves out a token of the nucleus; 0 is no limit.
    `repetition_penalty` divides the scores of tokens that the message already contains.
    """

    temperature: float = 0.9
    top_p: float = 0.95
    top_k: int = 4000
    repetition_penalty: float = 1.0
    max_new_tokens: int = 100
    greedy: bool = False  # always the likeliest token


class Engine:
    """A model, as the engine's library has it, with its tokenizer and the format of its chat."""

    def __init__(self, model: Any, tokenizer: Tokenizer, chat_format: ChatFormat) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.format = chat_format

    @staticmethod
    def supports(device: str) -> bool:
        """Return whether the engine runs on this device."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str, tokenizer: Tokenizer, chat_format: ChatFormat) -> Engine:
        """Load the weights in a folder that train.py wrote."""
        raise NotImplementedError

    def seed(self, seed: int) -> None:
        """Make what is sampled from here on depend on the seed alone."""
        raise NotImplementedError

    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        """Continue the prompt `num_messages` times; return the new ids of each, up to its newline."""
        raise NotImplementedError


class CTranslate2Engine(Engine):
    """CTranslate2, on a CPU. It needs neither torch nor transformers once the copy of the weights exists."""

    @staticmethod
    def supports(device: str) -> bool:
        return device == "cpu"

    @classmethod
    def load(cls, folder: Path, device: str, tokenizer: Tokenizer, chat_format: ChatFormat) -> Engine:
        check_exact(json.loads((folder / "config.json").read_bytes()))
        engine = cls(None, tokenizer, chat_format)
        engine.copy = ctranslate2_copy(folder)
        engine.start()
        return engine

    def start(self) -> None:
        import ctranslate2

        self.model, self.has_sampled = ctranslate2.Generator(str(self.copy), "cpu"), False

    def seed(self, seed: int) -> None:
        import ctranslate2

        ctranslate2.set_random_seed(seed % ((1 << 32) - 1))  # -1 would be a random one
        if self.has_sampled:  # its threads keep the seed that they began with
            self.start()

    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        self.has_sampled = True
        [result] = self.model.generate_batch(
            [self.tokens(prompt)],
            include_prompt_in_result=False,
            num_hypotheses=num_messages,
            sampling_topk=1 if sampling.greedy else min(sampling.top_k, self.tokenizer.get_vocab_size()),
            sampling_topp=1 if sampling.greedy else sampling.top_p,
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


class TransformersEngine(Engine):
    """Hugging Face transformers, on any device: the reference."""

    may_move = False  # to the CPU, where --device does not say that it must not

    @staticmethod
    def supports(device: str) -> bool:
        return True

    @classmethod
    def load(cls, folder: Path, device: str, tokenizer: Tokenizer, chat_format: ChatFormat) -> Engine:
        return cls(load_weights(folder, device), tokenizer, chat_format)

    def seed(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)

    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        import torch

        try:
            return self.sample_here(prompt, num_messages, sampling)
        except torch.OutOfMemoryError:
            if not self.may_move:
                raise
            log("out of GPU memory: using the CPU")
            self.model.to("cpu").float()
            return self.sample_here(prompt, num_messages, sampling)

    def sample_here(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        import torch
        from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

        input_ids = torch.tensor([prompt], device=self.model.device)  # (1, prompt_length) int64
        penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty, prompt_ignore_length=len(prompt))
        shape = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        output = self.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            num_return_sequences=num_messages,
            do_sample=not sampling.greedy,
            **({} if sampling.greedy else shape),
            logits_processor=LogitsProcessorList([penalty]),
            max_new_tokens=sampling.max_new_tokens,
            min_new_tokens=1,  # a message is not empty
            suppress_tokens=self.format.never,
            eos_token_id=self.format.newline,
            pad_token_id=self.format.pad,
        )  # (num_messages, prompt_length + longest message) int64
        newline = self.format.newline
        sampled = output[:, len(prompt) :].tolist()
        return [ids[: ids.index(newline)] if newline in ids else ids for ids in sampled]


# In the order in which "auto" tries them.
ENGINES: dict[str, type[Engine]] = {"ctranslate2": CTranslate2Engine, "transformers": TransformersEngine}


def load_engine(model: str | Path, device: str = "auto", engine: str = "auto") -> Engine:
    """Load a model that train.py wrote. Raises InputError if there is none, or it cannot be loaded like this.

    `device` auto is a GPU if torch can use one and the model fits it, or else the CPU. `engine` auto is the first of
    ENGINES that works there.
    """
    from tokenizers import Tokenizer

    folder = Path(model)
    try:
        json.loads((folder / "config.json").read_bytes())
        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if not any(folder.glob("model*.safetensors")):
            raise FileNotFoundError(folder / "model.safetensors")
    except Exception as error:  # OSError, ValueError; tokenizers raises nothing more specific
        raise InputError(f"no model in {folder}. Run train.py first, or pass another folder with --model.") from error
    chat_format = ChatFormat.load(folder)
    if device == "auto":
        device = find_gpu() if engine == "auto" or ENGINES[engine].supports("cuda") else "cpu"
        if device != "cpu":
            try:
                loaded = load_engine(model, device, engine)
                loaded.may_move = True
                return loaded
            except DeviceError as error:
                log(f"{error} Using the CPU.")
                device = "cpu"
    names = [name for name, each in ENGINES.items() if engine in ("auto", name) and each.supports(device)]
    if not names:
        raise InputError(f"--engine {engine} does not run on --device {device}. Pass --engine transformers.")
    for name in names:
        try:
            return ENGINES[name].load(folder, device, tokenizer, chat_format)
        except InputError:
            raise
        except Exception as error:  # not installed, a folder that is not writable, a model that it cannot convert
            if name == names[-1]:
                advice = "Run train.py again." if name == "transformers" else "Pass --engine transformers."
                raise InputError(f"{name} cannot load {folder} ({error}). {advice}") from error
            if not isinstance(error, ImportError):
                log(f"{name} cannot load {folder} ({error}): using {names[-1]}, which is slower")
    raise AssertionError("unreachable")


def load_weights(folder: Path, device: str) -> PreTrainedModel:
    """Load the weights with transformers, in the precision they were saved in; float32 on a CPU."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it would warn about padding behind messages that end earlier than others
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
        if device == "cpu":
            model.float()  # half precision is slow on a CPU
        return model.to(device).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"the weights in {folder} cannot be read ({error}). Run train.py again.") from error
    except (AssertionError, RuntimeError) as error:
        raise DeviceError(f"--device {device} cannot be used: {str(error).splitlines()[0]}.") from error
