"""Channels: the line at the beginning of a block that says which one it is of, and what a model knows of them.

Only the line behind the start token is a header. A chatter who types "#channel" writes a message, in a later line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from chatter.chat import FORMAT_FILE
from chatter.cli import InputError
from chatter.files import atomic_output
from chatter.logs.batch import channel_name


def channel_header(channel: str) -> str:
    """Return the line that begins the blocks of a channel."""
    return f"#{channel}"


def read_channels(model: Path) -> list[str]:
    """Return the channels that a model was trained on with headers; none if it was trained without."""
    path = model / FORMAT_FILE
    try:
        return [str(channel) for channel in dict(json.loads(path.read_bytes())).get("channels", [])]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}). Run train.py again.") from error


def write_channels(folder: Path, channels: Collection[str], start: Path) -> None:
    """Write the channels of a model to its folder, with those of the model that its training started from."""
    if channels:
        path = folder / FORMAT_FILE
        known = json.loads(path.read_bytes()) if path.exists() else {}
        known["channels"] = [*dict.fromkeys([*channels, *read_channels(start)])]
        with atomic_output(path) as partial:
            partial.write_text(json.dumps(known, indent=1), encoding="utf-8")


def opening_header(data: Mapping[str, Any]) -> str:
    """Return the header of the first channel of a dataset, of which `data` is the summary; "" if it has none."""
    return channel_header(data["channels"][0]) if data.get("channels") else ""


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
