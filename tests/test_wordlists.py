"""chatter/wordlists.py: text files as users write them, on whatever system."""

import pytest

from chatter.command import InputError
from chatter.wordlists import read_text, read_users, read_words


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding, tmp_path):
    (tmp_path / "users.txt").write_text("Ann\r\nさくら\n", encoding=encoding, newline="")
    assert read_users(str(tmp_path / "users.txt")) == {"ann", "さくら"}
    assert read_words(tmp_path / "users.txt") == {"ann", "さくら"}


@pytest.mark.parametrize("data", ["käse\n".encode("latin-1"), b"\xff\xfe\x00"])
def test_other_encodings_are_refused(data, tmp_path):
    (tmp_path / "words.txt").write_bytes(b"fine\n" * (data[0] != 255) + data)
    with pytest.raises(InputError, match=r"words\.txt:\d is not in UTF-8\. Save the file in UTF-8\."):
        read_text(tmp_path / "words.txt")


def test_users_stand_in_lines_or_between_commas_with_comments(tmp_path):
    (tmp_path / "users.txt").write_text("# asked on Monday\n@Ann, bob,\n\n  Cat_9  # twice\n")
    assert read_users(str(tmp_path / "users.txt")) == {"ann", "bob", "cat_9"}
    assert read_users("@Ann,bob") == {"ann", "bob"} and read_users("somebody") == {"somebody"}


def test_a_line_that_is_not_a_name_is_refused_with_its_number(tmp_path):
    (tmp_path / "users.txt").write_text("ann\nuser0 user1\n")
    with pytest.raises(InputError, match=r"'user0 user1' in .*users\.txt:2 is not a user name"):
        read_users(str(tmp_path / "users.txt"))


@pytest.mark.parametrize("name", ["nobody.txt", "two words", "no/where"])
def test_what_is_neither_a_file_nor_a_name_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is neither a file nor a user name"):
        read_users(name)


def test_banned_words_are_lines_and_nothing_is_split(tmp_path):
    (tmp_path / "words.txt").write_text("\n Two Words, one line \n#hashtag\n")
    assert read_words(tmp_path / "words.txt") == {"two words, one line", "#hashtag"}


def test_a_file_without_a_word_is_refused(tmp_path):
    """Rather than banning nothing."""
    (tmp_path / "words.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"words\.txt contains no words\. Write one word or phrase a line\."):
        read_words(tmp_path / "words.txt")


@pytest.mark.parametrize("content", ["", "#ann\n#bob\n"])
def test_a_file_without_a_name_is_refused(content, tmp_path):
    """Rather than excluding nobody."""
    (tmp_path / "users.txt").write_text(content)
    with pytest.raises(InputError, match=r"users\.txt' contains no user name"):
        read_users(str(tmp_path / "users.txt"))
