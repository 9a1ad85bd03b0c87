"""Banned words, including spellings that evade a filter."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path

from chatter.cli import InputError
from chatter.text_files import read_text
from chatter.wording.lookalikes import fold, letters

SIGNS = str.maketrans("!|$@€", "11543")  # they stand for the same letters as these digits
STANDS_FOR = {"0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "7": "t"}
SAME = {letter: f"[{letter}{digit}]" for digit, each in STANDS_FOR.items() for letter in each}
SAME |= {digit: f"[{digit}{each}]" for digit, each in STANDS_FOR.items()}
SPELLED = re.compile(r"(?=.*[^\W\d_])[^\W_]+(?:\s+[^\W_]+)*")  # a word, or several, that can be spelled in other ways
BETWEEN = r"[\W_]"  # what may stand between all letters of a word
TEAR, SIGN = r"(?:[^\w'’]|_)", r"(?:[^\w\s'’]|_)"  # may stand between some letters; the same without blanks
BEGIN, END = r"(?<![^\W_])", r"(?![^\W_])"  # of a word
APART = rf"{BEGIN}(?<!['’])"  # the same, but not at the s of "it's hit"
SHORT = 3  # letters of a word; ordinary words too often spell so short a word: "as S tier"


class BannedWord:
    """A line of a list, as `fold` returns it: a text that no message may contain or, after a =, a whole word."""

    def __init__(self, line: str) -> None:
        self.is_whole = line[:1] == "=" and line[-1].isalnum()
        self.word = line[1:] if self.is_whole else line
        self.is_spelled = bool(SPELLED.fullmatch(self.word))
        self.letters = letters(self.word) if self.is_spelled else b""

    @cached_property
    def pattern(self) -> re.Pattern:
        begin, end = (BEGIN, END) if self.is_whole else ("", "")
        if not self.is_spelled:
            return re.compile(begin + re.escape(self.word) + end)
        characters = "".join(self.word.split())
        patterns = [begin + f"{BETWEEN}+".join(spell(part, "") for part in self.word.split()) + end]
        patterns.append(APART + spell(characters, f"{SIGN}*" if len(characters) <= SHORT else f"{TEAR}*") + END)
        patterns.append(APART + spell(characters, f"{BETWEEN}+") + END)
        if len(characters) > SHORT and not self.is_whole:
            patterns.append(spell(characters, f"{BETWEEN}+"))
        return re.compile("|".join(patterns))

    def is_in(self, text: str, text_letters: bytes) -> bool:
        """Return whether a folded text contains the word. `text_letters` is `letters(text)`."""
        if self.letters not in text_letters:  # a quick check before the regular expression
            return False
        return any(not self.is_spelled or is_word(match[0]) for match in self.pattern.finditer(text))


def spell(characters: str, between: str) -> str:
    """Return a pattern for `characters` that may be repeated, with the pattern `between` between them."""
    runs = []
    for character, run in groupby(characters):
        one = SAME.get(character, character)
        runs.append(f"{one}(?:{between}{one}){{{len([*run]) - 1},}}")
    return between.join(runs)


def is_word(text: str) -> bool:
    """Return whether a match is a word rather than a number, such as 455 or A-55."""
    num_letters, num_digits = sum(map(str.isalpha, text)), sum(map(str.isdigit, text))
    return num_letters >= (1 if text.isalnum() else num_digits)


@lru_cache(maxsize=8)
def compile_words(lines: frozenset[str]) -> list[BannedWord]:
    return [*map(BannedWord, lines)]


def contains_banned(text: str, lines: Collection[str]) -> bool:
    """Return whether a text contains one of the banned words, which are lines as `read_words` returns them.

    It finds them in letters of any script, size and case, with accents, with letters repeated, with digits and signs
    for letters (1 ! | for i and l, 3 e, 0 o, 4 @ a, 5 $ s, 7 t), and with dots, emoji or blanks between letters if the
    word then begins and ends where words do, as in "sh it" but not in "class hit". In a word of at most SHORT letters,
    blanks count only if they are between all of them.

    >>> contains_banned("Ａ.s.$ clown", {"=ass"}), contains_banned("class hit as soon as", {"=ass", "shit"})
    (True, False)
    """
    if not lines:
        return False
    folded = {fold(text), fold(text, capitals=True)}
    for variant in folded | {each.translate(SIGNS) for each in folded}:
        text_letters = letters(variant)
        if any(word.is_in(variant, text_letters) for word in compile_words(frozenset(lines))):
            return True
    return False


def read_words(path: Path) -> frozenset[str]:
    """Return the words and phrases in a file, one a line, as `fold` returns them. Raises InputError if it has none."""
    words = frozenset(filter(None, (fold(line.strip()) for line in read_text(path).splitlines())))
    if not words:
        raise InputError(f"{path} contains no words. Write one word or phrase a line.")
    return words
