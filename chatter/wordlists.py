"""Text files that users write: lists of user names, and of words."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from chatter.command import InputError
from chatter.lookalikes import fold


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark. Raises InputError if it is something else."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line} is not in UTF-8. Save the file in UTF-8.") from error


def read_users(name_or_file: str) -> frozenset[str]:
    """Return the user names, in lower case, that an argument stands for: a name, or a file of names.

    A file has names in lines or separated by commas; a # begins a comment. Raises InputError on what is not a name.
    """
    path = Path(name_or_file)
    if path.is_file():
        lines = {f"{path}:{number}": line for number, line in enumerate(read_text(path).splitlines(), 1)}
    elif re.fullmatch(r"[@\w,]+", name_or_file):
        lines = {"the option": name_or_file}
    else:
        raise InputError(f"{name_or_file} is neither a file nor a user name. Check the spelling.")
    users = set()
    for place, line in lines.items():
        for name in filter(None, (name.strip().removeprefix("@") for name in line.split("#")[0].split(","))):
            if not re.fullmatch(r"\w+", name):
                raise InputError(
                    f"{name!r} in {place} is not a user name. Write one name a line, without quotes or blanks."
                )
            users.add(name.lower())
    if not users:
        raise InputError(f"{name_or_file!r} contains no user name. Write one name a line; a # begins a comment.")
    return frozenset(users)


def read_words(path: Path) -> frozenset[str]:
    """Return the words and phrases in a file, one a line, as `fold` returns them. Raises InputError if it has none."""
    words = frozenset(filter(None, (fold(line.strip()) for line in read_text(path).splitlines())))
    if not words:
        raise InputError(f"{path} contains no words. Write one word or phrase a line.")
    return words
