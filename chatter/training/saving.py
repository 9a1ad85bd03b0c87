"""The finished model: the best checkpoint with merged adapters, what other programs read of it, and a report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from chatter.cli import InputError, log
from chatter.files import atomic_output
from chatter.training.base import has_weights
from chatter.training.checkpoints import (
    complete_checkpoints,
    copy_model,
    find_best,
    find_lowest,
    read_run_id,
    read_state,
    set_aside_unusable,
)
from chatter.training.metadata import write_metadata
from chatter.training.model import load_model, merge_adapters
from chatter.training.outputs import METRICS
from chatter.training.report import write_model_report
from chatter.training.resume import BASE
from chatter.training.run import TrainingRun
from chatter.wording.training_messages import HASHES, TrainingMessages, unite_hashes


def save_model(run: TrainingRun) -> None:
    """Save the whole model of the best checkpoint, its tokenizer, the format of its chat, and a report.

    Raises InputError if no evaluated checkpoint is left, or if the base model of adapters is gone.
    """
    set_aside_unusable(run.checkpoints)
    best = find_best(run.checkpoints)
    if not best:
        raise InputError(
            f"{run.checkpoints} has no complete checkpoint with a test loss any more, so that there is no model to "
            "save. Start again with --overwrite, without --resume."
        )
    checkpoint, evaluation = best
    history = read_state(complete_checkpoints(run.checkpoints)[-1])["log_history"]
    log(describe_choice(evaluation, find_lowest(history)))
    before = next((entry["eval_loss"] for entry in history if "eval_loss" in entry and entry["step"] == 0), math.inf)
    if evaluation["eval_loss"] > before:
        log(f"its test loss is higher than the {before:.4f} before training: train with a lower --learning-rate")
    with atomic_output(run.output_dir) as folder:
        model = model_to_save(run, checkpoint)
        copy_model(checkpoint, folder, weights=model is None)
        if model is not None:
            model.save_pretrained(folder)
        write_metadata(folder, run.tokenizer, run.chat_format)
        run_id = read_run_id(run.checkpoints)
        write_model_report(
            folder,
            history,
            evaluation,
            run.description,
            run.data_summary,
            run_id,
            name=run.args.output_dir.resolve().name,
            text=run.test_text,
        )
        if run.message_folders:
            unite_hashes(run.message_folders, folder / HASHES)


def describe_choice(saved: dict[str, Any], lowest: dict[str, Any]) -> str:
    """Return which model is saved and why, for its evaluation and the one with the lowest test loss."""
    if saved["eval_loss"] <= lowest["eval_loss"]:
        return f"saving the model of epoch {saved['epoch']:.2f}, which has the lowest test loss"
    return (
        f"checkpoint-{lowest['step']}, of epoch {lowest['epoch']:.2f} with the lowest test loss, is gone: saving the "
        f"model of epoch {saved['epoch']:.2f}, the best of the remaining checkpoints"
    )


def model_to_save(run: TrainingRun, checkpoint: Path) -> PreTrainedModel | None:
    """Return the model to save, or None if the checkpoint's own files are already that model.

    The plain Trainer's checkpoints are in float32 even if it trains in half precision. With LoRA, checkpoints have the
    adapters alone.
    """
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(run.precision, torch.float32)
    if run.args.lora_rank:
        if not has_weights(run.base, run.description[BASE]):
            raise InputError(
                f"the weights in {run.base} are not those that the adapters were trained on any more. Put the earlier "
                "ones back, and pass --resume to save the model."
            )
        unset_hf_deepspeed_config()  # or transformers would shard the model that it loads
        set_seed(run.args.seed)  # for the same new embeddings, or random weights, as in training
        base = load_model(str(run.base), run.tokenizer, run.chat_format.block_size)
        return merge_adapters(base, checkpoint).to(dtype)
    if run.args.no_deepspeed and dtype != torch.float32:
        return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype)
    return None


def folders_with_training_messages(dataset_dir: Path, base: Path) -> list[Path]:
    """Return the folders with hashes of training messages: the dataset, and the model if train.py wrote it.

    If one of them has no hashes, the others are incomplete: log a warning and return an empty list. Raises InputError
    if hashes are damaged.
    """
    is_chatter = (base / HASHES).exists() or (base / METRICS).exists()
    folders = [dataset_dir, base] if is_chatter else [dataset_dir]
    for folder in folders:
        if not (folder / HASHES).exists():
            log(f"{folder} has no {HASHES}: generate.py --no-copies will not work with the new model")
            return []
    TrainingMessages.open(*folders)  # raises InputError before the training, not after it
    return folders
