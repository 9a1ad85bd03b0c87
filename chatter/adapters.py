"""LoRA: small matrices beside the linear layers of a model, which are trained in place of its weights.

E. Hu and others, LoRA: Low-Rank Adaptation of Large Language Models, 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from peft import PeftModel
    from transformers import PreTrainedModel


def add_adapters(network: PreTrainedModel, rank: int) -> PeftModel:
    """Return a model with adapters of this rank on all its linear layers but the output layer; nothing else is trained.

    Their product is scaled by 2, whatever the rank, so that one learning rate suits all.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

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
    return model


def merge_adapters(network: PreTrainedModel, checkpoint: Path) -> PreTrainedModel:
    """Return the model that the adapters were trained on with those of a checkpoint added to its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(network, str(checkpoint)).merge_and_unload(safe_merge=True)
