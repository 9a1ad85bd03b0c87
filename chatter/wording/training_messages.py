"""Hashes of the longer messages of the training chat, which generate.py --no-copies does not repeat.

The file HASHES contains 64-bit hashes, sorted and little-endian, of the folded letters of each message of at least
NUM_WORDS words. Anyone with this file can check whether a guessed message was in the chat.
"""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

from chatter.cli import InputError
from chatter.wording.lookalikes import MAX_CHARACTERS, fold, letters, letters_of_lines, visible

if TYPE_CHECKING:
    import numpy as np

HASHES = "said.u64"  # beside a dataset, and beside a model
NUM_WORDS = 4
# Each file contains its hash, which reveals files of a version that computed letters or hashes differently.
PROBE = "Prоbе: ＷＨＡＴ ııı5 ñot Łetterѕ, ɴor 😂 ẅоrds?"


def hash_messages(messages: Iterable[str]) -> np.ndarray:
    """Return the hashes of the messages of at least NUM_WORDS words, (num_hashes,) uint64, sorted and unique."""
    import numpy as np

    different = {text for text in messages if len(text.split()) >= NUM_WORDS}  # many repeat; a call for each is slow
    joined = [text for text in different if len(text) <= MAX_CHARACTERS and "\n" not in text]
    hashes = [hash_message(text) for text in different.difference(joined)]
    for is_ascii in (True, False):  # folding ASCII is faster
        some = [text for text in joined if text.isascii() == is_ascii]
        lines = letters_of_lines(fold("\n".join(some)))
        hashes += [
            xxh3_64_intdigest(line) if line else hash_message(text)
            for text, line in zip(some, lines, strict=bool(some))
        ]
    return np.unique(np.array(hashes, np.dtype("<u8")))


def has_enough_words(message: str) -> bool:
    return len(message.split()) >= NUM_WORDS


def hash_message(message: str) -> int:
    if len(message) > MAX_CHARACTERS:  # generated messages are cut there, too
        message = visible(message)[:MAX_CHARACTERS]
    return xxh3_64_intdigest(letters(fold(message)))


def write_hashes(hashes: np.ndarray, output: Path) -> None:
    """Write hashes, given in any order, to a sorted file, with the hash of PROBE."""
    import numpy as np

    probe = np.array([hash_message(PROBE)], "<u8")
    np.union1d(hashes, probe).astype("<u8").tofile(output)


def unite_hashes(folders: Sequence[Path], output: Path) -> None:
    """Write the union of the hashes of datasets and models."""
    import numpy as np

    write_hashes(np.concatenate([np.fromfile(folder / HASHES, "<u8") for folder in folders]), output)


class TrainingMessages:
    """Sorted hashes of messages. `message in training_messages` looks a message up."""

    def __init__(self, *files: Sequence[int]) -> None:
        self.files = files

    @classmethod
    def open(cls, *folders: Path) -> TrainingMessages:
        """Open the hashes of models or datasets. Their files are mapped into memory, not read.

        Raises InputError if a file is missing or invalid.
        """
        return cls(*map(map_hashes, folders))

    def __contains__(self, message: str) -> bool:
        return has_enough_words(message) and self.has(hash_message(message))

    def has(self, value: int) -> bool:
        """Return whether a hash is in one of the files."""
        places = [(hashes, bisect.bisect_left(hashes, value)) for hashes in self.files]
        return any(place < len(hashes) and hashes[place] == value for hashes, place in places)


def map_hashes(folder: Path) -> memoryview:
    """Map the hashes of a model or a dataset into memory. Raises InputError if the file is missing or invalid."""
    path = folder / HASHES
    try:
        with path.open("rb") as file:
            hashes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast("Q")
        is_ours = TrainingMessages(hashes).has(hash_message(PROBE))
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no {HASHES}, the hashes of its training messages. Run tokenize_logs.py and train.py "
            "--overwrite, or leave out --no-copies."
        ) from None
    except (ValueError, TypeError):  # empty, or not a multiple of 8 bytes
        is_ours = False
    if not is_ours:
        raise InputError(
            f"{path} is damaged, or of another version. Run tokenize_logs.py and train.py --overwrite, or delete the "
            "file and do without generate.py --no-copies."
        )
    return hashes
