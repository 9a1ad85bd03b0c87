"""What every command has in common: errors that the user can fix, log lines, and its parser."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable


class InputError(Exception):
    """An error that the user can fix. Its text says what is wrong and what to do."""


def log(text: str) -> None:
    """Print a line on stderr, above a progress bar, and once however many processes there are."""
    from tqdm import tqdm

    if os.environ.get("RANK", "0") == "0":
        tqdm.write(text, file=sys.stderr)


def one_line(text: str) -> str:
    """Escape the line breaks in a text, as in names of files."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the layout of a docstring, and shows the default of each option that has one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action.default, bool) or action.default in (None, ""):
            return action.help
        return super()._get_help_string(action)


def make_parser(docstring: str) -> argparse.ArgumentParser:
    """Return a parser whose help begins with a script's docstring and ends with its last paragraph, the commands."""
    description, commands = docstring.rsplit("\n\n", 1)
    return argparse.ArgumentParser(description=description, epilog=commands, formatter_class=HelpFormatter)


def number(
    kind: type[int] | type[float],
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> Callable[[str], int | float]:
    """Return a type for `add_argument`: finite numbers within these bounds, refused in argparse's own form."""

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


positive_int = number(int, at_least=1, at_most=2**31 - 1)  # libraries count in 32 bits
