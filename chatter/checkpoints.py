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

from chatter.command import InputError, log
from chatter.files import MANIFEST, atomic_output, delete

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from transformers import TrainingArguments

MARKER = "run.json"  # written last into a checkpoint: the description of its run
NAME = re.compile("checkpoint-[0-9]+")
# Options that a resumed run may change: those that do not change the weights, and those of the schedule.
IRRELEVANT = {"output_dir", "overwrite", "resume", "keep_checkpoints", "report_to", "local_rank"}
SCHEDULE = {"--epochs", "--max-steps", "--learning-rate"}
# Options that are compared by what they come to; see describe_run.
RESOLVED = {"dataset_dir", "precision", "deepspeed", "no_deepspeed", "offload"}
# The files of a checkpoint that make up the model.
MODEL_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*"]


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
    """Mark a checkpoint that all processes have written, and delete the oldest ones but `num_kept` (None: keep all)."""
    with atomic_output(checkpoint / MARKER) as partial:
        partial.write_text(json.dumps(run, indent=1), encoding="utf-8")
    for old in complete_checkpoints(checkpoint.parent)[: -num_kept if num_kept else 0]:
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
    theirs = json.loads((newest / MARKER).read_text(encoding="utf-8"))
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
    return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))


def copy_model(checkpoint: Path, folder: Path) -> None:
    """Copy the model and its tokenizer from a checkpoint."""
    folder.mkdir()
    for pattern in MODEL_FILES:
        for path in checkpoint.glob(pattern):
            shutil.copy(path, folder)
