"""What Twitch writes about users: the sentences about subscriptions, gifts, raids and watch streaks.

Several programs write such a sentence like a message of the user, and the user's own words behind it.
"""

from __future__ import annotations

import re

OWN_NAME = r"(?iu:(?P=username))"
# One word of a script other than Latin: the display name of a user, which may differ from the login before it.
# Letters, and the marks that belong to letters of Indic scripts and Thai. No emoji, no quotes. Names are short.
LATIN = r"A-Za-z\xaa\xba\xc0-\u02af\u1d00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff\ufb00-\ufb06\uff21-\uff5a"
IN_WORD = r"[\w\u0900-\u0eff]{0,30}"
OTHER_SCRIPT = rf"(?u:{IN_WORD}[^\W\d_{LATIN}]{IN_WORD})"
TIER, NUMBER = r"Tier [1-3]", r"[0-9][0-9,]*"
SENDER = r"(?:an anonymous user|\S+)"
# The sentences after the user's name. The user's own text may follow, after a blank.
SENTENCE = (
    rf"(?:subscribed (?:at {TIER}|with (?:Twitch )?Prime)\.|just subscribed (?:at {TIER}|with (?:Twitch )?Prime)[.!]|"
    rf"gifted a {TIER} sub to \S+!|gifted {NUMBER} months? of {TIER} to \S+[.!]|"
    rf"is gifting {NUMBER} {TIER} Subs? to \S+ community!|converted from a (?:Twitch )?Prime sub to a {TIER} sub!|"
    rf"is continuing the Gift Sub they got from {SENDER}!|"
    rf"is paying forward the Gift they got from {SENDER} to (?:the community|\S+)!|"
    rf"watched {NUMBER} consecutive streams(?: this month)? and sparked a watch streak!)(?= |\Z)"
)
JOINED = r"have joined!(?= |\Z)"
ANONYMOUS, ANONYMOUS_USER = "ananonymousgifter", "An anonymous user"
# A sentence about the user of the line, the group `username`, behind the colon or the bracket after the name.
OWN_NOTICE = (
    rf"(?:{NUMBER} raiders from {OWN_NAME} {JOINED}|"
    rf"(?:{OWN_NAME}|{OTHER_SCRIPT}|(?<=(?i:{ANONYMOUS})[:>] ){ANONYMOUS_USER}) {SENTENCE})"
)
# A sentence about anybody.
ANY_NOTICE = rf"(?:{NUMBER} raiders from (?P<raider>\S+) {JOINED}|(?P<name>{ANONYMOUS_USER}|\S+) {SENTENCE})"
# Part of every sentence, and of few messages: for polars, which cannot look behind or repeat a group.
PERHAPS_NOTICE = (
    "have joined!|subscribed at Tier|subscribed with |gifted |is gifting |converted from a |is continuing the Gift|"
    "is paying forward the Gift|sparked a watch streak!"
)
NOTICE = re.compile(ANY_NOTICE, re.ASCII)


def is_notice(text: str, *names: str) -> bool:
    """Return whether a text begins with a sentence about the user with these `names`.

    >>> is_notice("Ann subscribed with Prime. hello", "ann"), is_notice("Ann subscribed to my newsletter", "ann")
    (True, False)
    """
    found, names = NOTICE.match(text), {name.lower() for name in names}
    if found and found["name"] == ANONYMOUS_USER:
        return ANONYMOUS in names
    return bool(found) and (found["name"] or found["raider"]).lower() in names
