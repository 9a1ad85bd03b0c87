"""A model's folder, and the model in it, which is loaded again when the folder changes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from chatter.cli import describe_error, log
from chatter.interrupt import Terminated
from chatter.tokens.chat import FORMAT_FILE
from chatter.wording.training_messages import HASHES

T = TypeVar("T")
# The files that are loaded.
FILES = re.compile(rf"model.*\.safetensors.*|config\.json|tokenizer\.json|{re.escape(FORMAT_FILE)}|{re.escape(HASHES)}")


class ModelFolder(Generic[T]):
    """Loads the model in a folder with the function `load`, and again when its files have changed."""

    def __init__(self, folder: Path, load: Callable[[], T]) -> None:
        self.folder, self.load_model = folder, load
        self.state = None

    def load(self) -> T:
        """Load the model."""
        self.state = self.read_state()
        return self.load_model()

    def load_if_changed(self) -> T | None:
        """Load the model if its files have changed; return None if they have not, or if it cannot be loaded.

        A folder is loaded once in each state. While it is replaced or incomplete, nothing is loaded.
        """
        state = self.read_state()
        if state in (None, self.state):
            return None
        self.state = state
        log(f"{self.folder} has changed: loading the new model")
        try:
            model = self.load_model()
        except (KeyboardInterrupt, SystemExit, Terminated):
            raise
        except BaseException as error:  # Rust panics derive from BaseException
            log(f"keeping the old model, as the new one cannot be loaded: {describe_error(error)}")
            return None
        return model if self.read_state() == state else None  # or else it may be half old, and is loaded again

    def read_state(self) -> list[tuple] | None:
        """Return what the system says about the files of the model, or None if there is no model."""
        try:
            with os.scandir(self.folder) as entries:
                files = {entry.name: entry.stat() for entry in entries if FILES.fullmatch(entry.name)}
        except OSError:  # the folder is being replaced
            return None
        if not any(name.endswith(".safetensors") for name in files):
            return None
        # What changes if a file is replaced or written.
        return sorted(
            (name, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for name, each in files.items()
        )
