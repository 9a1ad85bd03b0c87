"""The interface of all engines, and the sampling options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

    @abstractmethod
    def sample(self, prompt: list[int], num_messages: int, sampling: Sampling) -> list[list[int]]:
        """Continue the prompt `num_messages` times; return the new ids of each, without its newline.

        If the sampling is greedy, `num_messages` is 1.
        """
