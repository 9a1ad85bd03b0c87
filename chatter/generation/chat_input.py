"""The chat so far: lines of text or of logs, and the channel that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

from chatter.cli import InputError, log
from chatter.generation.stream_lines import read_stream
from chatter.logs.batch import channel_name
from chatter.tokens.chat import channel_header

MAX_LINE_BYTES = 1 << 16  # of a line of standard input; the rest of a longer one is ignored
MAX_JSON_BYTES = 1 << 22  # of a line of JSON, which can only be parsed whole


def read_lines(file: IO[bytes]) -> Iterator[str]:
    """Yield each line of a stream as soon as it comes, cut to MAX_LINE_BYTES, or to MAX_JSON_BYTES if it is JSON."""
    while line := file.readline(MAX_LINE_BYTES):
        rest, limit = line, MAX_JSON_BYTES if line.startswith(b"{") else MAX_LINE_BYTES
        while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES)
            line += rest if len(line) < limit else b""
        yield line.decode(errors="replace").rstrip("\r\n")


def read_typed(lines: Iterable[str], hear: Callable[[str], None] = lambda channel: None) -> Iterator[str]:
    """Yield the text that somebody typed in each line: the message of a log line or of a row of
    parse_logs.py, or else the whole line.

    Call `hear` with the channel of each line, or "", before its text is yielded. Yield "" for events, for lines of
    a row that goes on, and for lines of a log in an unknown format, and warn about the first of these.
    """
    for line in read_stream(lines):
        hear(line.channel)
        yield line.text


class CurrentChannel:
    """The channel that a model speaks in: the wanted channel, or else the channel of the last line of a log.

    If neither is known, use the model's first channel and warn once. Raises InputError if the model lacks `wanted`.
    """

    def __init__(self, channels: Sequence[str] = (), wanted: str = "") -> None:
        self.channels, self.wanted, self.warned = channels, channel_name(wanted), False
        self.name, self.heard = self.wanted, ""  # the channel to speak in; the channel of the last line that named one
        if wanted and not channels:
            raise InputError(
                "the model was not trained with channels. Leave out --channel, or train one on the output of "
                "tokenize_logs.py --with-channel."
            )
        if wanted and self.wanted not in channels:
            raise InputError(f"the model does not know the channel {wanted!r}. Pass one of {', '.join(channels)}.")

    def hear(self, channel: str) -> None:
        """Switch to the channel of a log line ("" if it has none), unless a channel was wanted."""
        name = channel_name(channel)
        self.heard = name or self.heard
        if name and not self.wanted:
            self.name = name if name in self.channels else ""

    def header(self) -> str:
        """Return the header of the channel, or "" if the model was trained without headers."""
        if not self.channels:
            return ""
        if not self.name and len(self.channels) > 1 and not self.warned:
            others = ", ".join(self.channels[1:])
            log(f"speaking in {self.channels[0]}; pass --channel to speak in {others}")
            self.warned = True
        return channel_header(self.name or self.channels[0])
