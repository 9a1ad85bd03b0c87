"""What a run of train.py may replace: the model and the checkpoints of earlier runs, but not a base that it needs."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from chatter.cli import InputError, log
from chatter.training.checkpoints import (
    RUN_ID,
    check_origin,
    checkpoints_beside,
    complete_checkpoints,
    find_fault,
    marked_checkpoints,
    read_json,
    read_run_id,
)

METRICS = "metrics.json"  # beside a model: its run, the Trainer's log, and the summary of its data


def check_outputs(args: argparse.Namespace) -> None:
    """Raise InputError if a run would replace something that its options do not allow it to replace.

    --resume continues with the checkpoints, and replaces the model if the same run saved it. --overwrite replaces both,
    or with --resume only the model, whoever saved it.
    """
    output_dir, checkpoints = args.output_dir, checkpoints_beside(args.output_dir)
    check_base_stays(args.model, args.lora_rank, output_dir, checkpoints)
    check_origin(checkpoints)
    if args.overwrite:
        return
    if output_dir.exists():
        is_own = is_saved_by(output_dir, checkpoints)
        if not args.resume:
            further = f"--resume with {longer(args)} to train it further, " if is_own else ""
            raise InputError(
                f"{output_dir} already exists. Pass {further}another --output-dir, or --overwrite to replace it."
            )
        if not complete_checkpoints(checkpoints):
            faults = [f"not {path.name}: {find_fault(path)}" for path in marked_checkpoints(checkpoints)]
            reasons = f" ({'; '.join(faults)})" if faults else ""
            raise InputError(
                f"{output_dir} already exists, and {checkpoints} has no complete checkpoint to resume from{reasons}. "
                "Pass another --output-dir, or --overwrite instead of --resume to replace the model by a new run."
            )
        if not is_own:
            raise InputError(
                f"{output_dir} was not saved by the run of {checkpoints}. Move it away, or pass --overwrite as well as "
                "--resume to replace it."
            )
        log(f"{output_dir}, which this run saved before, will be replaced when the run ends")
    elif checkpoints.exists() and not args.resume:
        raise InputError(
            f"{checkpoints} already exists. Pass --resume to continue from it, or --overwrite to replace it."
        )


def longer(args: argparse.Namespace) -> str:
    """Return what to pass for a longer run: --max-steps counts whatever --epochs says."""
    return "a higher --max-steps" if args.max_steps else "more --epochs"


def is_saved_by(model: Path, checkpoints: Path) -> bool:
    """Return whether the run of the complete checkpoints in `checkpoints` saved `model`; False if one names no run."""
    if not complete_checkpoints(checkpoints):
        return False
    with contextlib.suppress(OSError, ValueError, TypeError):
        run_id = read_run_id(checkpoints)
        return bool(run_id) and read_json(model / METRICS).get(RUN_ID) == run_id
    return False


def check_base_stays(model: str, lora_rank: int, output_dir: Path, checkpoints: Path) -> None:
    """Raise InputError if a run would delete its base, a checkpoint, or replace the model that adapters belong to.

    Such a run could not be resumed. Adapters would be added a second time.
    """
    base = Path(model).resolve()
    if not model or not base.is_dir():
        return
    if base.is_relative_to(checkpoints):
        raise InputError(f"this run would delete {model}, its own base model. Choose another --output-dir.")
    if lora_rank and base.is_relative_to(output_dir.resolve()):
        raise InputError(
            f"{output_dir} and its checkpoints would replace the base model {model}, which a run with --lora-rank "
            "needs until it is finished, and when it is resumed. Choose another --output-dir."
        )
