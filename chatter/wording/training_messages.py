"""What was said in the training chat: hashes of its longer messages, which generate.py --no-copies does not say again.

The file SAID has 64-bit hashes, sorted, little-endian and nothing else, of the folded letters of each message of
at least NUM_WORDS words. Who has it can test whether a message that they guess was in the chat.
"""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.cli import InputError
from chatter.wording.lookalikes import MAX_CHARACTERS, fold, letters, letters_of_lines, visible

if TYPE_CHECKING:
    import numpy as np

SAID = "said.u64"  # beside a dataset, and beside a model
NUM_WORDS = 4
# Its hash is in each file. It is another one if letters or hashes are computed in another way.
PROBE = "Prоbе: ＷＨＡＴ ııı5 ñot Łetterѕ, ɴor 😂 ẅоrds?"


def hash_messages(messages: list[str]) -> np.ndarray:
    """Return the hashes of the messages of at least NUM_WORDS words, (num_messages,) uint64, sorted, each once."""
    import numpy as np
    from xxhash import xxh3_64_intdigest

    different = {text for text in messages if is_long(text)}  # many are said again and again
    plain = [text for text in different if text.isascii() and len(text) <= MAX_CHARACTERS and "\n" not in text]
    lines = letters_of_lines(fold("\n".join(plain)).encode()).split(b"\n") if plain else []
    hashes = [xxh3_64_intdigest(line) for line in lines if line]
    others = different.difference(text for text, line in zip(plain, lines, strict=True) if line)
    return np.unique(np.array([*hashes, *map(hash_message, others)], np.dtype("<u8")))


def is_long(message: str) -> bool:
    return len(message.split()) >= NUM_WORDS


def hash_message(message: str) -> int:
    from xxhash import xxh3_64_intdigest

    if len(message) > MAX_CHARACTERS:  # what a model says is cut there
        message = visible(message)[:MAX_CHARACTERS]
    return xxh3_64_intdigest(letters(fold(message)))


def write_said(hashes: np.ndarray, output: Path) -> None:
    """Write a file SAID of hashes in any order."""
    import numpy as np

    probe = np.array([hash_message(PROBE)], "<u8")
    np.union1d(hashes, probe).astype("<u8").tofile(output)


def unite_said(folders: Sequence[Path], output: Path) -> None:
    """Write the union of the files SAID of datasets and models."""
    import numpy as np

    write_said(np.concatenate([np.fromfile(folder / SAID, "<u8") for folder in folders]), output)


class Said:
    """Sorted hashes, in which a message can be looked up."""

    def __init__(self, *files: Sequence[int]) -> None:
        self.files = files

    def __contains__(self, message: str) -> bool:
        return is_long(message) and self.has(hash_message(message))

    def has(self, value: int) -> bool:
        places = [(hashes, bisect.bisect_left(hashes, value)) for hashes in self.files]
        return any(place < len(hashes) and hashes[place] == value for hashes, place in places)


def open_said(*folders: Path) -> Said:
    """Return what was said in the chats of models or datasets. Their files are mapped into memory, not read.

    Raises InputError if there is no such file, or another one.
    """
    return Said(*map(map_said, folders))


def map_said(folder: Path) -> memoryview:
    path = folder / SAID
    try:
        with path.open("rb") as file:
            hashes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast("Q")
        is_ours = Said(hashes).has(hash_message(PROBE))
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no {SAID}, which tells what was said in its training chat. Run tokenize_logs.py and "
            "train.py again, or leave out --no-copies."
        ) from None
    except (ValueError, TypeError):  # empty, or not a multiple of 8 bytes
        is_ours = False
    if not is_ours:
        raise InputError(
            f"{path} is damaged, or of another version. Run tokenize_logs.py and train.py again, or leave out "
            "--no-copies."
        )
    return hashes
