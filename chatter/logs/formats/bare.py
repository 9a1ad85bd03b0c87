"""Lines without a time, `user: message`, for chat that somebody copied or wrote down. Only --format bare reads them."""

from __future__ import annotations

from chatter.logs.format import LineFormat, user_message_lines

LINES = LineFormat(**user_message_lines(""), display_names=True, on_request=True)
