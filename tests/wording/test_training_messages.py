"""chatter.wording.training_messages: a longer training message is never repeated, however it is written."""

import shutil
from itertools import permutations

import numpy as np
import pytest
from conftest import TINY, error_of, run, write_csv
from hypothesis import given
from hypothesis import strategies as st

from chatter.cli import InputError
from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Sampling
from chatter.training.saving import folders_with_training_messages
from chatter.wording.training_messages import (
    HASHES,
    TrainingMessages,
    has_enough_words,
    hash_message,
    hash_messages,
    unite_hashes,
    write_hashes,
)
from generate import answer, generate
from tokenize_logs import tokenize_logs

WILD = Sampling(temperature=2.0, top_p=1.0, max_new_tokens=20)
MESSAGE = "this is the best day ever"


@pytest.fixture
def said_in(tmp_path):
    """Write the file of some messages to a folder; return the folder."""

    def write(name, *messages):
        (tmp_path / name).mkdir()
        write_hashes(hash_messages([*messages]), tmp_path / name / HASHES)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "text",
    [
        MESSAGE.upper(),
        f"  {MESSAGE}!!! ",
        "this... is the BEST 😂 day ever",
        "thisss is the beeest day ever",
        "th1s 1s the b3st d4y 3v3r",
        "this is thе bеst dаy ever",  # Cyrillic
        "this is thé best dày ever",
        "ｔｈｉｓ is the best\u200b day ever",
    ],
)
def test_a_copy_is_one_however_it_is_written(text, said_in):
    assert text in TrainingMessages.open(said_in("model", MESSAGE, "and another message of chat"))


@pytest.mark.parametrize(
    "text", ["this is the best day", "this is the best day ever, chat", "lol", "", "this", "😂" * 9]
)
def test_what_was_not_said_is_no_copy(text, said_in):
    """Nor are parts of messages, and messages of up to three words."""
    assert text not in TrainingMessages.open(said_in("model", MESSAGE, "lol", "l o l", "too short though", "😂 😂 😂"))


def test_messages_without_letters_are_compared_as_they_are(said_in):
    said = TrainingMessages.open(said_in("model", "😂 ❤ 😂 !", "! ! ? ?"))
    assert "😂 ❤ 😂 !" in said and "! ! ? ?" in said and "😭 ❤ 😭 ." not in said and ". . . ." not in said


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40)))
def test_each_longer_message_is_found_and_no_other(messages):
    said = TrainingMessages(hash_messages(messages))
    assert all((text in said) == has_enough_words(text) for text in messages)
    assert "something that nobody has ever said here" not in said


def test_a_message_longer_than_on_twitch_is_what_can_be_said_of_it():
    text = "a long message " * 50
    assert text[:500] in TrainingMessages(hash_messages([text]))


def test_the_file_is_sorted_hashes_and_nothing_else(tmp_path):
    """tokenize_logs.py writes one of each message, of both splits, and one for a test that it is our file."""
    messages = [f"message {word} of very many" for word in map("".join, permutations("abcde"))]
    write_csv(tmp_path / "a.csv", messages * 3 + ["too short though"] * 50)
    tokenize_logs(tmp_path, tmp_path / "out", str(TINY), block_size=64)
    hashes = np.fromfile(tmp_path / "out" / HASHES, "<u8")
    assert len(hashes) == len(messages) + 1 and (hashes[:-1] < hashes[1:]).all()
    said = TrainingMessages.open(tmp_path / "out")
    assert all(text in said for text in messages)


def test_a_file_that_is_missing_or_of_something_else(said_in, tmp_path):
    with pytest.raises(InputError, match=r"has no said\.u64, the hashes of its training messages\. Run "):
        TrainingMessages.open(tmp_path)
    for data in (b"", b"x" * 100, b"x" * 800, np.arange(100, dtype="<u8").tobytes()):
        (tmp_path / HASHES).write_bytes(data)
        with pytest.raises(InputError, match=r"said\.u64 is damaged, or of another version\. Run tokenize_logs\.py"):
            TrainingMessages.open(tmp_path)


