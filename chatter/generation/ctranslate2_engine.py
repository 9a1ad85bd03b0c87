"""CTranslate2, on a CPU, with weights that were converted for it."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
from tokenizers import Tokenizer

from chatter.cli import log
from chatter.files import delete
from chatter.generation.ctranslate2_copy import DIGEST, converted_weights
from chatter.generation.engine import Engine, Sampling
from chatter.tokens.chat import ChatFormat


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
    """Load the converted weights of a model. Raises ValueError if CTranslate2 does not compute the same logits."""
    weights = converted_weights(folder)
    try:
        return CTranslate2Engine(weights, tokenizer, chat_format)
    except (RuntimeError, ValueError) as error:  # damage that the digest does not cover
        log(f"the converted weights in {weights} cannot be loaded ({error})")
        delete(weights / DIGEST)
        return CTranslate2Engine(converted_weights(folder), tokenizer, chat_format)
