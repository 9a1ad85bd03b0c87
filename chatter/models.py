"""A pretrained model made ready for chat: a row for the padding token, a block's positions, how a message ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chatter.chat import newline_id
from chatter.command import InputError, log
from chatter.hub import fetch_model

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(model: str, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedModel:
    """Load a pretrained GPT-2 in float32, with a row for the padding token and `block_size` positions.

    Called before DeepSpeed is set up, so that resizing works on whole tensors; ZeRO-3 shards the finished model. A
    folder with a config and no weights gives random weights. Raises InputError if the model does not fit the blocks.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(fetch_model(model, weights=True))
    try:
        config = AutoConfig.from_pretrained(folder)
        if config.model_type != "gpt2":
            raise InputError(f"{model} is a {config.model_type} model, but train.py supports only GPT-2.")
        if block_size > config.n_positions:
            raise InputError(
                f"the blocks have {block_size} tokens, but {model} has only {config.n_positions} positions. "
                "Run tokenize_logs.py with a smaller --block-size."
            )
        if config.vocab_size not in (len(tokenizer), len(tokenizer) - 1):  # with and without [PAD]
            raise InputError(
                f"the dataset was tokenized for another model: its tokenizer has {len(tokenizer)} tokens including "
                f"[PAD], but {model} has {config.vocab_size}. Run tokenize_logs.py with --model {model}."
            )
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            log(f"{model} contains no weights: starting from random ones")
            network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            network, loaded = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            if loaded["missing_keys"]:  # transformers would initialize them at random
                raise InputError(f"the weights of {model} lack {', '.join(sorted(loaded['missing_keys']))}.")
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the model {model} cannot be read ({error}). Its folder needs a config.json and weights as safetensors."
        ) from error
    network.resize_token_embeddings(len(tokenizer))  # the new row is drawn around the mean of the others
    cut_positions(network, block_size)

    # Otherwise the Trainer does not know that the loss shifts the labels by one, and divides by one token too many per
    # block.
    network.loss_type = "ForCausalLM"
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    # A message ends with its line.
    network.generation_config.eos_token_id = [newline_id(tokenizer), tokenizer.eos_token_id]
    return network


def cut_positions(network: PreTrainedModel, block_size: int) -> None:
    """Keep the first `block_size` rows of the learned positions.

    Loading with a smaller n_positions and ignore_mismatched_sizes would re-initialize all of them.
    """
    from torch import nn

    positions = network.transformer.wpe
    positions.weight = nn.Parameter(positions.weight[:block_size].detach().clone())
    positions.num_embeddings = network.config.n_positions = block_size
