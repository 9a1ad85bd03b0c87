"""When a stream is answered: by chance, not too often, and never its own messages or other bots."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from chatter.cli import bounded, log
from chatter.generation.stream_clock import StreamClock
from chatter.generation.stream_lines import Line
from chatter.logs.filters import UnionAction, read_users
from chatter.wording.lookalikes import fold

MANNERS = ("trigger", "chance", "cooldown", "after", "ignore", "name")  # the options, as argparse names them


@dataclass
class Manners:
    """Decides which lines are answered. Each channel has its own count of seconds and lines."""

    chance: float = 1  # of an answer to a line that does not ask for one
    cooldown: float = 0  # seconds
    after: int = 0  # lines of others
    ignored: frozenset[str] = frozenset()  # users, in lower case
    name: str = ""  # of the user who answers, in lower case
    seed: int | None = None
    clock: StreamClock = field(default_factory=StreamClock)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.spoken: dict[str, float] = {}  # channel -> when the last answer was given
        self.others: Counter[str] = Counter()  # channel -> lines of others since then
        self.warned = False

    def find_objection(self, line: Line, channel: str, asked: bool) -> str:
        """Return why a message is not answered, or "" if it may be. `asked`: whether it contains the trigger.

        Call it for each message, in order.
        """
        by_chance = self.random.random() < self.chance  # drawn for each message: other options do not shift the next
        if self.name and line.user == self.name:
            return "own message"
        if line.user in self.ignored:
            return "ignored user"
        if (self.name or self.ignored) and not line.user:
            if not self.warned:
                log("with --name or --ignore, lines that do not name their user are not answered")
            self.warned = True
            return "no user name"
        self.others[channel] += 1
        if not asked and not by_chance:
            return "by chance" if self.chance else "no trigger"
        if channel in self.spoken and self.clock.now - self.spoken[channel] < self.cooldown:
            return "cooldown"
        if self.others[channel] < self.after:
            return "too few lines of others"
        return ""

    def speak(self, channel: str) -> None:
        """Remember that an answer was given."""
        self.spoken[channel] = self.clock.now
        self.others[channel] = 0


def read_trigger(text: str) -> str:
    if not fold(text).strip():
        raise argparse.ArgumentTypeError("must not be empty: every line contains an empty text")
    return text


def add_manners_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which lines of a stream are answered."""
    add = parser.add_argument_group("which lines of --stream are answered").add_argument
    add("--trigger", type=read_trigger, metavar="NAME", help="only lines that contain NAME, in any case")
    add(
        "--chance",
        type=bounded(float, at_least=0, at_most=1),
        metavar="P",
        help="with this probability also lines without the trigger (default: 0, or 1 without --trigger)",
    )
    add(
        "--cooldown",
        type=bounded(float, at_least=0),
        default=0.0,
        metavar="SECONDS",
        help="only after so many seconds without an answer, by the times in the lines, or else by the clock",
    )
    add("--after", type=bounded(int, at_least=0), default=0, metavar="N", help="only after N lines of others")
    add(
        "--ignore",
        nargs="+",
        action=UnionAction,
        type=read_users,
        metavar="NAME|FILE",
        help="none of these users, such as bots; names or files, as for --exclude-users of parse_logs.py",
    )
    add("--name", default="", help="the user name of the bot, whose own messages are not answered")


def read_manners(args: argparse.Namespace, seed: int) -> Manners:
    """Return the manners that the options ask for."""
    chance = args.chance if args.chance is not None else 0 if args.trigger else 1
    name = args.name.strip().removeprefix("@").lower()
    return Manners(chance, args.cooldown, args.after, frozenset(args.ignore or ()), name, seed)
