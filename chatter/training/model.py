"""Prepare a pretrained model for chat: an embedding for padding, positions for a block, a newline as end of text.

LoRA trains small matrices beside the linear layers of a model in place of its weights: E. Hu and others, LoRA: Low-Rank
Adaptation of Large Language Models, 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import GELUTanh, NewGELUActivation
from transformers.pytorch_utils import Conv1D

from chatter.cli import InputError, log
from chatter.hub import fetch_model
from chatter.tokens.chat import ChatFormat
from chatter.tokens.tokenizer import load_tokenizer
from chatter.training.metadata import generation_config

if TYPE_CHECKING:
    from peft import PeftModel

# Families with learned positions -> the module with a row for each, the rows before the first position, and the names
# in the config. Rotary and ALiBi positions need no rows. llama.cpp's converter needs n_ctx.
POSITIONS = {
    "gpt2": ("transformer.wpe", 0, ("n_positions", "n_ctx")),
    "opt": ("model.decoder.embed_positions", 2, ("max_position_embeddings",)),
}
MAX_REASON = 200  # characters of a library's error, some of which list every model


def load_model(model: str, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedModel:
    """Load a pretrained causal language model in float32, with a row for each token and positions for a block.

    Called before DeepSpeed is set up, so that resizing works on whole tensors; ZeRO-3 shards the finished model. A
    folder with a config and no weights gives random weights. Raises InputError if the model does not fit the blocks.
    """
    folder = fetch_model(model, weights=True)
    try:
        config = AutoConfig.from_pretrained(folder)
        if type(config) not in AutoModelForCausalLM._model_mapping:
            raise InputError(
                f"{model} is a {config.model_type} model, which cannot generate text. Choose a causal language model."
            )
        check_fit(model, folder, config, tokenizer, block_size)
        if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            if not Path(model).is_dir():  # a model of the hub has weights, if not as safetensors
                raise InputError(f"{model} has no weights as safetensors. Choose a model that has them.")
            log(f"{model} contains no weights: starting from random ones")
            network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            network, loaded = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            if loaded["missing_keys"]:  # transformers would initialize them at random
                missing = ", ".join(sorted(loaded["missing_keys"]))[:MAX_REASON]
                raise InputError(f"the weights of {model} lack {missing}. Copy them again, or choose another model.")
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"the model {model} cannot be read ({str(error)[:MAX_REASON]}). Its folder needs the config.json of a "
            "causal language model and weights as safetensors."
        ) from error
    except RuntimeError as error:
        if "ignore_mismatched_sizes" not in str(error):  # such as memory that runs out
            raise
        raise InputError(
            f"the weights of {model} do not fit its config.json. Copy both from the same model."
        ) from error
    if config.model_type != "gpt2" and not is_causal(network):
        raise InputError(
            f"{model} is not a causal language model: later tokens change what it predicts before them. Choose another "
            "model."
        )
    network.config.dtype = config.dtype  # of the pretrained weights; saving sets it to the precision of training
    if len(network.get_input_embeddings().weight) < len(tokenizer):
        network.resize_token_embeddings(len(tokenizer))  # the new row is sampled around the mean of the others
    cut_positions(network, block_size)

    # Otherwise the Trainer does not know that the loss shifts the labels by one, and divides by one token too many per
    # block.
    network.loss_type = "ForCausalLM"
    network.generation_config = generation_config(ChatFormat.of(tokenizer, block_size))
    return network


def check_fit(
    model: str, folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, block_size: int
) -> None:
    """Raise InputError if a model has too few positions for the blocks, or another vocabulary than the dataset."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and block_size > positions:
        raise InputError(
            f"the blocks have {block_size} tokens, but {model} has only {positions} positions. Run tokenize_logs.py "
            "with a smaller --block-size."
        )
    tokens = vocabulary_of(tokenizer)
    rows = config.get_text_config().vocab_size
    theirs = rows
    if (folder / "tokenizer.json").exists():
        vocabulary = load_tokenizer(str(folder))
        theirs = len(vocabulary)
        fits = tokens == vocabulary_of(vocabulary)
    else:
        fits = rows in (len(tokenizer), len(tokenizer) - 1)  # with and without [PAD]
    theirs = rows if fits else theirs
    if not fits or rows < len(tokenizer) - 1:
        others = "others" if theirs == len(tokenizer) else theirs
        raise InputError(
            f"the dataset was tokenized for another model: its tokenizer has {len(tokenizer)} tokens including "
            f"{tokenizer.pad_token}, but {model} has {others}. Run tokenize_logs.py with --model {model}."
        )


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the ids of all tokens but the padding token."""
    return {token: number for token, number in tokenizer.get_vocab().items() if token != tokenizer.pad_token}


def is_causal(network: PreTrainedModel) -> bool:
    """Return whether changing the last token of a text leaves the predictions before it unchanged."""
    network.eval()
    with torch.inference_mode():
        first, other = (network(torch.tensor([[5, 6, 7, last]])).logits[0, :-1] for last in (8, 9))
    network.train()
    return torch.allclose(first, other, atol=1e-4)


def cut_positions(network: PreTrainedModel, block_size: int) -> None:
    """Cut the learned position embeddings to the length of a block.

    Loading with fewer positions and ignore_mismatched_sizes would re-initialize all of them.
    """
    if network.config.model_type in POSITIONS:
        path, offset, names = POSITIONS[network.config.model_type]
        positions = network.get_submodule(path)
        positions.weight = nn.Parameter(positions.weight[: block_size + offset].detach().clone())
        positions.num_embeddings = block_size + offset
        for name in names:
            setattr(network.config, name, block_size)


def fuse_gelu(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model with PyTorch's own tanh-GELU in place of `gelu_new`, up to rounding the same function.

    `gelu_new` runs eight kernels, and keeps 20 instead of 8 widths per token for the backward pass. The config
    and the saved files stay as they are.
    """
    for module in [*model.modules()]:
        for name, child in [*module.named_children()]:
            if isinstance(child, NewGELUActivation):
                setattr(module, name, GELUTanh())
    return model


def add_adapters(network: PreTrainedModel, rank: int) -> PeftModel:
    """Return a model with adapters of this rank on all its linear layers but the output layer; nothing else is trained.

    Their product is scaled by 2, whatever the rank, so that one learning rate suits all ranks.
    """
    from peft import LoraConfig, get_peft_model

    network.name_or_path = ""  # otherwise peft compares vocabularies and saves the embeddings with each checkpoint
    transposed = any(isinstance(layer, Conv1D) for layer in network.modules())  # GPT-2's layers
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        fan_in_fan_out=transposed,
    )
    model = get_peft_model(network, config)
    model.loss_type = network.loss_type  # the Trainer looks for it here
    model.enable_input_require_grads()  # or ZeRO-3 takes the gradients of the first layer before they are complete
    return model


def merge_adapters(network: PreTrainedModel, checkpoint: Path) -> PreTrainedModel:
    """Return the model with the adapters of a checkpoint added to its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(network, str(checkpoint)).merge_and_unload(safe_merge=True)
