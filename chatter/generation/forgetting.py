"""The chat that a stream shows to the model, without what moderators removed from it."""

from __future__ import annotations

from collections import defaultdict, deque

from chatter.generation.stream_lines import Line, Removal
from chatter.logs.batch import INVISIBLE_SUFFIXES
from chatter.logs.columns import LOGIN
from chatter.tokens.chat import clean

LATE = 10  # seconds: a line may come so long after its removal, as logs are not strictly in order
MAX_REMOVALS = 100  # that late lines are compared with


class SeenChat:
    """The newest lines of each channel, with the answers to them.

    What is removed goes with its answers, which may repeat it. If it is not certain which lines are meant, all that may
    be meant are removed.
    """

    def __init__(self, num_lines: int, name: str = "") -> None:
        """`name` is the user name, in lower case, of the one who answers."""
        self.name = name
        self.chats: dict[str, deque[Line]] = {}  # channel -> lines
        self.removals: deque[Removal] = deque(maxlen=MAX_REMOVALS)
        self.gone_answers: deque[str] = deque(maxlen=MAX_REMOVALS)  # whose echoes may still come
        self.resize(num_lines)

    def resize(self, num_lines: int) -> None:
        """Keep at most `num_lines` lines of each channel from now on."""
        kept = self.chats
        self.chats = defaultdict(lambda: deque(maxlen=num_lines))
        for channel, lines in kept.items():
            self.chats[channel].extend(lines)

    def texts(self, channel: str) -> list[str]:
        """Return the chat of a channel, the oldest line first."""
        return [line.text for line in self.chats[channel]]

    def add(self, line: Line, channel: str) -> bool:
        """Add a line; return False if it was removed before it came.

        An echo of an answer is not added again, and an echo of an answer that was removed counts as removed.
        """
        if any(came_late(line, removal) for removal in self.removals):
            return False
        if self.name and line.user == self.name:
            for own in self.chats[channel]:
                if own.answers and not own.id and plain(own.text) == plain(line.text):
                    own.id = line.id
                    return True
            if plain(line.text) in self.gone_answers:
                self.gone_answers.remove(plain(line.text))
                return False
        self.chats[channel].append(line)
        return True

    def add_answer(self, text: str, line: Line, channel: str) -> None:
        """Add the answer to a line."""
        self.chats[channel].append(Line(text, channel=line.channel, user=self.name, answers=line))

    def clear(self, channel: str) -> None:
        self.chats[channel].clear()

    def forget(self, removal: Removal) -> int:
        """Remove what moderators removed, and the answers to it; return the number of lines."""
        self.removals.append(removal)
        gone, num_gone = {*self.find(removal)}, 0
        for lines in self.chats.values():
            removed = [line for line in lines if line in gone or line.answers in gone]
            self.gone_answers += [plain(line.text) for line in removed if line.answers and not line.id]
            num_gone += len(removed)
            for line in removed:
                lines.remove(line)
        return num_gone

    def find(self, removal: Removal) -> list[Line]:
        """Return the lines that may be meant by a removal."""
        lines = [line for lines in self.chats.values() for line in lines]
        lines = [line for line in lines if not (line.channel and removal.channel) or line.channel == removal.channel]
        if removal.id and (found := [line for line in lines if line.id == removal.id]):
            return found
        theirs = [line for line in lines if self.may_be(line, removal.user)]
        if removal.user and not any(line.user == removal.user for line in theirs):
            theirs = [line for line in lines if self.may_be(line, removal.user, other_script=True)]
        if removal.kind != "deletions":
            return theirs
        if removal.id:  # a line with another id is another message
            theirs = [line for line in theirs if not line.id]
        same = [line for line in theirs if plain(line.text) == plain(removal.text)]
        return same if removal.text and same else theirs

    def may_be(self, line: Line, user: str, other_script: bool = False) -> bool:
        """Return whether a line may be from a user; "" is anybody.

        `other_script`: whether a login and a display name that is not a login may belong to the same user.
        """
        if not user or line.user == user:
            return True
        if line.answers:
            return False
        differ = bool(LOGIN.fullmatch(line.user)) != bool(LOGIN.fullmatch(user))
        return not line.user or (other_script and differ)


def came_late(line: Line, removal: Removal) -> bool:
    """Return whether a line that comes after its removal was sent before it."""
    if line.channel and removal.channel and line.channel != removal.channel:
        return False
    if removal.kind == "deletions" and removal.id:
        return removal.id == line.id
    sent, removed = line.moment, removal.moment
    if not sent or not removed or sent.has_day != removed.has_day or not 0 < removed.seconds - sent.seconds <= LATE:
        return False
    is_meant = removal.kind != "deletions" or plain(line.text) == plain(removal.text)
    return is_meant and removal.user in ("", line.user)


def plain(text: str) -> str:
    """Return the part of a text that its deletion shows: programs cut it to 50 characters or more."""
    return clean(text).rstrip(f" {INVISIBLE_SUFFIXES}")[:50]
