"""Signals that end a script. Import this first: Ctrl-C then prints one line, not a traceback, while modules load."""

from __future__ import annotations

import os
import signal
import sys
import threading


class Terminated(BaseException):
    """Raised on SIGTERM and SIGHUP, whose number is its argument.

    Like KeyboardInterrupt it is not an Exception, so `except Exception` does not catch it.
    """


def leave(*_: object) -> None:
    """End the process at once. Nothing has been written yet, or everything has."""
    os.write(2, f"{os.path.basename(sys.argv[0])}: interrupted\n".encode(errors="replace"))
    os._exit(130)


def send_again(lost: sys.UnraisableHookArgs) -> None:
    """Send a signal again if its exception was lost, and show all other lost exceptions as Python does.

    Python ignores exceptions in `__del__` and in the callbacks of weak references, such as those of the import system.
    The signal comes from another thread a little later, when that code has ended.
    """
    error = lost.exc_value
    if isinstance(error, KeyboardInterrupt | Terminated):
        number = error.args[0] if isinstance(error, Terminated) else signal.SIGINT
        if hasattr(signal, "pthread_kill"):
            send, arguments = signal.pthread_kill, (threading.main_thread().ident, number)
        else:  # on Windows
            send, arguments = signal.raise_signal, (number,)
        threading.Timer(0.01, send, arguments).start()
    else:
        sys.__unraisablehook__(lost)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if Ctrl-C is ignored
    signal.signal(signal.SIGINT, leave)
