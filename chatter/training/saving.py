"""The finished model: the best checkpoint with merged adapters, the format of its chat, a card, a learning curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData
from matplotlib.figure import Figure
from transformers import AutoModelForCausalLM, PreTrainedModel, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from chatter.cli import InputError, log
from chatter.files import atomic_output
from chatter.tokens.dataset import TAGS, markdown_table, write_card
from chatter.training.base import has_weights
from chatter.training.checkpoints import (
    RUN_ID,
    complete_checkpoints,
    copy_model,
    find_best,
    find_lowest,
    read_run_id,
    read_state,
    set_aside_damaged,
)
from chatter.training.loss import perplexity
from chatter.training.metadata import write_metadata
from chatter.training.model import load_model, merge_adapters
from chatter.training.outputs import METRICS
from chatter.training.resume import BASE
from chatter.training.run import TrainingRun
from chatter.wording.training_messages import HASHES, unite_hashes


def save_model(run: TrainingRun) -> None:
    """Save the whole model of the best checkpoint, its tokenizer, the format of its chat, and a report.

    Raises InputError if no evaluated checkpoint is left, or if the base model of adapters is gone.
    """
    set_aside_damaged(run.checkpoints)
    best = find_best(run.checkpoints)
    if not best:
        raise InputError(
            f"{run.checkpoints} has no complete checkpoint with a test loss any more, so that there is no model to "
            "save. Start again with --overwrite."
        )
    checkpoint, evaluation = best
    history = read_state(complete_checkpoints(run.checkpoints)[-1])["log_history"]
    log(describe_choice(evaluation, find_lowest(history)))
    with atomic_output(run.output_dir) as folder:
        model = model_to_save(run, checkpoint)
        copy_model(checkpoint, folder, weights=model is None)
        if model is not None:
            model.save_pretrained(folder)
        write_metadata(folder, run.tokenizer, run.chat_format)
        run_id = read_run_id(run.checkpoints)
        write_model_report(folder, history, evaluation, run.description, run.data_summary, run_id)
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
    """Return the model of a checkpoint in the precision of training, or None if the files of the checkpoint are that.

    The plain Trainer saves float32 weights in half precision too, and adapters without the weights that they belong to.
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


def folders_with_training_messages(dataset_dir: Path, start: Path) -> list[Path]:
    """Return the folders with hashes of training messages: the dataset, and the model if train.py wrote it.

    If one of them has no hashes, the others are incomplete: log a warning and return an empty list.
    """
    is_chatter = (start / HASHES).exists() or (start / METRICS).exists()
    folders = [dataset_dir, start] if is_chatter else [dataset_dir]
    for folder in folders:
        if not (folder / HASHES).exists():
            log(f"{folder} has no {HASHES}: generate.py --no-copies will not work with the new model")
            return []
    return folders


def write_model_report(
    folder: Path,
    history: list[dict],
    best: dict[str, Any],
    run: dict[str, Any],
    data: dict[str, Any],
    run_id: str | None,
) -> None:
    """Write the metrics of a run as JSON, its learning curve, and a model card, README.md, that shows both and samples.

    `history` is the Trainer's log, `best` its evaluation of the saved model, `data` the summary of the dataset. By
    `run_id`, --resume recognizes the model of its run.
    """
    metrics = {RUN_ID: run_id, "run": run, "best": best, "history": history, "data": data}
    (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    draw_learning_curve(history, best, folder / "learning_curve.png")

    tests = [entry for entry in history if "eval_loss" in entry]
    lowest = find_lowest(history)
    before, after, least = (perplexity(entry["eval_loss"]) for entry in (tests[0], best, lowest))
    rank = f"the lowest of {len(tests) - 1}"
    if best["eval_loss"] > lowest["eval_loss"]:
        gone = f"{least:.2f} after epoch {lowest['epoch']:.2f}, whose checkpoint is gone"
        rank = f"the lowest of the checkpoints\nthat were left; it was {gone}"
    model = run["--model"]
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        base_model=None if Path(model).exists() else model,  # a name on the hub
    )
    samples = "\n".join(f"    {text}" for text in best.get("samples", []))
    text = f"""\
# A chatter

{Path(model).name}, fine-tuned on Twitch chat by train.py. Its perplexity on the test split was {before:.2f} before
training and is {after:.2f} after epoch {best["epoch"]:.2f}, {rank}. The model was
chosen by its loss on the test split, so it may do worse on other chat.

It repeats what people said, and may say it about real people. Do not use it for moderation, and do not let it pass as
one of them.

![learning curve](learning_curve.png)

## Messages that it opens a chat with

{samples}

## Training

{markdown_table(run | {"--model": Path(model).name})}

## Data

{markdown_table(data)}
"""
    write_card(folder, metadata, text)


def draw_learning_curve(history: list[dict], best: dict[str, Any], path: Path) -> None:
    """Draw training and test loss over the epochs, and a ring around the test loss of the saved model."""
    steps = [entry for entry in history if "loss" in entry]
    tests = [entry for entry in history if "eval_loss" in entry]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e["epoch"] for e in steps], [e["loss"] for e in steps], ".-", color="#9a9a9a", label="train")
    axes.plot([e["epoch"] for e in tests], [e["eval_loss"] for e in tests], "o-", color="#0072b2", label="test")
    axes.plot(best["epoch"], best["eval_loss"], "o", markersize=12, fillstyle="none", color="black", label="saved")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss (nats per token)")
    axes.legend()
    figure.savefig(path, dpi=120)
