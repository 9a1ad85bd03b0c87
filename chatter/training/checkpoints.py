"""Complete checkpoints, and which run they belong to."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from chatter.cli import InputError, log, option_of
from chatter.files import MANIFEST, atomic_output, delete
from chatter.training.placement import Placement
from chatter.training.zero import without_placement

MARKER = "run.json"  # written last into a checkpoint: the description of its run
NAME = re.compile("checkpoint-[0-9]+")
FREE, SCHEDULE, RESOLVED = "may change", "may change, and with it the schedule", "compared by its result"
ROUNDING = "may change, and with it dropout and rounding"
# How --resume treats the options of train.py. The other options must be the same.
RESUMED = {
    "output_dir": FREE,
    "overwrite": FREE,
    "resume": FREE,
    "keep_checkpoints": FREE,
    "report_to": FREE,
    "local_rank": FREE,
    "patience": FREE,
    "eval_every": FREE,
    "device": ROUNDING,
    "gradient_checkpointing": ROUNDING,
    "micro_batch_size": ROUNDING,
    "offload": ROUNDING,
    "compile": ROUNDING,
    "epochs": SCHEDULE,
    "max_steps": SCHEDULE,
    "learning_rate": SCHEDULE,
    "dataset_dir": RESOLVED,  # see describe_run
    "precision": RESOLVED,
    "deepspeed": RESOLVED,
    "no_deepspeed": RESOLVED,
}
# The files of a checkpoint that make up the model.
MODEL_FILES = [
    "model*.safetensors",
    "model*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
]


def prepare_checkpoints(checkpoints: Path, keep_complete: bool) -> None:
    """Create the folder for checkpoints, and delete earlier ones from it; with `keep_complete` only incomplete ones.

    Raises InputError if the folder exists and train.py did not create it. Other files in it stay.
    """
    marker = checkpoints / MANIFEST
    if checkpoints.exists() and any(checkpoints.iterdir()) and not marker.exists():
        raise InputError(f"{checkpoints} contains other files. Move them away, or choose another --output-dir.")
    delete_checkpoints(checkpoints, keep=complete_checkpoints(checkpoints) if keep_complete else ())
    checkpoints.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"files": []}), encoding="utf-8")


def delete_checkpoints(checkpoints: Path, keep: Collection[Path] = ()) -> None:
    """Delete the files of train.py in the folder except the checkpoints `keep`, and then the folder if it is empty."""
    if not checkpoints.is_dir():
        return
    for path in [*checkpoints.iterdir()]:
        if (NAME.fullmatch(path.name) and path not in keep) or (path.name in ("runs", MANIFEST) and not keep):
            delete(path)
    with contextlib.suppress(OSError):  # it is not empty
        checkpoints.rmdir()


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the complete checkpoints, the oldest first."""
    complete = [marker.parent for marker in checkpoints.glob(f"checkpoint-*/{MARKER}")]
    return sorted(complete, key=lambda checkpoint: int(checkpoint.name.rsplit("-")[-1]))


def mark_complete(checkpoint: Path, run: dict[str, Any], num_kept: int | None) -> None:
    """Mark a checkpoint that all processes have written, and delete all but the newest `num_kept` (None: keep all).

    The best one is always kept.
    """
    with atomic_output(checkpoint / MARKER) as partial:
        partial.write_text(json.dumps(run, indent=1), encoding="utf-8")
    best = find_best(checkpoint.parent)
    for old in complete_checkpoints(checkpoint.parent)[: -num_kept if num_kept else 0]:
        if not best or old != best[0]:
            delete(old)


def delete_incomplete(checkpoints: Path) -> None:
    """Delete the incomplete checkpoints that an error or a kill left behind."""
    delete_checkpoints(checkpoints, keep=complete_checkpoints(checkpoints))


def describe_run(
    args: argparse.Namespace, placement: Placement, settings: TrainingArguments, precision: str
) -> dict[str, Any]:
    """Return the description of a run, ready for JSON. `find_checkpoint` compares it with the checkpoint's."""
    blocks = b"".join((args.dataset_dir / split / "state.json").read_bytes() for split in ("train", "test"))
    options = {name: value for name, value in vars(args).items() if RESUMED.get(name) not in (FREE, RESOLVED)}
    chosen = {"micro_batch_size": placement.micro_batch_size, "offload": placement.mode.offloads}
    return {option_of(name): value for name, value in (options | chosen).items()} | {
        "precision": precision,
        "fingerprint of the blocks": hashlib.sha256(blocks).hexdigest()[:16],
        "number of processes": settings.world_size,
        "DeepSpeed config": settings.deepspeed and without_placement(settings.deepspeed),
    }


def find_checkpoint(checkpoints: Path, run: dict[str, Any]) -> Path | None:
    """Return the newest complete checkpoint, or None. Raises InputError if it belongs to another run."""
    complete = complete_checkpoints(checkpoints)
    if not complete:
        log(f"no complete checkpoint in {checkpoints}: starting from the beginning")
        return None
    newest = complete[-1]
    theirs = read_json(newest / MARKER)
    if theirs.get("DeepSpeed config"):
        theirs["DeepSpeed config"] = without_placement(theirs["DeepSpeed config"])
    consequences = {SCHEDULE: "the schedule changes", ROUNDING: "dropout and rounding can differ"}
    may_change = {option_of(name): consequences[how] for name, how in RESUMED.items() if how in consequences}
    for name, value in run.items():
        if theirs.get(name) != value and name not in may_change:
            raise InputError(
                f"{newest} was made with {name} {theirs.get(name)}, but this run has {value}. Use the same, or start "
                "again with --overwrite instead of --resume."
            )
    log(f"resuming from {newest}")
    for name, consequence in sorted(may_change.items()):
        if name in theirs and theirs[name] != run[name]:
            log(f"{name} was {theirs[name]} and is now {run[name]}: {consequence} from here on")
    return newest


def is_finished(checkpoint: Path, max_steps: int) -> bool:
    """Return whether a checkpoint is from the last step. Raises InputError if it is from a later one."""
    step = read_state(checkpoint)["global_step"]
    if step > max_steps:
        raise InputError(
            f"{checkpoint} has {step} steps already, but the options ask for {max_steps}. Pass more --epochs or "
            "--max-steps, or start again with --overwrite instead of --resume."
        )
    return step == max_steps


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the Trainer's state in a checkpoint: `global_step`, `log_history`, ..."""
    return read_json(checkpoint / "trainer_state.json")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint. Raises InputError if it is damaged."""
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