def test_the_union_has_what_was_said_in_all(said_in, tmp_path):
    one, two = said_in("one", MESSAGE, "said by both of them"), said_in("two", "said by both of them", "a b c d e")
    unite_hashes([one, two], tmp_path / HASHES)
    for said in (TrainingMessages.open(tmp_path), TrainingMessages.open(one, two)):
        assert MESSAGE in said and "a b c d e" in said and "said by nobody of them" not in said


def test_what_is_not_known_of_all_sources_is_not_taken_along(said_in, tmp_path, capsys):
    dataset, start = said_in("dataset", MESSAGE), said_in("start", "a b c d")
    assert folders_with_training_messages(dataset, start) == [dataset, start]
    assert folders_with_training_messages(dataset, tmp_path / "pretrained") == [dataset]
    assert capsys.readouterr().err == ""
    (start / HASHES).unlink()
    (start / "metrics.json").write_text("{}")  # a chatter of the version before
    for sources in ((dataset, start), (tmp_path, tmp_path / "pretrained")):
        assert folders_with_training_messages(*sources) == []
        assert "has no said.u64: generate.py --no-copies will not work with the new model" in capsys.readouterr().err


def test_no_message_is_a_copy(random_model):
    """Of 60 messages that a model would say, none is said again."""
    engine = load_engine(random_model, "cpu")
    engine.seed(0)
    first = [message.text for message in generate(engine, num_messages=60, sampling=WILD)]
    said = TrainingMessages(hash_messages(first))
    assert sum(text in said for text in first) > 20
    engine.seed(0)
    again = [message.text for message in generate(engine, num_messages=60, sampling=WILD, training_messages=said)]
    assert len(again) == 60 and not [text for text in again if text in said]


class Everything:
    """What is said when everything was said before."""

    def __contains__(self, text):
        return True


def test_it_gives_up_when_it_finds_nothing_but_copies(random_model):
    engine = load_engine(random_model, "cpu")
    with pytest.raises(InputError, match=r"no printable message without copies in 10 attempt\(s\)\."):
        generate(engine, sampling=Sampling(max_new_tokens=3), training_messages=Everything())
    with pytest.raises(InputError, match=r"no printable message without banned words and copies in 1 attempt\(s\)\."):
        generate(
            engine, sampling=Sampling(greedy=True, max_new_tokens=3), training_messages=Everything(), banned_words={"x"}
        )
    [(_, message, reason)] = answer(
        engine, ["hi"], "", sampling=Sampling(max_new_tokens=3), training_messages=Everything()
    )
    assert message is None and "without copies" in reason


def test_the_command(random_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(random_model, model)
    command = ["generate.py", "--model", model, "--device", "cpu", "--max-new-tokens", 15, "--seed", 7, "-n", 15]
    first = run(*command).stdout.splitlines()
    assert f"{model} has no said.u64" in error_of(*command, "--no-copies")
    write_hashes(hash_messages(first), model / HASHES)
    said = TrainingMessages.open(model)
    done = run(*command, "--no-copies")
    again = done.stdout.splitlines()
    assert len(again) == 15 and not [text for text in again if text in said] and done.stderr == ""
    assert {text for text in first if text not in said} & {*again}  # short ones may be said


def test_a_stream_without_copies(random_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(random_model, model)
    command = ["generate.py", "--model", model, "--device", "cpu", "--max-new-tokens", 15, "--seed", 7, "--stream"]
    lines = "".join(f"line {number}\n" for number in range(15))
    first = run(*command, stdin=lines).stdout.splitlines()
    write_hashes(hash_messages(first), model / HASHES)
    said = TrainingMessages.open(model)
    assert sum(text in said for text in first) > 5
    again = run(*command, "--no-copies", stdin=lines).stdout.splitlines()
    assert len(again) == 15 and not [text for text in again if text in said]


@given(st.lists(st.text(st.sampled_from("ab1lI50 \n\t.,!LOo\U0001f602\u00e9")) | st.text()))
def test_many_messages_at_once_have_the_hashes_of_each(messages):
    messages = [f"{text} and more of it" for text in messages] + messages
    assert hash_messages(messages).tolist() == sorted(
        {hash_message(text) for text in messages if len(text.split()) >= 4}
    )
