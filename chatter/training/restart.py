"""A run that starts again, in place of its process, with options that take less memory."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from chatter.cli import log


class StartAgain(Exception):
    """Ends a run that can start again with other options, which take less memory."""

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(f"out of GPU memory in the first steps: starting again with {' '.join(options)}")
        self.options = options


@contextlib.contextmanager
def replaced_by_smaller_run() -> Iterator[None]:
    """Replace the process on StartAgain: after an error, the libraries and the traceback hold on to memory."""
    environment = dict(os.environ)  # join_process_group adds to it
    try:
        yield
    except StartAgain as error:
        log(str(error))
        os.execve(sys.executable, [sys.executable, *sys.argv, *error.options], environment)
