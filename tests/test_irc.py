"""chatter/irc.py: when Twitch sent a line of IRC."""

import pytest

from chatter.irc import irc_time


@pytest.mark.parametrize(
    ("tags", "time"),
    [
        ("tmi-sent-ts=1709845509999;rm-received-ts=0", ["2024-03-07", "21:05:09"]),
        ("rm-received-ts=1709845509000", ["2024-03-07", "21:05:09"]),
        ("x-tmi-sent-ts=1709845509000", None),
        ("tmi-sent-ts=", None),
        ("", None),
    ],
)
def test_the_time_of_an_irc_line(tags, time):
    assert irc_time(tags) == time
