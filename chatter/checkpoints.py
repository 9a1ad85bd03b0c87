"""Checkpoints that were written to the end, and which run they belong to."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.command import InputError, log
from chatter.files import atomic_output, delete

if TYPE_CHECKING:  # imported where it is used: --help should not wait for it
    from transformers import TrainingArguments

MARKER = "run.json"  # written last into a checkpoint: the description of its run
# Options that do not change the weights, and options that are compared by what they come to; see describe_run.
MAY_CHANGE = {"output_dir", "overwrite", "resume", "keep_checkpoints", "report_to", "local_rank"}
RESOLVED = {"dataset_dir", "precision", "deepspeed", "no_deepspeed", "offload"}


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
    """Delete what an error or a kill left of a checkpoint, and the folder if nothing else is in it."""
    complete = {*complete_checkpoints(checkpoints)}
    for checkpoint in {*checkpoints.glob("checkpoint-*"), *checkpoints.glob(".*")} - complete:
        delete(checkpoint)
    with contextlib.suppress(OSError):  # not empty, or not there
        checkpoints.rmdir()


def describe_run(args: argparse.Namespace, settings: TrainingArguments) -> dict[str, Any]:
    """Return what a resumed run must have in common with the one that wrote the checkpoint, ready for JSON."""
    blocks = b"".join((args.dataset_dir / split / "state.json").read_bytes() for split in ("train", "test"))
    options = {name: value for name, value in vars(args).items() if name not in MAY_CHANGE | RESOLVED}
    return {f"--{name.replace('_', '-')}": value for name, value in options.items()} | {
        "precision": precision_of(settings),
        "fingerprint of the blocks": hashlib.sha256(blocks).hexdigest()[:16],
        "number of processes": settings.world_size,
        "zero_optimization": (settings.deepspeed or {}).get("zero_optimization"),
    }


def precision_of(settings: TrainingArguments) -> str:
    return "fp16" if settings.fp16 else "bf16" if settings.bf16 else "fp32"


def find_checkpoint(checkpoints: Path, run: dict[str, Any]) -> Path | None:
    """Return the newest complete checkpoint, or None. Raises InputError if it belongs to another run."""
    complete = complete_checkpoints(checkpoints)
    if not complete:
        log(f"no complete checkpoint in {checkpoints}: starting from the beginning")
        return None
    theirs = json.loads((complete[-1] / MARKER).read_text(encoding="utf-8"))
    for name, value in run.items():
        if theirs.get(name) != value:
            raise InputError(
                f"{complete[-1]} was made with {name} {theirs.get(name)}, but this run has {value}. Pass the same, or "
                "start again with --overwrite instead of --resume."
            )
    log(f"resuming from {complete[-1]}")
    return complete[-1]
