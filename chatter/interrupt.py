"""Ctrl-C while a script loads its modules. Import this first: Ctrl-C then prints one line, not a traceback."""

from __future__ import annotations

import os
import signal
import sys


def leave(*_: object) -> None:
    """End the process at once. Nothing has been written yet, or everything has."""
    os.write(2, f"{os.path.basename(sys.argv[0])}: interrupted\n".encode(errors="replace"))
    os._exit(130)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if Ctrl-C is ignored
    signal.signal(signal.SIGINT, leave)
