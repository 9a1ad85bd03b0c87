"""Which checkpoint a resumed run continues from, and what it must have in common with the run that saved it."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments

from chatter.cli import InputError, is_first_process, log, option_of
from chatter.training.checkpoints import (
    MARKER,
    complete_checkpoints,
    evaluations,
    read_json,
    read_state,
    set_aside_unusable,
)
from chatter.training.library_errors import find_known
from chatter.training.placement import Placement
from chatter.training.zero import without_placement

BASE = "digest of the base model"  # in the description of a run with adapters
CONFIG = "DeepSpeed config"  # None without DeepSpeed
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


def describe_run(
    args: argparse.Namespace,
    placement: Placement,
    settings: TrainingArguments,
    precision: str,
    base_digest: str | None = None,
) -> dict[str, Any]:
    """Return the description of a run, ready for JSON. `find_checkpoint` compares it with the checkpoint's.

    `base_digest` is from `digest_weights`, for runs with adapters.
    """
    blocks = b"".join((args.dataset_dir / split / "state.json").read_bytes() for split in ("train", "test"))
    options = {name: value for name, value in vars(args).items() if RESUMED.get(name) not in (FREE, RESOLVED)}
    chosen = {"micro_batch_size": placement.micro_batch_size, "offload": placement.mode.offloads}
    base = {BASE: base_digest} if base_digest else {}
    return (
        {option_of(name): value for name, value in (options | chosen).items()}
        | base
        | {
            "precision": precision,
            "fingerprint of the blocks": hashlib.sha256(blocks).hexdigest()[:16],
            "number of processes": settings.world_size,
            CONFIG: settings.deepspeed and without_placement(settings.deepspeed),
        }
    )


def find_checkpoint(checkpoints: Path, run: dict[str, Any]) -> Path | None:
    """Return the newest complete checkpoint, or None. Raises InputError if it belongs to another run.

    Damaged checkpoints are set aside by the first process. The others do not wait for it: they come to the same
    checkpoint, because a damaged one is not complete before it is renamed either.
    """
    if is_first_process():
        set_aside_unusable(checkpoints)
    complete = complete_checkpoints(checkpoints)
    if not complete:
        log(f"no complete checkpoint in {checkpoints}: starting from the beginning")
        return None
    newest = complete[-1]
    theirs = read_json(newest / MARKER)
    if theirs.get(CONFIG):
        theirs[CONFIG] = without_placement(theirs[CONFIG])
    consequences = {
        SCHEDULE: "the schedule changes from here on",
        ROUNDING: "dropout and rounding can differ from here on",
    }
    may_change = {option_of(name): consequences[how] for name, how in RESUMED.items() if how in consequences}
    if BASE in run and theirs.get(BASE) == run[BASE]:
        may_change["--model"] = "its weights are the same"
    for name, value in run.items():
        if theirs.get(name) != value and name not in may_change and name != BASE:
            if name == CONFIG:
                raise InputError(f"{newest} was made {describe_config(theirs.get(name), value)}")
            raise InputError(
                f"{newest} was made with {name} {theirs.get(name)}, but this run has {value}. Use the same, or start "
                "again with --overwrite instead of --resume."
            )
    check_base(newest, theirs, run)
    log(f"resuming from {newest}")
    for name, consequence in sorted(may_change.items()):
        if name in theirs and theirs[name] != run[name]:
            log(f"{name} was {theirs[name]} and is now {run[name]}: {consequence}")
    return newest


def describe_config(theirs: Any, ours: Any) -> str:
    """Return how a checkpoint was made if its DeepSpeed config differs, and what to do."""
    if not theirs:
        return "with --no-deepspeed. Pass it, too, or start again with --overwrite instead of --resume."
    if not ours:
        return "with DeepSpeed. Leave out --no-deepspeed, or start again with --overwrite instead of --resume."
    names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    return (
        f"with another DeepSpeed config (see {', '.join(names)}). Pass the earlier one with --deepspeed, or start "
        "again with --overwrite instead of --resume."
    )


def check_base(checkpoint: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise InputError if the adapters of a checkpoint were trained on other weights than those of --model."""
    if BASE not in ours or theirs.get(BASE) == ours[BASE]:
        return
    if BASE in theirs:
        raise InputError(
            f"the weights of --model {ours['--model']} have changed since {checkpoint} was saved, and its adapters do "
            "not fit them. Pass a folder with the earlier weights as --model, or start again with --overwrite instead "
            "of --resume."
        )
    log(
        f"{checkpoint} is from an earlier version, which did not record the weights that its adapters belong to: make "
        f"sure that {ours['--model']} has not changed"
    )


def recorded_learning_rate(checkpoints: Path) -> float | None:
    """Return the --learning-rate of the newest complete checkpoint, or None."""
    complete = complete_checkpoints(checkpoints)
    return read_json(complete[-1] / MARKER).get("--learning-rate") if complete else None


def is_finished(checkpoint: Path, max_steps: int, longer: str) -> bool:
    """Return whether a checkpoint is from the last step. Raises InputError if it is from a later one.

    `longer` says which option makes the run longer.
    """
    step = read_state(checkpoint)["global_step"]
    if step > max_steps:
        raise InputError(
            f"{checkpoint} has {step} steps already, but the options ask for {max_steps}. Pass {longer}, or start "
            "again with --overwrite instead of --resume."
        )
    return step == max_steps


def lacks_evaluation(checkpoint: Path, steps_per_epoch: int) -> bool:
    """Return whether a checkpoint ends an epoch without an evaluation, as a signal in its last step leaves it."""
    state = read_state(checkpoint)
    step = state["global_step"]
    return step % steps_per_epoch == 0 and not any(each["step"] == step for each in evaluations(state["log_history"]))


class Loading(TrainerCallback):
    """Turns an error of a trainer that loads a checkpoint into InputError: files can be damaged at their full size.

    The loading ends when the first step begins, and with `checkpoint` None there is none.
    """

    def __init__(self, trainer: Trainer, checkpoint: Path | None) -> None:
        trainer.add_callback(self)
        self.checkpoint = checkpoint

    def on_step_begin(self, args, state, control, **kwargs):
        self.checkpoint = None

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not self.checkpoint or not isinstance(error, Exception) or isinstance(error, InputError):
            return
        is_about_files = not isinstance(error, OSError) or isinstance(error, FileNotFoundError)  # not about a full disk
        if is_about_files and not find_known(error):
            raise InputError(
                f"{self.checkpoint} cannot be loaded ({type(error).__name__}): its files are damaged, or from another "
                "version of a library. Move it away to continue from the checkpoint before it, or start again with "
                "--overwrite instead of --resume."
            ) from error
