"""chatter.wording.banned: what must not be said is found however it is written, and nothing else is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.wording.banned import contains_banned, read_words
from chatter.wording.lookalikes import fold

WORDS = frozenset(
    "=ass =hell =tit =dick =cock =penis =cunt =cum =rape =retard =anal =sex =boobs shit fuck bitch idiot nazi".split()
)
HARMLESS = (Path(__file__).parent / "harmless.txt").read_text(encoding="utf-8").splitlines()  # made up


@pytest.mark.parametrize(
    "text",
    [
        *("shit", "SHIT", "bullshit", "shits"),
        *("ѕһіt", "ЅНІТ", "𝓼𝓱𝓲𝓽", "ｓｈｉｔ", "ꜱʜɪᴛ", "🆂🅷🅸🆃", "ṡḣíẗ", "s̷h̷i̷t̷", "şhıt"),
        *("s\u200bhit", "s\u00adhit", "shiiiit", "sSsHHiT", "sh1t", "5h17", "sh!t", "$hit", "sh|t"),
        *("s h i t", "s  h  i  t", "s.h.i.t", "s-h_i*t", "s😂h😂i😂t", "s 😂 h . i t", "sh it", "sh.it", "S.H I.T"),
        *("oh s.h.i.t, really", "bulls h i t", "ss hh ii tt", "ѕ.Н.1.7", "s'h'i't"),
        *("ass", "ASS!", "an ass.", "dumb_ass", "aaaasssss", "a55", "@ss", "a$$", "áss", "аѕѕ", "a s s", "a.ss"),
        *("ΝΑΖΙ", "n4z1", "НеЦЦ hell", "h3ll", "he||", "heLL"),
    ],
)
def test_banned_words_are_found(text):
    assert contains_banned(text, WORDS)


def test_two_hundred_harmless_messages_pass():
    assert len(HARMLESS) >= 200 and len({*HARMLESS}) == len(HARMLESS)
    assert [text for text in HARMLESS if contains_banned(text, WORDS)] == []


@pytest.mark.parametrize("text", ["class", "grass", "ass1", "as", "a ss", "hello", "assassin", "классa ss"])
def test_a_whole_word_is_no_part_of_another(text):
    assert not contains_banned(text, frozenset({"=ass", "=hell"}))
    assert contains_banned("class", frozenset({"ass"}))


@pytest.mark.parametrize(
    ("line", "said", "not_said"),
    [
        ("two words", ["two words", "TWO  words", "two.words", "x two wordsy", "twowords"], ["two", "words two"]),
        ("#tag", ["a #TAG"], ["tag", "# tag"]),
        ("=#tag", ["a #tag"], ["#tags", "x#tag"]),
        (":)", ["hi :)"], [": )", ":D"]),
        ("88", ["88", "1988"], ["8 8", "8"]),
        ("=88", ["88", "x 88!"], ["1988", "888"]),
        ("h4x", ["h4x", "hax", "H A X"], ["hex"]),
        ("さくら", ["さくら", "このさくらが"], ["さ", "さくし"]),
        ("нет", ["НЕТ", "нет!"], ["не"]),
        ("αηναι", ["ΑΗΝΑΙ"], ["αηνα"]),
        ("=", ["a = b"], ["a b"]),
        ("=)", ["=)"], [")"]),
    ],
)
def test_lines_of_a_list(line, said, not_said):
    words = frozenset({fold(line)})
    assert [contains_banned(text, words) for text in said] == [True] * len(said)
    assert [contains_banned(text, words) for text in not_said] == [False] * len(not_said)


DISGUISES = {"a": "a4@аàᴀ", "b": "bbʙ", "d": "dԁ", "o": "o0оöο", "r": "rʀ", "w": "wᴡ"}


@given(st.data())
def test_a_word_in_any_disguise(data):
    """Each letter repeated, and in another script; then something between all letters, or between none."""
    letters = [
        "".join(data.draw(st.lists(st.sampled_from(DISGUISES[letter]), min_size=1, max_size=3))) for letter in "badword"
    ]
    between = data.draw(st.sampled_from(["", " ", ".", "😂", " - ", "...", "_", "\u0301", "\u200b"]))
    said = between.join(letters)
    assert contains_banned(f"so {said} it is", frozenset({"badword"}))
    assert contains_banned(said, frozenset({"=badword"}))


@given(st.text())
def test_no_text_contains_what_is_not_in_it(text):
    """A word of letters that nothing looks like."""
    assert not contains_banned(text, frozenset({"ᚠᚢᚦ"})) or "ᚠᚢᚦ" in fold(text)
    assert not contains_banned(text, frozenset())


def test_long_texts_that_almost_contain_a_word():
    """A pattern that tried all ways to read them would take years."""
    words = frozenset(f"word{number}x" for number in range(1000)) | WORDS
    texts = ["s h i " * 80, "!" * 500, "a " * 250, "ß" * 500, "sh.i." * 100, "s5$" * 160 + "hi"]
    assert not any(contains_banned(text, words) for text in texts)


def test_banned_words_are_lines_and_nothing_is_split(tmp_path):
    (tmp_path / "words.txt").write_text("\n Two Words, one line \n#hashtag\n")
    assert read_words(tmp_path / "words.txt") == {"two words, one line", "#hashtag"}


def test_a_file_without_a_word_is_refused(tmp_path):
    """Rather than banning nothing."""
    (tmp_path / "words.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"words\.txt contains no words\. Write one word or phrase a line\."):
        read_words(tmp_path / "words.txt")
