"""chatter.generation.manners and stream_clock: when a stream is answered."""

import math

import pytest

from chatter.generation.manners import Manners
from chatter.generation.stream_clock import DAY, Moment, StreamClock, read_moment
from chatter.generation.stream_lines import Line


def decide(manners, lines, asked=False, channel=""):
    """Return the objection to each line; a line without one is answered."""
    found = []
    for line in lines:
        manners.clock.advance(line.moment)
        found.append(manners.find_objection(line, channel, asked))
        if not found[-1]:
            manners.speak(channel)
    return found


def at(*seconds, user="ann", day=738000 * DAY):
    return [Line("hi", user=user, moment=Moment(day + each, True)) for each in seconds]


def test_it_speaks_as_often_as_chance_says():
    """Within four standard deviations, whatever the seed."""
    for chance in (0.01, 0.3):
        spoken = decide(Manners(chance, seed=1), at(*range(20_000))).count("")
        assert abs(spoken - 20_000 * chance) < 4 * math.sqrt(20_000 * chance * (1 - chance))


def test_a_line_that_asks_is_answered_whatever_chance_says():
    assert decide(Manners(0), at(1, 2), asked=True) == ["", ""]
    assert decide(Manners(0), at(1, 2)) == ["no trigger"] * 2


def test_a_seed_repeats_the_decisions():
    lines = at(*range(500))
    first = decide(Manners(0.2, seed=7), lines)
    assert decide(Manners(0.2, seed=7), lines) == first != decide(Manners(0.2, seed=8), lines)


def test_the_cooldown_holds_for_lines_that_ask_too():
    for asked in (True, False):
        said = decide(Manners(cooldown=30), at(0, 29.9, 30, 31, 59, 60, 200), asked)
        assert said == ["", "cooldown", "", "cooldown", "cooldown", "", ""]


def test_it_waits_for_lines_of_others():
    said = decide(Manners(after=3), at(*range(7)), asked=True)
    assert said == ["too few lines of others"] * 2 + [""] + ["too few lines of others"] * 2 + [
        "",
        "too few lines of others",
    ]


def test_lines_of_bots_and_its_own_neither_count_nor_are_answered():
    lines = [*at(1, user="nightbot"), *at(2, user="my_bot"), *at(3), *at(4)]
    manners = Manners(after=2, ignored=frozenset({"nightbot"}), name="my_bot")
    assert decide(manners, lines, asked=True) == ["ignored user", "own message", "too few lines of others", ""]


def test_a_line_without_a_user_may_be_a_bot_or_its_own(capsys):
    """It is answered only if it makes no difference. The first time, a line on stderr says why it is not."""
    assert decide(Manners(), at(1, user="")) == [""]
    for manners in (Manners(name="my_bot"), Manners(ignored=frozenset({"nightbot"}))):
        assert decide(manners, at(1, 2, user="")) == ["no user name"] * 2
        assert capsys.readouterr().err == (
            "with --name or --ignore, lines that do not name their user are not answered\n"
        )


def test_each_channel_has_its_own_time_and_lines():
    manners = Manners(cooldown=10)
    assert decide(manners, at(0), channel="a") == decide(manners, at(1), channel="b") == [""]
    assert decide(manners, at(2), channel="b") == decide(manners, at(9), channel="a") == ["cooldown"]


def clock_after(*moments):
    clock, start = StreamClock(), None
    for moment in moments:
        clock.advance(moment)
        start = clock.now if start is None else start
    return clock.now - start


def test_the_clock_follows_the_lines():
    assert clock_after(*(Moment(each, True) for each in (100, 130, 129, 130, 200))) == 100
    assert clock_after(*(Moment(each, False) for each in (DAY - 10, DAY - 1, 5))) == pytest.approx(15)  # midnight
    assert clock_after(*(Moment(each, True) for each in (10 * DAY, 9 * DAY, 9 * DAY + 7))) == 7  # another log
    late = (DAY - 2, 1, DAY - 1, 10)  # a line of before midnight comes after one of after midnight
    assert clock_after(*(Moment(each, False) for each in late)) == pytest.approx(12)
    assert clock_after(Moment(9 * DAY, True), None, Moment(20 * DAY, True)) < 60  # the time of the system


@pytest.mark.parametrize(
    ("date", "time", "tags", "moment"),
    [
        ("2024-03-07", "21:05:09", "", Moment(738952 * DAY + 75909, True)),
        ("", "25:00:01", "", Moment(90001, False)),
        ("2024-03-07", "21:05:09", "id=1;tmi-sent-ts=1709845509123", Moment(738952 * DAY + 75909.123, True)),
        ("2024-03-07", "", "", None),
        ("2024-02-31", "21:05:09", "", None),
        ("", "soon", "", None),
        ("", "", "", None),
    ],
)
def test_moments(date, time, tags, moment):
    assert read_moment(date, time, tags) == (moment and pytest.approx(moment))
