"""chatter.logs.filters: what each option leaves out, line by line."""

import json
import re

import polars
import pytest
from conftest import run

from chatter.cli import InputError
from chatter.logs.filters import FILTERS, filter_messages, mask_mentions, read_users, strip_suffixes
from parse_logs import parse_logs

CHAT = """\
[2024-03-7 21:05:01] #c Nightbot: Follow me at twitter.com/c
[2024-03-7 21:05:02] #c ann: !discord
[2024-03-7 21:05:03] #c ann: !!! wow!
[2024-03-7 21:05:04] #c bob: look: clips.example.tv/abc
[2024-03-7 21:05:05] #c bob: HTTP://example.org
[2024-03-7 21:05:06] #c bob: see what I mean...nothing. 3.5/10 and/or
[2024-03-7 21:05:07] #c ann: @bob hi @cat, mail a@example or @
[2024-03-7 21:05:08] #c Cat: once
[2024-03-7 21:05:09] #d dan: rude
[2024-03-7 21:05:10] #d dan has been timed out for 600 seconds
[2024-03-7 21:05:11] #d dan: !sorry www.example.net
"""
# Options, the seconds of the messages that they leave out, and the counts in the summary.
TABLE = [
    ([], [], {}),
    (["--exclude-bots"], [1], {"from bots": 1}),
    (["--exclude-users", "@BOB", "users.txt"], [4, 5, 6, 8], {"from excluded users": 4}),
    (["--exclude-users", "nightbot", "--exclude-bots"], [1], {"from excluded users": 1, "from bots": 0}),
    (["--only-users", "ann", "@BOB,nobody"], [1, 8, 9, 11], {"from other users": 4}),
    (
        ["--only-users", "Cat", "dan", "--exclude-users", "dan", "--drop-links"],
        [1, 2, 3, 4, 5, 6, 7, 9, 11],
        {"from excluded users": 2, "from other users": 7, "with links": 0},
    ),
    (["--drop-commands"], [2, 11], {"commands": 2}),
    (["--drop-links"], [1, 4, 5, 11], {"with links": 4}),
    (["--min-user-messages", "2"], [1, 8], {"from rare users": 2}),
    (["--drop-moderated"], [9], {"moderated": 1}),
    (
        ["--drop-commands", "--drop-links", "--min-user-messages", "3", "--drop-moderated"],
        [1, 2, 4, 5, 8, 9, 11],
        {"commands": 2, "with links": 3, "moderated": 1, "from rare users": 1},
    ),
]


