"""YouTube's live chat as yt-dlp writes it, live_chat.json: one JSON object a line, with one or more actions in each.

github.com/yt-dlp/yt-dlp, yt_dlp/downloader/youtube_live_chat.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chatter.logs.batch import EMPTY, UNNAMED
from chatter.logs.format import DocumentFacts, JsonFormat, has_keys
from chatter.logs.times import epoch_time, offset_time

REPLAY = "replayChatItemAction"
# What people typed, some of it with a payment or with the anniversary of a membership.
MEMBERSHIP = "liveChatMembershipItemRenderer"
MESSAGES = ("liveChatTextMessageRenderer", "liveChatPaidMessageRenderer", MEMBERSHIP)
NOTICES = (
    "liveChatPaidStickerRenderer",
    "liveChatSponsorshipsGiftPurchaseAnnouncementRenderer",
    "liveChatSponsorshipsGiftRedemptionAnnouncementRenderer",
    "liveChatViewerEngagementMessageRenderer",
    "liveChatModeChangeMessageRenderer",
    "liveChatPlaceholderItemRenderer",
    "liveChatDonationAnnouncementRenderer",
    "liveChatAutoModMessageRenderer",
    "giftMessageViewModel",
)
# Actions other than a new item of the chat.
KINDS = {
    "markChatItemAsDeletedAction": "deletions",
    "markChatItemsByAuthorAsDeletedAction": "bans",
    "removeChatItemAction": "deletions",
    "removeChatItemByAuthorAction": "bans",
    "addLiveChatTickerItemAction": "notices",
    "addBannerToLiveChatCommand": "notices",
    "removeBannerForLiveChatCommand": "notices",
    "replaceChatItemAction": "notices",
    "liveChatReportModerationStateCommand": "notices",
    "changeEngagementPanelVisibilityAction": "notices",
    "showLiveChatActionPanelAction": "notices",
    "updateLiveChatPollAction": "notices",
    "closeLiveChatActionPanelAction": "notices",
    "showLiveChatTooltipCommand": "notices",
    "signalAction": "notices",
}


def split_line(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the actions in a line, each with its offset into the video, which recordings of live chat have outside."""
    replay = entry[REPLAY]
    offset = replay.get("videoOffsetTimeMsec") or entry.get("videoOffsetTimeMsec") or 0
    return [{REPLAY: action, "offset": offset} for action in replay.get("actions") or ()]


def parse_action(entry: Mapping[str, Any], facts: DocumentFacts) -> tuple[str, list[str] | None]:
    """Return the kind and the row of an action."""
    action = entry[REPLAY]
    if "addChatItemAction" not in action:
        return next((KINDS[key] for key in action if key in KINDS), "unreadable lines"), None
    item = action["addChatItemAction"]["item"]
    kind = next((key for key in item if key in MESSAGES), "")
    if not kind:
        return ("notices" if any(key in NOTICES for key in item) else "unreadable lines"), None
    renderer = item[kind]
    text, name = read_text(renderer.get("message")), read_text(renderer.get("authorName")).removeprefix("@")
    if not text:
        return ("notices" if kind == MEMBERSHIP else EMPTY), None
    if not name:
        return UNNAMED, None
    stamp = renderer.get("timestampUsec")
    when = epoch_time(int(stamp)) if stamp else offset_time(int(entry["offset"]) / 1000, facts.start)
    return "messages", [*when, facts.channel, name, text]


def read_text(value: Mapping[str, Any] | None) -> str:
    """Return a text of YouTube. An emoji is a part of its own: itself, or the name of an image such as :_wave:."""
    if not value:
        return ""
    if "runs" not in value:
        return value.get("simpleText") or ""
    return "".join(read_emoji(run["emoji"]) if "emoji" in run else run.get("text") or "" for run in value["runs"])


def read_emoji(emoji: Mapping[str, Any]) -> str:
    shortcuts = emoji.get("shortcuts") or [""]
    return shortcuts[0] if emoji.get("isCustomEmoji") else emoji.get("emojiId") or shortcuts[0]


JSON = JsonFormat(
    matches=has_keys({REPLAY}),
    parse=parse_action,
    example='{"replayChatItemAction": {"actions": [], "videoOffsetTimeMsec": "0"}}',
    split=split_line,
    has_moderation=False,
    has_login=lambda entry: False,
)
