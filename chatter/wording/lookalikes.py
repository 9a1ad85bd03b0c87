"""Characters that are not visible, and texts that look alike."""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 500  # of a message on Twitch
# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 17.0), and the blank braille pattern U+2800.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
INVISIBLE = re.compile(f"[{IGNORABLE}\u2800]")
# Joiners and variation selectors belong to the characters before them: in emoji, and in Persian or Hindi words.
JOINING = "\u200c\u200d\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef"
STRAY = re.compile(f"(?![{JOINING}])[{IGNORABLE}]|(?:^|(?<=\\s))[{JOINING}]+")
MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
FANCY = re.compile(r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:SQUARED|CIRCLED) LATIN CAPITAL LETTER) ([A-Z])")
SEPARATORS = re.compile(r"[\W_]+")
SIGNS = bytes(code for code in range(128) if not chr(code).isalnum())
AS_LETTERS = bytes.maketrans(b"013457l", b"oieasti")
SIGNS_IN_LINE = SIGNS.replace(b"\n", b"")
SEPARATORS_IN_LINE = re.compile(r"[^\w\n]+|_+")
REPEATED = re.compile(rb"(.)\1+", re.DOTALL)
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]+")


def visible(text: str) -> str:
    """Remove direction marks and stray invisible characters, and replace control characters with spaces.

    Line breaks are control characters, too. Return "" if nothing of the text can be seen.

    >>> visible("a\u202eb\\r\\nc ❤\ufe0f \ufe0f")
    'ab c ❤️'
    """
    text = STRAY.sub("", CONTROL.sub(" ", text)).strip()
    shown = INVISIBLE.sub("", text)
    return text if any(unicodedata.category(character)[0] not in "CZ" for character in shown) else ""


class LatinLetters(dict):
    """For str.translate: the ASCII letter or digit that a letter of another script, or a fancy one, looks like."""

    def __missing__(self, code: int) -> str:
        character = letter = chr(code)
        if fancy := FANCY.fullmatch(unicodedata.name(character, "")):
            letter = fancy[1].lower()
        elif code > 127 and character.isalpha():
            letter = look_up(character) or look_up(character.upper()) or character
        self[code] = letter  # at once, as other threads may read it
        return letter


class LatinCapitals(LatinLetters):
    """As LatinLetters, but for capitals only: some look like other letters than in lower case, as Greek Η and η."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = look_up(character) or character if code > 127 and character.isupper() else character
        return self[code]


LATIN, CAPITALS = LatinLetters(), LatinCapitals()


def look_up(character: str) -> str:
    """Return the ASCII letter or digit that Unicode's list of confusables has for a character, or ""."""
    from confusable_homoglyphs.confusables import confusables_data  # takes 40 ms

    for entry in confusables_data.get(character, ()):
        plain = strip_marks(entry["c"])
        if len(plain) == 1 and plain.isascii() and plain.isalnum():
            is_i = plain == "l" and character.isupper() and look_up(character.lower()) == "i"  # Unicode maps I to l
            return "i" if is_i else plain.lower()
    return ""


def strip_marks(text: str) -> str:
    """Return the text without combining marks, such as accents; marks that make other letters, as in Hindi, stay."""
    return unicodedata.normalize("NFKC", MARKS.sub("", unicodedata.normalize("NFKD", text)))


def fold(text: str, capitals: bool = False) -> str:
    """Make texts that look alike equal: case, width, script, accents and invisible characters do not count.

    Letters are compared by how they look in lower case or, with `capitals`, as they are.

    >>> fold("ＢＡＤ\u200bWörd"), fold("Ваԁ wоrԁ")
    ('badword', 'bad word')
    """
    if text.isascii():
        return text.lower()
    folded = strip_marks(INVISIBLE.sub("", text))
    if capitals:
        folded = folded.translate(CAPITALS)
    folded = strip_marks(folded.casefold()).translate(LATIN).lower()
    folded = INVISIBLE.sub("", folded)
    return folded if folded.strip() else INVISIBLE.sub("", unicodedata.normalize("NFKC", text))  # a mark alone


def letters_of_lines(folded: str) -> list[bytes]:
    """Apply `letters` to each line of a folded text, many times as fast as one by one.

    The result of a line without letters and digits is empty.
    """
    import numpy as np

    if folded.isascii():
        lines = folded.encode().translate(AS_LETTERS, SIGNS_IN_LINE)
    else:
        lines = SEPARATORS_IN_LINE.sub("", folded).encode().translate(AS_LETTERS)
    data = np.frombuffer(lines, np.uint8)
    is_first = np.concatenate([[True], (data[1:] != data[:-1]) | (data[1:] == ord("\n"))])[: len(data)]
    return data[is_first].tobytes().split(b"\n")


def letters(folded: str) -> bytes:
    """Reduce a folded text to the letters that evasive spellings share, in UTF-8.

    Digits become the letters that they stand for, repeated letters become one, and everything else is removed.
    i, l and 1 are the same. In a text without letters and digits, only repeated characters are removed.

    >>> letters("he1lo... wooorld!"), letters(":)")
    (b'heioworid', b':)')
    """
    if folded.isascii():
        raw = folded.encode()
        found = raw.translate(AS_LETTERS, SIGNS) or raw
    else:
        found = (SEPARATORS.sub("", folded) or folded).encode().translate(AS_LETTERS)
    return REPEATED.sub(rb"\1", found)
