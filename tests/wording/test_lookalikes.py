"""chatter.wording.lookalikes: what cannot be seen is dropped, and what looks alike is equal."""

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatter.wording import lookalikes
from chatter.wording.lookalikes import CONTROL, INVISIBLE, fold, visible


def test_fold_ignores_case_and_width():
    assert fold("ＢａＤ") == fold("BAD") == "bad"
    assert fold("STRASSE") == fold("straße")
    assert fold("𝐁𝓐ᴰ") == "bad"  # their capitals show when they are made plain


def test_folding_twice_changes_nothing_more():
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    changed = [text for character in characters if (text := fold(character)) != character]
    assert [fold(text) for text in changed] == changed


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Ваԁ wоrԁ", "bad word"),  # Cyrillic
        ("ᴀʙᴄ 🅰🅑", "abc ab"),
        ("b́a̷d̈ ñ Łø", "bad n lo"),
        ("І Ι ı", "i i i"),
        ("हिन्दी さくらが 한국", "हिन्दी さくらが 한국"),  # their marks make other words
        ("\u0301", "\u0301"),  # alone
    ],
)
def test_fold_ignores_script_and_accents(text, folded):
    assert fold(text) == folded


def test_capitals_may_look_like_another_letter_than_their_small_ones():
    assert (fold("ΗΝ"), fold("ην")) == ("nv", "nv") and fold("ΗΝ", capitals=True) == "hn"


# Named in Unicode's list of default-ignorable characters, one of each block, and the blank braille pattern.
HIDDEN = "00ad 034f 061c 115f 1160 17b4 180b 180e 200b 200c 200d 200e 202e 2060 2064 206f 2800 3164 fe00 fe0f feff ffa0"
HIDDEN += " fff8 1bca0 1d173 e0000 e0001 e0041 e0100 e01ef e0fff"


@pytest.mark.parametrize("code", HIDDEN.split())
def test_fold_ignores_invisible_characters(code):
    assert fold(f"b{chr(int(code, 16))}ad") == "bad"


def test_format_characters_are_invisible():
    """All of Unicode's format characters but those that show something, such as signs above Arabic numbers."""
    shown = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}
    shown |= {*range(0xFFF9, 0xFFFC)}
    for code in range(0x110000):
        if unicodedata.category(chr(code)) == "Cf" and code not in shown:
            assert INVISIBLE.fullmatch(chr(code)), hex(code)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" hi there ", "hi there"),
        ("a\rb\u2028c\x1b[31m\td\x85", "a b c [31m d"),
        ("right\u202eto\u200fleft", "righttoleft"),
        ("twice \U000e0000", "twice"),
        ("twice \u034f", "twice"),
        (
            "❤\ufe0f 👨\u200d👩\u200d👧 \u0646\u0645\u06cc\u200c\u0634\u0648\u062f",
            "❤\ufe0f 👨\u200d👩\u200d👧 \u0646\u0645\u06cc\u200c\u0634\u0648\u062f",
        ),
        ("\ufe0f\u200d alone \u200d", "alone"),
        ("\u200b \U000e0000\u3164\u2800", ""),
        ("\x07", ""),
        ("", ""),
    ],
)
def test_visible(text, expected):
    assert visible(text) == expected


@given(st.text())
@example("¨")  # nothing but a blank without its mark
def test_visible_is_one_clean_line(text):
    shown = visible(text)
    assert shown == shown.strip() and not CONTROL.search(shown)
    assert not set(shown) & set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert visible(shown) == shown
    assert not shown or fold(shown).strip()


def test_a_table_never_has_a_letter_that_is_not_final(monkeypatch):
    """Threads of tokenize_logs.py share it, and another thread would read the letter meanwhile."""
    table, real, seen = lookalikes.LatinLetters(), lookalikes.look_up, []
    monkeypatch.setattr(lookalikes, "look_up", lambda letter: seen.append(ord(letter) in table) or real(letter))
    assert "всем".translate(table) == "bcem" and seen and not any(seen)
