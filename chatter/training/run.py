"""A run of train.py: its inputs, its settings, and where its outputs go."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.tokens.chat import FORMAT_FILE, ChatFormat, channel_header

if TYPE_CHECKING:
    from datasets import DatasetDict
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

    from chatter.tokens.text_size import SplitText
    from chatter.training.placement import Placement


@dataclass
class TrainingRun:
    """A run of train.py, as its steps need it."""

    args: argparse.Namespace  # the options of train.py
    output_dir: Path  # for the model
    checkpoints: Path  # the folder of all checkpoints
    blocks: DatasetDict  # column `input_ids`, NumPy arrays (block_size,) uint16 or int32
    data_summary: dict[str, Any]  # the summary of the dataset
    test_text: SplitText  # how much text the test blocks contain
    tokenizer: PreTrainedTokenizerBase
    chat_format: ChatFormat
    model: PreTrainedModel | PeftModel
    base: Path  # the folder of the pretrained model
    message_folders: list[Path]  # with hashes of the training messages
    precision: str  # fp32, fp16 or bf16
    placement: Placement
    settings: TrainingArguments
    steps_per_epoch: int
    description: dict[str, Any]  # from `describe_run`; a resumed run is compared with it

    @property
    def opening_header(self) -> str:
        """The header of the dataset's first channel, or "" if it has no channels."""
        channels = self.data_summary.get("channels")
        return channel_header(channels[0]) if channels else ""


def known_channels(data: Mapping[str, Any], base: Path) -> list[str]:
    """Return the channels of a dataset and, if it has any, also the channels that the model in `base` knows."""
    channels = data.get("channels", [])
    return [*channels, *ChatFormat.load(base).channels] if channels and (base / FORMAT_FILE).exists() else channels
