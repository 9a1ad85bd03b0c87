"""Checkpoints that were written to the end, and which run they belong to."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.cli import InputError, log
from chatter.files import MANIFEST, atomic_output, delete

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from transformers import TrainingArguments

MARKER = "run.json"  # written last into a checkpoint: the description of its run
NAME = re.compile("checkpoint-[0-9]+")
# Options that a resumed run may change: those that do not change the weights, and those of the schedule.
IRRELEVANT = {
    "output_dir",
    "overwrite",
    "resume",
    "keep_checkpoints",
    "report_to",
    "local_rank",
    "patience",
    "eval_every",
}
IRRELEVANT |= {"device", "gradient_checkpointing"}  # they change how weights are computed, up to rounding
SCHEDULE = {"--epochs", "--max-steps", "--learning-rate"}
# What runs had before there were options for it.
BEFORE = {"--lora-rank": 0}
# Options that are compared by what they come to; see describe_run.
RESOLVED = {"dataset_dir", "precision", "deepspeed", "no_deepspeed", "offload"}
# The files of a checkpoint that make up the model.
MODEL_FILES = [
    "model*.safetensors",
    "model*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
]


def prepare_checkpoints(checkpoints: Path, keep_complete: bool) -> None:
    """Make the folder for checkpoints, without those of earlier runs or, with `keep_complete`, the incomplete ones.

    Raises InputError if train.py did not make the folder. Files of others in it stay.
    """
    marker = checkpoints / MANIFEST
    is_ours = marker.exists() or complete_checkpoints(checkpoints)  # those of older versions have no marker
    if checkpoints.exists() and any(checkpoints.iterdir()) and not is_ours:
        raise InputError(f"{checkpoints} contains other files. Move them away, or choose another --output-dir.")
    delete_checkpoints(checkpoints, keep=complete_checkpoints(checkpoints) if keep_complete else ())
    checkpoints.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"files": []}), encoding="utf-8")


def delete_checkpoints(checkpoints: Path, keep: Collection[Path] = ()) -> None:
    """Delete what train.py wrote into the folder, but not the checkpoints `keep`. Delete the folder if it is empty."""
    if not checkpoints.is_dir():
        return
    for path in [*checkpoints.iterdir()]:
        if (NAME.fullmatch(path.name) and path not in keep) or (path.name in ("runs", MANIFEST) and not keep):
            delete(path)
    with contextlib.suppress(OSError):  # it is not empty
        checkpoints.rmdir()


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the checkpoints that were written to the end, the oldest first."""
    complete = [marker.parent for marker in checkpoints.glob(f"checkpoint-*/{MARKER}")]
    return sorted(complete, key=lambda checkpoint: int(checkpoint.name.rsplit("-")[-1]))


def mark_complete(checkpoint: Path, run: dict[str, Any], num_kept: int | None) -> None:
    """Mark a checkpoint that all processes have written, and delete the oldest ones but `num_kept` (None: keep all).

    The best one is kept, too.
    """
    with atomic_output(checkpoint / MARKER) as partial:
        partial.write_text(json.dumps(run, indent=1), encoding="utf-8")
    best = find_best(checkpoint.parent)
    for old in complete_checkpoints(checkpoint.parent)[: -num_kept if num_kept else 0]:
        if not best or old != best[0]:
            delete(old)


def delete_incomplete(checkpoints: Path) -> None:
    """Delete what an error or a kill left of a checkpoint."""
    delete_checkpoints(checkpoints, keep=complete_checkpoints(checkpoints))


def describe_run(args: argparse.Namespace, settings: TrainingArguments) -> dict[str, Any]:
    """Return what a resumed run must have in common with the one that wrote the checkpoint, ready for JSON."""
    blocks = b"".join((args.dataset_dir / split / "state.json").read_bytes() for split in ("train", "test"))
    options = {name: value for name, value in vars(args).items() if name not in IRRELEVANT | RESOLVED}
    return {f"--{name.replace('_', '-')}": value for name, value in options.items()} | {
        "precision": precision_of(settings),
        "fingerprint of the blocks": hashlib.sha256(blocks).hexdigest()[:16],
        "number of processes": settings.world_size,
        "DeepSpeed config": settings.deepspeed,
    }


def precision_of(settings: TrainingArguments) -> str:
    return "fp16" if settings.fp16 else "bf16" if settings.bf16 else "fp32"


def find_checkpoint(checkpoints: Path, run: dict[str, Any]) -> Path | None:
    """Return the newest complete checkpoint, or None. Raises InputError if it belongs to another run."""
    complete = complete_checkpoints(checkpoints)
    if not complete:
        log(f"no complete checkpoint in {checkpoints}: starting from the beginning")
        return None
    newest = complete[-1]
    theirs = BEFORE | read_json(newest / MARKER)
    for name, value in run.items():
        if theirs.get(name) != value and name not in SCHEDULE:
            raise InputError(
                f"{newest} was made with {name} {theirs.get(name)}, but this run has {value}. Pass the same, or start "
                "again with --overwrite instead of --resume."
            )
    log(f"resuming from {newest}")
    for name in sorted(SCHEDULE):
        if theirs.get(name) != run[name]:
            log(f"{name} was {theirs.get(name)} and is now {run[name]}: the schedule changes from here on")
    return newest


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the Trainer's state in a checkpoint: `global_step`, `log_history`, ..."""
    return read_json(checkpoint / "trainer_state.json")


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of a checkpoint says. Raises InputError if it is damaged."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}). Delete {path.parent} to continue from the checkpoint before it."
        ) from error


def evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the evaluations in the Trainer's log, without the one before training."""
    return [entry for entry in history if "eval_loss" in entry and entry["step"] > 0]


def find_best(checkpoints: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the complete checkpoint with the lowest test loss, and its evaluation; None if none was evaluated."""
    complete = {int(path.name.rsplit("-")[-1]): path for path in complete_checkpoints(checkpoints)}
    if not complete:
        return None
    history = read_state(complete[max(complete)])["log_history"]
    found = [entry for entry in evaluations(history) if entry["step"] in complete]
    best = min(found, key=lambda entry: entry["eval_loss"], default=None)
    return best and (complete[best["step"]], best)


def copy_model(checkpoint: Path, folder: Path) -> None:
    """Copy the model and its tokenizer from a checkpoint."""
    folder.mkdir()
    for pattern in MODEL_FILES:
        for path in checkpoint.glob(pattern):
            shutil.copy(path, folder)
