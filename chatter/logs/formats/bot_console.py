"""What bots print about the messages they see: `[channel] - [9:05:09 PM] user: message`."""

from __future__ import annotations

from chatter.logs.format import LineFormat, user_message_lines

STAMP = (
    r"\[#?(?P<channel>[A-Za-z0-9_]+)\] - "
    r"\[(?P<time>[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?(?: [AP]M)?)\] "
)

LINES = LineFormat(
    **user_message_lines(STAMP),
    example="[channel] - [9:05:09 PM] user: message",
    clock="local",
    rolls_over=True,
    display_names=True,
)
