"""Characters that are not visible, and texts that look alike."""

from __future__ import annotations

import re
import unicodedata

# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt, 17.0), and the blank braille pattern U+2800.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
INVISIBLE = re.compile(f"[{IGNORABLE}\u2800]")
# Joiners and variation selectors belong to the characters before them: in emoji, and in Persian or Hindi words.
JOINING = "\u200c\u200d\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef"
STRAY = re.compile(f"(?![{JOINING}])[{IGNORABLE}]|(?:^|(?<=\\s))[{JOINING}]+")
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]+")


def visible(text: str) -> str:
    """Return the text without control characters, direction marks and stray invisible characters.

    Control characters, line breaks among them, become blanks. Return "" if nothing of the text can be seen.

    >>> visible("a\u202eb\\r\\nc ❤\ufe0f \ufe0f")
    'ab c ❤️'
    """
    text = STRAY.sub("", CONTROL.sub(" ", text)).strip()
    shown = INVISIBLE.sub("", text)
    return text if any(unicodedata.category(character)[0] not in "CZ" for character in shown) else ""


def fold(text: str) -> str:
    """Make texts that look alike equal: case, width and invisible characters do not count.

    >>> fold("ＢＡＤ\u200bWord")
    'badword'
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return INVISIBLE.sub("", text)