@pytest.mark.parametrize(("options", "left_out", "counts"), TABLE)
def test_filters(options, left_out, counts, tmp_path):
    """Each message that is left out counts once, for the first filter that leaves it out."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/chat.txt").write_text(CHAT)
    (tmp_path / "users.txt").write_text("cat\nsomebody_else\n")
    done = run("parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", *options, cwd=tmp_path)
    rows = (tmp_path / "raw/chat.csv").read_text().splitlines()[1:]
    messages = set(range(1, 12)) - {10}
    assert [int(row.split(",")[1][-2:]) for row in rows] == sorted(messages - set(left_out))
    summary = dict(re.findall(r"^(.+?)  +([0-9]+)$", done.stderr, re.MULTILINE))
    reasons = {entry.count for entry in FILTERS.values()}
    assert {reason: int(summary[reason]) for reason in reasons & set(summary)} == counts
    assert int(summary["messages"]) == sum(counts.values()) + int(summary["messages written"])


def test_every_filter_is_in_the_table():
    assert {name for options, *_ in TABLE for name in options if name.startswith("--")} == {
        f"--{name.replace('_', '-')}" for name in FILTERS
    }


@pytest.fixture
def two_logs(tmp_path):
    (tmp_path / "a.txt").write_text("[2024-03-7 21:05:09] #c u: hi @bob, mail a@example or @\n")
    (tmp_path / "b.txt").write_text("[2024-03-7 21:05:09] #c U: @Bob @ünal\n[2024-03-7 21:05:09] #c v: hi\n")
    return tmp_path


def messages_of(folder):
    return [(folder / name).read_text().splitlines()[1:] for name in ("a.csv", "b.csv")]


def test_rare_users_are_counted_over_all_logs(two_logs):
    parse_logs(two_logs, two_logs, 1, {"min_user_messages": 2})
    assert messages_of(two_logs) == [
        ['2024-03-07,21:05:09,c,u,"hi @bob, mail a@example or @"'],
        ["2024-03-07,21:05:09,c,U,@Bob @ünal"],
    ]


def test_mentions_are_masked(two_logs):
    parse_logs(two_logs, two_logs, 1, mask=True)
    assert messages_of(two_logs) == [
        ['2024-03-07,21:05:09,c,u,"hi @user, mail a@example or @"'],
        ["2024-03-07,21:05:09,c,U,@user @user", "2024-03-07,21:05:09,c,v,hi"],
    ]


def test_mask_mentions_as_an_option(two_logs):
    run("parse_logs.py", "--logs-dir", two_logs, "--output-dir", two_logs, "--mask-mentions")
    assert "@user @user" in (two_logs / "b.csv").read_text()


def test_users_stand_in_lines_or_between_commas_with_comments(tmp_path):
    (tmp_path / "users.txt").write_text("# asked on Monday\n@Ann, bob,\n\n  Cat_9  # twice\n")
    assert read_users(str(tmp_path / "users.txt")) == {"ann", "bob", "cat_9"}
    assert read_users("@Ann,bob") == {"ann", "bob"} and read_users("somebody") == {"somebody"}


def test_a_line_that_is_not_a_name_is_refused_with_its_number(tmp_path):
    (tmp_path / "users.txt").write_text("ann\nuser0 user1\n")
    with pytest.raises(InputError, match=r"'user0 user1' in .*users\.txt:2 is not a user name"):
        read_users(str(tmp_path / "users.txt"))


def test_names_with_blanks_or_punctuation_are_in_quotes(tmp_path):
    """As Discord and YouTube allow them. A comment may have quotes, too."""
    (tmp_path / "users.txt").write_text('# the "bob" asked\n"Ann B.", cat  # "dan"\n')
    assert read_users(str(tmp_path / "users.txt")) == {"ann b.", "cat"}
    assert read_users('"John Smith",ann') == {"john smith", "ann"}
    assert read_users('"@john-smith1a2"') == {"john-smith1a2"}
    for line in ('ann"', '"ann', "a.b", '""'):
        (tmp_path / "users.txt").write_text(line)
        with pytest.raises(InputError, match="name"):
            read_users(str(tmp_path / "users.txt"))


DISCORD = {"channel": {"name": "general"}, "messages": []}


def discord_message(name, nickname, text):
    author = {"id": "1", "name": name, "nickname": nickname, "isBot": False}
    return {"type": "Default", "timestamp": "2024-03-07T21:05:09+00:00", "isPinned": False} | {
        "content": text,
        "author": author,
    }


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"exclude_users": {"ann b."}}, ["two", "three"]),
        ({"exclude_users": {"ann"}}, ["two", "three"]),
        ({"exclude_users": {"carl"}}, ["one", "two"]),
        ({"only_users": {"carl", "bob"}}, ["two", "three"]),
        ({"exclude_bots": True}, ["one", "three"]),
    ],
)
def test_filters_compare_names_and_nicknames(filters, left, tmp_path):
    messages = [("ann", "Ann B.", "one"), ("bob", "Nightbot", "two"), ("cat", "Carl", "three")]
    document = DISCORD | {"messages": [discord_message(*each) for each in messages]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    results, _, _ = parse_logs(tmp_path, tmp_path / "raw", 1, filters)
    rows = (tmp_path / "raw/a.csv").read_text().splitlines()[1:]
    assert [row.split(",")[-1] for row in rows] == left
    named = filters.get("exclude_users") or filters.get("only_users") or set()
    assert results[tmp_path / "a.json"].users == named


@pytest.mark.parametrize("name", ["nobody.txt", "two words", "no/where"])
def test_what_is_neither_a_file_nor_a_name_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is neither a file nor a user name"):
        read_users(name)


@pytest.mark.parametrize("length", [10, 300])
def test_a_list_of_names_may_be_longer_than_the_name_of_a_file(length):
    names = [f"user{number}".ljust(length, "x") for number in range(100)]
    assert read_users(",".join(names)) == {*names}


@pytest.mark.parametrize("content", ["", "#ann\n#bob\n"])
def test_a_file_without_a_name_is_refused(content, tmp_path):
    """Rather than excluding nobody."""
    (tmp_path / "users.txt").write_text(content)
    with pytest.raises(InputError, match=r"users\.txt' contains no user name"):
        read_users(str(tmp_path / "users.txt"))


def kept(messages, **filters):
    table = polars.DataFrame({"entry": range(len(messages)), "username": ["u"] * len(messages), "message": messages})
    return filter_messages(table, filters)[0]["message"].to_list()


@pytest.mark.parametrize(
    "text", ["google.de", "see GOOGLE.co.uk now", "x-y.ru!", "(twitch.tv)", "a.io", "www.x.me", "t.me/x", "http://a"]
)
def test_links(text):
    assert kept([text], drop_links=True) == []


@pytest.mark.parametrize(
    "text",
    ["ok.so", "trust.me", "what.is this", "lol.it", "nice.np", "e.g. 3.50", "no.one", "gl.hf", "desk.dem", "a.be"],
)
def test_words_behind_a_dot_are_not_links(text):
    assert kept([text], drop_links=True) == [text]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("@alice@bob", "@user@user"),
        ("hi @alice@bob@cat, @dan", "hi @user@user@user, @user"),
        ("hi@bob", "hi@bob"),
        ("hi@bob@cat", "hi@bob@cat"),
        ("@@bob", "@@user"),
        ("@ bob", "@ bob"),
        ("(@ünal@さくら)", "(@user@user)"),
        ("@ann-marie @john.doe: hi@x", "@user @user: hi@x"),
        ("thanks @ann.", "thanks @user."),
    ],
)
def test_each_mention_is_masked(text, masked):
    assert mask_mentions(polars.DataFrame({"message": [text, "@x"]}))["message"].to_list() == [masked, "@user"]


@pytest.mark.parametrize(
    "suffix", ["\U000e0000", " \u034f", " \U000e0000 \U000e0000", "\u034f\U000e0000", " \u034f" * 9]
)
def test_all_invisible_suffixes_are_removed(suffix):
    messages, number = strip_suffixes(polars.DataFrame({"message": [f"hi{suffix}", "hi", f"a{suffix}b"]}))
    assert (messages["message"].to_list(), number) == (["hi", "hi", f"a{suffix}b"], 1)


@pytest.mark.parametrize("argument", ["optouts", "ann,optouts", "agreed", "agreed,ann"])
def test_a_name_that_is_also_a_file_is_refused(argument, tmp_path, monkeypatch):
    """It may be the name of a list, whose users would not be left out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "optouts").write_text("bob\n")
    (tmp_path / "agreed.txt").write_text("bob\n")
    name = argument.removeprefix("ann,").removesuffix(",ann")
    file = "optouts" if name == "optouts" else "agreed.txt"
    with pytest.raises(
        InputError, match=rf"{name} may be a user or a file\. Write @{name} for the user, or \./{file} for the file\."
    ):
        read_users(argument)
    assert read_users(f"./{file}") == {"bob"} and read_users(f"@{name}") == {name}
    assert read_users("agreed.txt") == {"bob"} and read_users("cat,dan") == {"cat", "dan"}
