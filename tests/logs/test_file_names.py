"""chatter.logs.file_names: what the names of files and folders say."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatter.logs.file_names import NO_NAME, NameFacts, parse_file_name

START = datetime(2020, 4, 26, 20, 57, 33, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("forsen-2021-03-05.log", NameFacts("forsen", "2021-03-05")),
        ("Forsen_2021-03-05.txt.gz", NameFacts("forsen", "2021-03-05")),
        ("some_channel-2021-03-05-1.log", NameFacts("some_channel", "2021-03-05")),
        ("some_channel.2021-03-05.raw.txt", NameFacts("some_channel", "2021-03-05")),
        ("some channel 2021-03-05.txt", NO_NAME),
        ("#channel.log", NameFacts("channel")),
        ("#channel-1.log", NameFacts("channel")),
        ("2021-03-05_#channel.log", NameFacts("channel", "2021-03-05")),
        ("2021-03-05.txt", NameFacts("", "2021-03-05")),
        ("somechannel-2024-03-1.txt", NameFacts("somechannel", "2024-03-01")),
        ("somechannel-2024-03-9-1.ndjson", NameFacts("somechannel", "2024-03-09")),
        ("2024-03-7_#channel.log", NameFacts("channel", "2024-03-07")),
        ("2024-03-7.txt", NameFacts("", "2024-03-07")),
        ("channel-2024-03-0.txt", NO_NAME),
        ("Forsen chatlog/January 2018/2018-01-05.txt", NameFacts("forsen", "2018-01-05")),
        ("Forsen chatlog/2018-01-05.txt", NameFacts("forsen", "2018-01-05")),
        ("network/#channel/2018-01-05.log", NameFacts("channel", "2018-01-05")),
        ("#channel/other-2018-01-05.log", NameFacts("other", "2018-01-05")),
        ("Forsen chatlog/a/b/2018-01-05.txt", NameFacts("", "2018-01-05")),
        ("Forsen chatlog/other-2018-01-05.txt", NameFacts("other", "2018-01-05")),
        ("[3-7-24] Some_Channel - a title - Chat.json.gz", NameFacts("some_channel", "2024-03-07")),
        ("[12-31-24] c - v1.2 - Chat.txt", NameFacts("c", "2024-12-31")),
        ("[13-31-24] c - title.txt", NameFacts("c")),
        ("0603596283 - a title (2020-04-26T205733Z).tcd", NameFacts("", "", START)),
        ("0603596283 - (a) 2019-01-01 (2020-04-26T205733Z).tcd", NameFacts("", "", START)),
        ("channel-2020-04-26T205733Z.tcd", NameFacts("channel", "", START)),
        ("2020-04-26T205733Z.tcd", NameFacts("", "", START)),
        ("channel-2020-04-26T255733Z.tcd", NameFacts("channel")),
        ("channel-2021-02-30.log", NameFacts("channel")),
        ("channel-2021-13-01.log", NO_NAME),
        ("channel-2021-03-051.log", NO_NAME),
        ("603596283.txt", NO_NAME),
        ("channel.txt", NO_NAME),
        ("ünï-2021-03-05.log", NO_NAME),
    ],
)
def test_what_names_say(name, facts):
    assert parse_file_name(Path("logs", name)) == facts


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_says_something_or_nothing(name):
    facts = parse_file_name(Path(name))
    assert facts.channel == facts.channel.lower() and not (facts.date and facts.start)
    assert not facts.date or datetime.fromisoformat(facts.date)
