"""DiscordChatExporter: JSON, and CSVs with the columns AuthorID, Author, Date, Content, Attachments and Reactions.

github.com/Tyrrrz/DiscordChatExporter, Core/Exporting/JsonMessageWriter.cs, CsvMessageWriter.cs and
PlainTextMessageExtensions.cs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatter.logs.batch import BOTS, EMPTY, UNNAMED
from chatter.logs.format import DocumentFacts, JsonFormat, TableFormat, has_keys
from chatter.logs.times import iso_time

CHAT_TYPES = ("Default", "Reply")
# What the program writes as the content of joins, pins and calls. A CSV does not mark them in any other way.
NOTICE = (
    r"^(?:Joined the server\.|Pinned a message\.|Started a thread\.|Changed the channel (?:name(?:: .*)?\.?|icon\.)|"
    r"Started a call that lasted [\d,]+ minutes\.|Added (?:a recipient|.+ to the group)\.|Left the group\.|"
    r"Removed (?:a recipient|.+ from the group)\.)$"
)


def parse_message(entry: Mapping[str, Any], facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of a message, with the nickname of the user.

    A forwarded text is not the user's own, and its author is unknown.
    """
    author = entry.get("author") or {}
    name, text = author.get("name") or "", entry.get("content") or ""
    if entry["type"] not in CHAT_TYPES:
        return "notices", None
    if author.get("isBot"):
        return BOTS, None
    if not name:
        return UNNAMED, None
    if not text:
        return EMPTY, None
    return "messages", [
        *iso_time(entry.get("timestamp") or ""),
        facts.channel,
        name,
        text,
        author.get("nickname") or "",
    ]


JSON = JsonFormat(
    matches=has_keys({"isPinned", "timestampEdited", "callEndedTimestamp"}, {"type", "content", "author"}),
    parse=parse_message,
    example='{"guild": {}, "channel": {}, "messages": [{"type": "", "content": "", "author": {}}]}',
    has_moderation=False,
)
CSV = TableFormat(
    header=("AuthorID", "Author", "Date", "Content", "Attachments", "Reactions"),
    columns={"username": "Author", "time": "Date", "message": "Content"},
    notice=NOTICE,
    after_name=r"#\d{4}$",  # the number of an account in versions of 2023 and before
)
