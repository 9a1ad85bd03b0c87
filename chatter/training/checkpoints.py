"""Complete checkpoints: mark, check, find and delete them.

A checkpoint lists its files and their sizes, so that one that was cut short, by a full disk or while it was copied, is
noticed before it is loaded. It also names its run, as copying folders can mix the checkpoints of two runs. What is
damaged, or from another run than the folder, is renamed and not used any more.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

from chatter.cli import InputError, log
from chatter.files import MANIFEST, atomic_output, delete

MARKER = "run.json"  # written last into a checkpoint: the description of its run, and its files
STATE = "trainer_state.json"
FILES = "files"  # in the marker: the path of each file -> its size in bytes
RUN_ID = "run id"  # in the manifest of the folder, in the marker, and in the metrics of the model that the run saves
NAME = re.compile("checkpoint-([0-9]+)")
UNUSED = ".unused"  # at the end of the name of a checkpoint that was set aside
# The files of a checkpoint with the weights of the model.
WEIGHTS = ["model*.safetensors", "model*.safetensors.index.json"]


def checkpoints_beside(output_dir: Path) -> Path:
    """Return the folder for the checkpoints of the run that writes a model to `output_dir`."""
    return Path(f"{output_dir}-checkpoints").resolve()


def check_origin(checkpoints: Path) -> None:
    """Raise InputError if the folder for checkpoints exists and train.py did not create it."""
    if checkpoints.is_dir() and any(checkpoints.iterdir()) and not (checkpoints / MANIFEST).exists():
        raise InputError(f"{checkpoints} contains other files. Move them away, or choose another --output-dir.")
    if checkpoints.exists() and not checkpoints.is_dir():
        raise InputError(f"{checkpoints} is a file, not a folder. Move it away, or choose another --output-dir.")


def prepare_checkpoints(checkpoints: Path, keep_complete: bool) -> None:
    """Create the folder for checkpoints, and delete earlier ones from it; with `keep_complete` only incomplete ones.

    Other files in it stay.
    """
    goes_on = keep_complete and complete_checkpoints(checkpoints)
    run_id = (goes_on and read_run_id(checkpoints)) or uuid.uuid4().hex
    delete_checkpoints(checkpoints, keep=completed(checkpoints) if keep_complete else ())
    checkpoints.mkdir(parents=True, exist_ok=True)
    with atomic_output(checkpoints / MANIFEST) as partial:
        partial.write_text(json.dumps({"files": [], RUN_ID: run_id}), encoding="utf-8")


def delete_checkpoints(checkpoints: Path, keep: Collection[Path] = ()) -> None:
    """Delete the files of train.py in the folder except the checkpoints `keep`, and then the folder if it is empty."""
    if not checkpoints.is_dir():
        return
    for path in find_deletable(checkpoints, keep):
        delete(path)
    with contextlib.suppress(OSError):  # it is not empty
        checkpoints.rmdir()


def find_deletable(checkpoints: Path, keep: Collection[Path] = ()) -> list[Path]:
    """Return what `delete_checkpoints` deletes."""
    found = []
    for path in checkpoints.glob("*"):
        is_checkpoint = NAME.fullmatch(path.name.removesuffix(UNUSED))
        if (is_checkpoint and path not in keep) or (path.name in ("runs", MANIFEST) and not keep):
            found.append(path)
    return found


def delete_incomplete(checkpoints: Path) -> None:
    """Delete the incomplete checkpoints that an error or a kill left behind."""
    delete_checkpoints(checkpoints, keep=completed(checkpoints))


def mark_complete(checkpoint: Path, run: dict[str, Any], num_kept: int | None) -> None:
    """Mark a checkpoint that all processes have written, and delete all but the newest `num_kept` (None: keep all).

    The best one is always kept.
    """
    with atomic_output(checkpoint / MARKER) as partial:
        files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path != checkpoint / MARKER]
        sizes = {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
        about = run | {RUN_ID: read_run_id(checkpoint.parent), FILES: sizes}
        partial.write_text(json.dumps(about, indent=1), encoding="utf-8")
    best = find_best(checkpoint.parent)
    for old in complete_checkpoints(checkpoint.parent)[: -num_kept if num_kept else 0]:
        if not best or old != best[0]:
            (old / MARKER).unlink()  # first, so that a kill leaves an incomplete checkpoint, not a damaged one
            delete(old)


def marked_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the checkpoints that were complete once and may be damaged by now, the oldest first."""
    steps = {path.parent: NAME.fullmatch(path.parent.name) for path in checkpoints.glob(f"*/{MARKER}")}
    return sorted((path for path in steps if steps[path]), key=lambda path: int(steps[path][1]))


