"""The finished model: the best checkpoint, with its adapters merged, the format of its chat, and a report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.adapters import merge_adapters
from chatter.checkpoints import complete_checkpoints, copy_model, find_best, read_state
from chatter.cli import log
from chatter.files import atomic_output
from chatter.models import load_model
from chatter.report import METRICS, write_model_report
from chatter.tokens.chat import ChatFormat
from chatter.wording.training_messages import HASHES, unite_hashes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def save_model(
    args: argparse.Namespace,
    checkpoints: Path,
    output_dir: Path,
    tokenizer: PreTrainedTokenizerBase,
    chat_format: ChatFormat,
    run: dict[str, Any],
    data: dict[str, Any],
    start: Path,
    sources: list[Path],
) -> None:
    """Save the whole model of the best checkpoint, its tokenizer, the format of its chat, and a report.

    `run` and `data` describe the run and its data, `start` is the folder of the model that it started from, and
    `sources` are those whose files HASHES have what it may repeat.
    """
    import torch
    from transformers import set_seed
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    best, evaluation = find_best(checkpoints)
    log(f"saving the model of epoch {evaluation['epoch']:.2f}, which has the lowest test loss")
    with atomic_output(output_dir) as folder:
        copy_model(best, folder)
        if args.lora_rank:
            unset_hf_deepspeed_config()  # or transformers would share out what it loads among processes
            set_seed(args.seed)  # for the same rows and, if there are no weights, the same random ones
            merged = merge_adapters(load_model(args.model, tokenizer, chat_format.block_size), best)
            merged.to({"fp16": torch.float16, "bf16": torch.bfloat16}.get(run["precision"])).save_pretrained(folder)
        chat_format.save(folder)
        newest = complete_checkpoints(checkpoints)[-1]
        write_model_report(folder, read_state(newest)["log_history"], evaluation, run, data)
        if sources:
            unite_hashes(sources, folder / HASHES)


def find_sources(dataset_dir: Path, start: Path) -> list[Path]:
    """Return the folders whose files HASHES have what a model may repeat: a dataset, and the chatter it starts from.

    If one of them has none, the other would not be enough: say so, and return nothing.
    """
    is_chatter = (start / HASHES).exists() or (start / METRICS).exists()
    sources = [dataset_dir, start] if is_chatter else [dataset_dir]
    for source in sources:
        if not (source / HASHES).exists():
            log(f"{source} has no {HASHES}: generate.py --no-copies will not work with the new model")
            return []
    return sources
