"""The interface of all engines, and the sampling options."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.cli import InputError, bounded, positive_int
from chatter.tokens.chat import ChatFormat

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled.

    Nucleus sampling: each token comes from the likeliest tokens whose probabilities add up to `top_p`. Only the `top_k`
    likeliest are considered: this is faster and rarely leaves out a token of the nucleus. 0 means all tokens.
    `repetition_penalty` above 1 lowers the scores of tokens that the message already contains.
    """

    temperature: float = 0.9
    top_p: float = 0.95
    top_k: int = 4000
    repetition_penalty: float = 1.0
    max_new_tokens: int = 100
    greedy: bool = False  # always the likeliest token

    @property
    def is_greedy(self) -> bool:
        """Whether each token is the likeliest, so that a prompt has only one answer."""
        return self.greedy or self.top_k == 1


def add_sampling_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of Sampling; return their group."""
    group = parser.add_argument_group("sampling")
    add, positive = group.add_argument, bounded(float, at_least=0.01, at_most=100)
    add("--temperature", type=positive, default=Sampling.temperature, help="lower is safer, higher is wilder")
    add(
        "--top-p",
        type=bounded(float, at_least=0.01, at_most=1),
        default=Sampling.top_p,
        help="sample from the likeliest tokens whose probabilities add up to this",
    )
    add(
        "--top-k",
        type=bounded(int, at_least=0),
        default=Sampling.top_k,
        help="sample from at most this many tokens; 0: no limit, but slower",
    )
    add(
        "--repetition-penalty",
        type=positive,
        default=Sampling.repetition_penalty,
        help="above 1, words are repeated less often",
    )
    add(
        "--max-new-tokens",
        type=positive_int,
        default=Sampling.max_new_tokens,
        help="the most tokens of a message; at most half a block",
    )
    add("--greedy", action="store_true", help="always take the likeliest token")
    return group


def read_sampling(args: argparse.Namespace) -> Sampling:
    """Return how tokens are sampled, as the options say."""
    return Sampling(**{field.name: getattr(args, field.name) for field in fields(Sampling)})


def weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights of a model, sorted."""
    return sorted(folder.glob("model*.safetensors"))


class Engine(ABC):
    """A model in some library, with its tokenizer and the format of its chat.

    The module of an engine has a function `load(folder, device, tokenizer, chat_format, may_move)` that returns one;
    `may_move` is true if it may use the CPU when the memory of the GPU runs out.
    """

    def __init__(self, tokenizer: Tokenizer, chat_format: ChatFormat) -> None:
        self.tokenizer = tokenizer
        self.format = chat_format

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Make all later samples depend on the seed alone."""

    def compile(self) -> None:
        """Compile the model for single messages. Raises InputError if this engine cannot, or if that fails."""
        raise InputError(
            "--compile works only with the engine transformers. Leave it out, or pass --engine transformers."
        )

    @abstractmethod
    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        """Continue the prompt `num_messages` times; return the new ids of each, without its newline.

        If the sampling is greedy, `num_messages` is 1.
        """
