"""What every command shares: errors that the user can fix, log lines, options, exit codes and standard streams."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from chatter.interrupt import Terminated, leave, send_again

# Seconds. Launchers look for failed processes every second, but on a busy machine the first one may be seconds late.
OTHERS_WAIT = 8


class InputError(Exception):
    """An error that the user can fix. Its text says what is wrong and what to do."""


def is_launched() -> bool:
    """Return whether a launcher, such as torchrun or deepspeed, has started this process."""
    return "RANK" in os.environ


def is_first_process() -> bool:
    """Return whether this is the first of the processes that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def log(text: str) -> None:
    """Print a line on stderr, above a progress bar, from the first process."""
    from tqdm import tqdm

    if is_first_process():
        tqdm.write(text, file=sys.stderr)


def one_line(text: str) -> str:
    """Escape the line breaks in a text, as in names of files."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def describe_error(error: BaseException) -> str:
    """Return an error as one line: the text of an InputError, or else the type and the text."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return one_line(f"{kind}{error}".removesuffix(": "))


def option_of(name: str) -> str:
    """Return the option of a name in the namespace of argparse.

    >>> option_of("max_steps")
    '--max-steps'
    """
    return f"--{name.replace('_', '-')}"


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the layout of a docstring, and shows defaults except flags, None and empty strings."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action.default, bool) or action.default in (None, ""):
            return action.help
        return super()._get_help_string(action)


def make_parser(docstring: str) -> argparse.ArgumentParser:
    """Return a parser that shows a script's docstring as help, its last paragraph (the commands) after the options."""
    description, commands = docstring.rsplit("\n\n", 1)
    return argparse.ArgumentParser(description=description, epilog=commands, formatter_class=HelpFormatter)


def bounded(
    kind: type[int] | type[float],
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> Callable[[str], int | float]:
    """Return a type for `add_argument`: finite numbers within these bounds; others are usage errors."""

    def read(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a {'whole ' * (kind is int)}number, not {text!r}") from None
        if not -math.inf < value < math.inf:
            raise argparse.ArgumentTypeError("must be finite")
        bounds = {
            f"at least {at_least}": value >= at_least,
            f"more than {above}": value > above,
            f"at most {at_most}": value <= at_most,
            f"less than {below}": value < below,
        }
        for bound, holds in bounds.items():
            if not holds:
                raise argparse.ArgumentTypeError(f"must be {bound}")
        return value

    return read


positive_int = bounded(int, at_least=1, at_most=2**31 - 1)  # libraries count in 32 bits


def stop_signals() -> list[int]:
    """Return the numbers of the signals other than Ctrl-C that end a script: SIGTERM, and SIGHUP of a closed terminal.

    nohup ignores SIGHUP, and Windows does not have it.
    """
    hangup = getattr(signal, "SIGHUP", None)
    is_heard = hangup and signal.getsignal(hangup) is not signal.SIG_IGN
    return [signal.SIGTERM, *[hangup] * bool(is_heard)]


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Run a command, and end it with an exit code and at most one line on stderr.

    Exit code 1: an error that the user can fix (InputError, or OSError such as a full disk). 130: Ctrl-C. 143: SIGTERM.
    129: SIGHUP. 70: an error in the code, whose traceback is in the file that the line names.
    """
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # the hub's library warns about each retry
    prepare_streams()
    if not sys.stderr.isatty():
        os.environ["TQDM_DISABLE"] = "1"  # progress bars, the libraries' own included, are for terminals
    if not is_launched():  # a launcher sends SIGTERM to processes that wait in C++ for one that has failed
        for number in stop_signals():
            signal.signal(number, terminate)
    before, hook_before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = send_again
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, as in `generate.py -n 99 | head -1`
        end(1)
    except InputError as error:
        end(1, f"error: {error}")
    except OSError as error:
        name = f"{error.filename}: " if error.filename is not None else ""
        end(1, f"error: {name}{error.strerror or error}.")
    except Terminated as stopped:
        end(128 + stopped.args[0], "terminated")
    except KeyboardInterrupt:
        end(130, "interrupted")
    except MemoryError:
        end(1, "error: not enough memory. Close other programs, or use a machine with more.")
    except ModuleNotFoundError as error:
        end(1, f"error: the package {error.name} is not installed. Run pip install -r requirements.txt.")
    except SystemExit:
        raise
    except BaseException as error:  # Rust panics derive from BaseException
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which need not be imported for it
            end(1, "error: out of GPU memory. Close other programs that use the GPU, or pass --device cpu.")
        report = write_crash_report()
        end(70, f"unexpected error: {type(error).__name__}. Please report it, and attach {report}.")
    finally:
        sys.unraisablehook = hook_before
        if before is leave:
            signal.signal(signal.SIGINT, leave)


def terminate(number: int, _: object) -> None:
    raise Terminated(number)


def end(code: int, text: str = "") -> None:
    """End the process with one line on stderr. Line breaks in the text, as in names of files, are escaped.

    Under a launcher, the first process is the first to say it. The launcher then ends the others, which mostly have the
    same error.
    """
    if text:
        if is_launched() and not is_first_process():
            time.sleep(OTHERS_WAIT)
        print(f"{Path(sys.argv[0]).name}: {one_line(text)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:  # nobody reads it, or the disk is full: Python would flush again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def write_crash_report() -> Path:
    """Write the command, the traceback and the package versions to a temporary file; return its path."""
    from importlib.metadata import distributions

    versions = sorted(f"{each.metadata['Name']} {each.version}" for each in distributions())
    machine = f"Python {platform.python_version()} on {platform.platform()}"
    text = "\n".join([" ".join(sys.argv), "", traceback.format_exc(), machine, *versions])
    handle, path = tempfile.mkstemp(prefix=f"{Path(sys.argv[0]).stem}-error-", suffix=".txt")
    with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")
    return Path(path)


class Stderr(io.TextIOWrapper):
    """Ignores errors, so that a closed stderr or a full disk does not stop the work."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Set stdout and stderr to UTF-8 whatever the locale says, and open /dev/null for closed standard streams.

    Otherwise the next file to be opened would take the number of a closed stream, and messages would be written to it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest free number; writing to it is an error
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8")
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    raw = io.FileIO(2, "w", closefd=False)
    sys.stderr = Stderr(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=True)
