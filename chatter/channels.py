"""The channel that a model speaks in."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from chatter.cli import InputError
from chatter.logs.batch import channel_name
from chatter.tokens.chat import channel_header


class CurrentChannel:
    """The channel that a model speaks in: the wanted one, or else the one that the last line of chat came from.

    If neither is known, it is the first that the model knows, which is said once.
    """

    def __init__(self, channels: Sequence[str] = (), wanted: str = "") -> None:
        self.channels, self.wanted, self.is_said = channels, channel_name(wanted), False
        self.name = self.wanted
        if wanted and not channels:
            raise InputError(
                "the model was not trained with channels. Leave out --channel, or train one on a dataset of "
                "tokenize_logs.py --with-channel."
            )
        if wanted and self.wanted not in channels:
            raise InputError(f"the model knows no channel {wanted!r}. Pass one of {', '.join(channels)}.")

    def hear(self, channel: str) -> None:
        """Notice the channel of a line of a log; "" if it does not say."""
        name = channel_name(channel)
        if name and not self.wanted:
            self.name = name if name in self.channels else ""

    def header(self) -> str:
        """Return the header of the channel, "" if the model was trained without."""
        if not self.channels:
            return ""
        if not self.name and len(self.channels) > 1 and not self.is_said:
            others = ", ".join(self.channels[1:])
            print(f"speaking in {self.channels[0]}; pass --channel to speak in {others}", file=sys.stderr)
            self.is_said = True
        return channel_header(self.name or self.channels[0])