def completed(checkpoints: Path) -> list[Path]:
    """Return the checkpoints that were complete once, with those that were set aside."""
    return [*marked_checkpoints(checkpoints), *checkpoints.glob(f"checkpoint-*{UNUSED}")]


def complete_checkpoints(checkpoints: Path) -> list[Path]:
    """Return the complete checkpoints of the folder's run, the oldest first, without damaged ones."""
    return [path for path in marked_checkpoints(checkpoints) if not find_fault(path)]


def find_fault(checkpoint: Path) -> str | None:
    """Return why a checkpoint cannot be used, or None. Those of earlier versions list no sizes and name no run."""
    reading = MARKER
    try:
        about = read_json(checkpoint / MARKER)
        if about.get(RUN_ID) not in (None, read_run_id(checkpoint.parent)):
            return "it is from another run"
        sizes = dict(about.get(FILES, {}))
        reading = STATE
        state = read_state(checkpoint)
        int(state["global_step"]), list(state["log_history"])
        for reading, size in sizes.items():
            found = (checkpoint / reading).stat().st_size
            if found != size:
                return f"it is damaged: {reading} has {found} of {size} bytes"
    except (FileNotFoundError, NotADirectoryError):
        return f"it is damaged: {reading} is missing"
    except (ValueError, TypeError, KeyError):
        return f"it is damaged: {reading} cannot be read"
    return None


def set_aside_unusable(checkpoints: Path) -> None:
    """Rename the checkpoints that cannot be used, and log why."""
    for checkpoint in marked_checkpoints(checkpoints):
        if fault := find_fault(checkpoint):
            aside = checkpoint.with_name(f"{checkpoint.name}{UNUSED}")
            delete(aside)
            checkpoint.rename(aside)
            log(f"{checkpoint} is not used, as {fault}. It is now called {aside.name}.")


def read_run_id(checkpoints: Path) -> str | None:
    """Return the id of the run that wrote a folder of checkpoints, or None if an earlier version wrote it."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return read_json(checkpoints / MANIFEST).get(RUN_ID)
    return None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the Trainer's state in a checkpoint: `global_step`, `log_history`, ..."""
    return read_json(checkpoint / STATE)


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file. Raises OSError, ValueError or TypeError if there is none."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the evaluations in the Trainer's log, without the one before training."""
    return [entry for entry in history if "eval_loss" in entry and entry["step"] > 0]


def find_lowest(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the evaluation with the lowest test loss, whether its checkpoint is left or not; None without any."""
    return min(evaluations(history), key=lambda entry: entry["eval_loss"], default=None)


def find_best(checkpoints: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the complete checkpoint with the lowest test loss, and its evaluation; None if none was evaluated."""
    complete = {int(path.name.rsplit("-")[-1]): path for path in complete_checkpoints(checkpoints)}
    if not complete:
        return None
    history = read_state(complete[max(complete)])["log_history"]
    best = find_lowest([entry for entry in history if entry["step"] in complete])
    return best and (complete[best["step"]], best)


def copy_model(checkpoint: Path, folder: Path, weights: bool) -> None:
    """Copy the config from a checkpoint, and with `weights` the weights."""
    folder.mkdir()
    for pattern in ["config.json", *WEIGHTS * weights]:
        for path in checkpoint.glob(pattern):
            shutil.copy(path, folder)
