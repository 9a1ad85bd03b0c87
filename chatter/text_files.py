"""Text files in UTF-8, or in UTF-16 with a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from chatter.cli import InputError


def text_encoding(head: bytes) -> str:
    """Return the encoding of a text file that begins with `head`: UTF-16 with a byte order mark, or else UTF-8."""
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 with a byte order mark. Raises InputError if it is neither."""
    data = path.read_bytes()
    try:
        return data.decode(text_encoding(data))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line} is not in UTF-8. Save the file in UTF-8.") from error
