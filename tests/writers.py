"""One made-up chat as each program would write it. It uses nothing of chatter/, so that mistakes there show."""

import csv
import io
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

CHANNEL = "some_channel"
START = datetime(2024, 3, 7, 15, 58, tzinfo=UTC)  # of the video; at +0800, midnight is two minutes away
EVENING = 6 * 3600  # seconds to the end of the day, at +0100: ZNC begins another file, and tmi.js writes no days
CHINA, BERLIN = timezone(timedelta(hours=8)), timezone(timedelta(hours=1))


@dataclass(frozen=True)
class Entry:
    """Something that happened in the chat."""

    seconds: int  # since START
    kind: str  # message, sub, timeout, ban, clear or deletion
    login: str = ""
    display: str = ""
    text: str = ""  # what the user typed, also with a sub
    system: str = ""  # what Twitch said of a sub, about {user}

    @property
    def when(self):
        return START + timedelta(seconds=self.seconds)

    @property
    def notice(self):
        return self.system.format(user=self.display)


OTTER, DUCK, CHERRY = ("nimble_otter", "Nimble_Otter"), ("tiny_duck", "Tiny_Duck"), ("sakura_b", "さくらんぼ")
TIER = "{user} subscribed at Tier 1. They've subscribed for 3 months!"
CHAT = [
    Entry(1, "message", *OTTER, "hello chat"),
    Entry(2, "message", *CHERRY, "こんにちは, 안녕 👋🏽"),
    Entry(3, "message", *DUCK, 'a colon: here, a comma, "quotes" and one "'),
    Entry(3, "message", *DUCK, "@loud_yeti has been banned"),
    Entry(60, "sub", *DUCK, "typed with a sub", TIER),
    Entry(61, "sub", *DUCK, "", TIER),
    Entry(62, "timeout", "loud_yeti", "Loud_Yeti"),
    Entry(63, "ban", "loud_yeti", "Loud_Yeti"),
    Entry(64, "deletion", "loud_yeti", "Loud_Yeti", "what was said"),
    Entry(65, "clear"),
    Entry(119, "message", *OTTER, "[0:00:12] <Tiny_Duck> a line | [21:05:09] nimble_otter: inside of a line"),
    Entry(121, "message", *OTTER, "hello chat"),
    Entry(3723, "message", *CHERRY, "after an hour"),
    Entry(90123, "message", *OTTER, "after a day"),
]


def lines(written, end="\n"):
    return "".join(f"{line}{end}" for line in written if line is not None)


def justlog_text(chat, padded=False, end="\n"):
    def write(entry):
        stamp = f"[{entry.when:%Y-%m}-{entry.when.day if not padded else f'{entry.when:%d}'} {entry.when:%H:%M:%S}]"
        again = f"{entry.login}: " if padded else ""
        return f"{stamp} #{CHANNEL} " + {
            "message": f"{entry.login}: {entry.text}",
            "sub": f"{again}{entry.notice} {entry.text}",
            "timeout": f"{again}{entry.login} has been timed out for 600 seconds",
            "ban": f"{again}{entry.login} has been banned",
            "clear": "Chat has been cleared" if padded else " has been banned",
        }.get(entry.kind, "")

    return lines((write(entry) for entry in chat if entry.kind != "deletion"), end)


def rustlog_text(chat):
    return justlog_text(chat, padded=True, end="\r\n")


def raw_line(entry):
    sent = f"tmi-sent-ts={int(entry.when.timestamp() * 1000)}"
    server, name = ":tmi.twitch.tv", f"{entry.login}!{entry.login}@{entry.login}.tmi.twitch.tv"
    system = entry.notice.replace(" ", r"\s")
    return {
        "message": f"@display-name={entry.display};{sent} :{name} PRIVMSG #{CHANNEL} :{entry.text}",
        "sub": f"@login={entry.login};system-msg={system};{sent} {server} USERNOTICE #{CHANNEL}"
        + (f" :{entry.text}" if entry.text else ""),
        "timeout": f"@ban-duration=600;{sent} {server} CLEARCHAT #{CHANNEL} :{entry.login}",
        "ban": f"@room-id=77;{sent} {server} CLEARCHAT #{CHANNEL} :{entry.login}",
        "clear": f"@room-id=77;{sent} {server} CLEARCHAT #{CHANNEL}",
        "deletion": f"@login={entry.login};{sent} {server} CLEARMSG #{CHANNEL} :{entry.text}",
    }[entry.kind]


def raw_irc(chat):
    return lines(map(raw_line, chat), "\r\n")


def overrustle(chat):
    def write(entry):
        stamp = f"[{entry.when:%Y-%m-%d %H:%M:%S} UTC]"
        if entry.kind == "message":
            return f"{stamp} {entry.login}: {entry.text}"
        if entry.kind == "sub":
            said = f" [SubMessage]: {entry.text}" if entry.text else ""
            return f"{stamp} twitchnotify: {entry.display} just subscribed with Twitch Prime!{said}"
        return None

    return lines(map(write, chat))


def in_video(entry):
    """Return what a recording of the chat holds of an entry, under the name of its user: "" or more."""
    return {"message": entry.text, "sub": f"{entry.notice} {entry.text}"}.get(entry.kind)


def recorded(chat):
    return [entry for entry in chat if in_video(entry) is not None]


def hours(entry):
    return f"{entry.seconds // 3600}:{entry.seconds // 60 % 60:02}:{entry.seconds % 60:02}"


def downloader_utc(chat):
    return lines(
        (f"[{entry.when:%Y-%m-%d %H:%M:%S} UTC] {entry.display}: {in_video(entry)}" for entry in recorded(chat)), "\r\n"
    )


def downloader_relative(chat):
    return lines(f"[{hours(entry)}] {entry.display}: {in_video(entry)}" for entry in recorded(chat))


def tcd(chat):
    def write(number, entry):
        name = f"{['', '%', '@~'][number % 3]}{entry.display}{' ' if number == 4 else ''}"
        return f"[{timedelta(seconds=entry.seconds)}] <{name}> {in_video(entry)}"

    return lines(write(number, entry) for number, entry in enumerate(recorded(chat)))


def chatty(chat):
    def write(number, entry):
        name = entry.display if entry.display.isascii() else f"{entry.display} ({entry.login})"
        said = {
            "message": f"<{['', '@%', '+'][number % 3]}{name}> {entry.text}",
            "sub": f"[Notification] {entry.display} just subscribed!" + (f" [{entry.text}]" if entry.text else ""),
            "timeout": f"BAN: {entry.login} (600s)",
            "ban": f"BAN: {entry.login}",
            "deletion": f"DELETED: {entry.login} ({entry.text})",
        }
        return f"[{entry.when.astimezone(CHINA):%H:%M:%S}] {said[entry.kind]}" if entry.kind in said else None

    # Nobody wrote for a day, so the program was closed: this is its second session.
    began = START.astimezone(CHINA)
    heads = {0: f"# Log started: {began:%Y-%m-%d %H:%M:%S %z}"}
    for number, (before, entry) in enumerate(itertools.pairwise(chat), 1):
        if entry.seconds - before.seconds > 12 * 3600:
            close = f"# Log closed: {before.when.astimezone(CHINA):%Y-%m-%d %H:%M:%S %z}"
            heads[number] = f"{close}\n-\n# Log started: {entry.when.astimezone(CHINA):%Y-%m-%d %H:%M:%S %z}"
    written = [line for number, entry in enumerate(chat) for line in (heads.get(number), write(number, entry))]
    text = lines(written).replace("\n[", "\r\n[")
    return f"\ufeff{text}" if chat else lines([heads[0]])


def znc(chat):
    def write(entry):
        return f"[{entry.when.astimezone(BERLIN):%H:%M:%S}] <{entry.login}> {entry.text}"

    joined = "*** Joins: tiny_duck (tiny_duck@tiny_duck.tmi.twitch.tv)"
    written = [write(entry) for entry in chat if entry.kind == "message" and entry.seconds < EVENING]
    return lines(f"[{START.astimezone(BERLIN):%H:%M:%S}] {joined}" for _ in chat[:1]) + lines(written)


def tmi_js(chat):
    def write(entry):
        said = {
            "message": f"<{entry.login}>: {entry.text}",
            "timeout": f"{entry.login} has been timed out for 600 seconds.",
            "ban": f"{entry.login} has been banned.",
            "clear": "Chat was cleared by a moderator.",
            "deletion": f"{entry.login}'s message has been deleted.",
        }
        text = said.get(entry.kind)
        return text and f"[{entry.when.astimezone(BERLIN):%H:%M}] info: [#{CHANNEL}] {text}"

    start = f"[{START.astimezone(BERLIN):%H:%M}] info: Joined #{CHANNEL}"
    return lines([start] * bool(chat)) + lines(write(entry) for entry in chat if entry.seconds < EVENING)


def chat_downloader_text(chat):
    def write(entry):
        clock = hours(entry) if entry.seconds >= 3600 else f"{entry.seconds // 60}:{entry.seconds % 60:02}"
        badge = "(Subscriber) " if entry.display == DUCK[1] else ""
        return f"{clock} | {badge}{entry.display}: {entry.text}"

    return lines(write(entry) for entry in chat if entry.kind == "message")


def chatterino(chat, blank=""):
    def write(entry):
        other = not entry.display.isascii()
        name = f"{entry.display} {entry.login}" if other else f"{blank}{entry.login}"
        return {
            "message": [f"{name}: {entry.text}"],
            "sub": [f"{name}: {entry.text}"] * bool(entry.text) + [entry.notice],
            "timeout": [f"{entry.login} has been timed out for 10m. "],
            "ban": [f"{entry.login} has been permanently banned. "],
            "clear": ["Chat has been cleared by a moderator."],
            "deletion": [f"A message from {entry.login} was deleted: {entry.text}"],
        }[entry.kind]

    written, day = [], None
    for entry in chat:
        local = entry.when.astimezone(BERLIN)
        if local.date() != day:  # a file a day, here one after the other
            day = local.date()
            written += [f"# Start logging at {local:%Y-%m-%d %H:%M:%S} Central Europe Standard Time"]
            written += [f"[{local:%H:%M:%S}] {local:%A, %B} {local.day}, {local.year}"]
        written += [f"[{local:%H:%M:%S}] {line}" for line in write(entry)]
    return lines(written)


def chatterino_old(chat):
    return chatterino(chat, " ")


def bare(chat):
    return lines(f"{entry.display}: {in_video(entry)}" for entry in recorded(chat))


def stamp(entry, digits):
    fraction = f".{digits}" if digits else ""
    return f"{entry.when:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def comment(number, entry):
    badges = [{"_id": "subscriber", "version": "3"}] if number % 2 else None
    return {
        "_id": f"c{number}",
        "created_at": stamp(entry, ["", "5", "74506207"][number % 3]),
        "channel_id": "77",
        "content_offset_seconds": entry.seconds + number % 2 / 4,
        "commenter": {"display_name": entry.display, "_id": "1", "name": entry.login, "logo": None},
        "message": {
            "body": in_video(entry),
            "fragments": [{"text": in_video(entry), "emoticon": None}],
            "user_badges": badges,
        },
    }


def comments(chat):
    return [comment(number, entry) for number, entry in enumerate(recorded(chat))]


def downloader_json(chat):
    document = {
        "FileInfo": {"Version": {"Major": 1, "Minor": 4, "Patch": 0}},
        "streamer": {"name": "Some_Channel", "login": CHANNEL, "id": 77},
        "clipper": None,
        "video": {"title": "a title", "id": "1", "created_at": f"{START:%Y-%m-%dT%H:%M:%SZ}"},
        "comments": comments(chat),
        "embeddedData": None,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def v5_array(chat):
    return json.dumps(comments(chat))


def camel(value):
    """Return JSON with keys in camel case."""
    if isinstance(value, dict):
        value = {
            key.split("_")[0] + key.title().replace("_", "")[len(key.split("_")[0]) :]: value[key] for key in value
        }
        return {key: camel(each) for key, each in value.items()}
    return [camel(each) for each in value] if isinstance(value, list) else value


def twitch_dl(chat):
    written = [
        camel({key.strip("_"): value for key, value in each.items()})
        | {"commenter": {"login": each["commenter"]["name"], "displayName": each["commenter"]["display_name"]}}
        for each in comments(chat)
    ]
    return json.dumps({"video": {"createdAt": f"{START:%Y-%m-%dT%H:%M:%SZ}"}, "video_comments": 1, "comments": written})


def justlog_json(chat, raw=True):
    def write(entry):
        tags, text = {"room-id": "77"}, entry.text
        if entry.kind == "timeout":
            tags |= {"ban-duration": "600", "target-user-id": "1"}
            text = f"{entry.login} has been timed out for 600 seconds"
        elif entry.kind == "ban":
            tags |= {"target-user-id": "1"}
            text = f"{entry.login} has been banned"
        elif entry.kind == "clear":
            text = "chat has been cleared"
        elif entry.kind == "sub":
            tags |= {"system-msg": entry.notice, "login": entry.login}
        return {
            "text": text,
            "systemText": entry.notice,
            "displayName": entry.display,
            "timestamp": stamp(entry, ""),
            "id": "1",
            "tags": tags,
            "username": entry.login,
            "channel": CHANNEL,
            "raw": raw_line(entry) if raw else "",
            "type": {"message": 1, "sub": 4}.get(entry.kind, 2),
        }

    return json.dumps({"messages": [write(entry) for entry in chat if entry.kind != "deletion"]}, ensure_ascii=False)


def justlog_json_without_raw(chat):
    return justlog_json(chat, raw=False)


def rustlog_ndjson(chat):
    def write(entry):
        tags, text, display = {"room-id": "77"}, entry.text, entry.display
        if entry.kind == "sub":
            tags |= {"system-msg": entry.notice, "login": entry.login}
            text = f"{entry.notice} {entry.text}".rstrip(" ")
        elif entry.kind in ("timeout", "ban"):
            tags |= {"target-user-id": "1"} | ({"ban-duration": "600"} if entry.kind == "timeout" else {})
            text, display = (
                f"{entry.login} has been {'timed out for 600 seconds' if entry.kind == 'timeout' else 'banned'}",
                "",
            )
        elif entry.kind == "clear":
            text, display = "Chat has been cleared", ""
        return {"text": text, "displayName": display, "timestamp": stamp(entry, "123"), "id": "1", "tags": tags}

    written = (write(entry) for entry in chat if entry.kind != "deletion")
    return lines((json.dumps(each, ensure_ascii=False) for each in written), "\r\n")


def chat_downloader_json(chat):
    """Write what it wrote before 2021, when the names of users stood for them."""
    written = [
        {
            "author": entry.display,
            "message": in_video(entry),
            "time_in_seconds": float(entry.seconds),
            "time_text": hours(entry),
            "timestamp": int(entry.when.timestamp() * 1e6) + 129857,
        }
        for entry in recorded(chat)
    ]
    return json.dumps(written, sort_keys=True)


def chat_downloader_lines(chat):
    def write(entry):
        author = {"author": {"name": entry.display.lower(), "display_name": entry.display, "id": "1"}}
        what = {
            "message": author | {"message": entry.text, "message_type": "text_message"},
            "sub": author
            | {"message": entry.text or None, "message_type": "resubscription", "system_message": entry.notice},
            "timeout": {"message_type": "ban_user", "banned_user": entry.login, "ban_duration": 600},
            "ban": {"message_type": "ban_user", "banned_user": entry.login, "ban_type": "permanent"},
            "clear": {"message_type": "clear_chat"},
            "deletion": {"message_type": "delete_message", "message": entry.text},
        }
        return what[entry.kind] | {"timestamp": int(entry.when.timestamp() * 1e6) + 129857}

    return lines(json.dumps(write(entry), sort_keys=True) for entry in chat)


def table(chat, delimiter=",", end="\r\n"):
    file = io.StringIO()
    rows = csv.writer(
        file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL
    )
    rows.writerow(["Time", "user_name", "user_color", "message"])
    rows.writerows(
        [stamp(entry, "123"), entry.login, "#ff0000", entry.text] for entry in chat if entry.kind == "message"
    )
    return file.getvalue()


def tsv(chat):
    return table(chat, "\t", "\n")


def typed(chat):
    return [entry for entry in chat if entry.kind == "message"]


def parquet(chat):
    """Write the columns that data sets have, in groups of a few rows."""
    file, chat = io.BytesIO(), typed(chat)
    columns = {"Message": [entry.text for entry in chat], "User": [entry.login for entry in chat]}
    when = pa.array([entry.when for entry in chat], pa.timestamp("ms", "Europe/Berlin"))
    pq.write_table(pa.table(columns | {"Created_At": when}), file, row_group_size=3)
    return file.getvalue()


def streams(chat):
    """Write a stream a row, with the chat in lists."""
    file, chat = io.BytesIO(), typed(chat)
    parts = [chat[:2], [], chat[2:]]
    lists = {
        "messages": [[entry.text for entry in part] for part in parts],
        "users": [[entry.login for entry in part] for part in parts],
        "timestamps": [[int(entry.when.timestamp()) for entry in part] for part in parts],
    }
    schema = pa.schema(
        {name: pa.string() for name in ("streamer_id", "document_id")}
        | {"messages": pa.list_(pa.string()), "users": pa.list_(pa.string()), "timestamps": pa.list_(pa.int64())}
    )
    table = pa.table({"streamer_id": [CHANNEL] * 3, "document_id": ["1", "2", "3"]} | lists, schema)
    pq.write_table(table, file, row_group_size=2)
    return file.getvalue()


def arrow(chat, new=pa.ipc.new_stream):
    """Write what the library datasets writes: an Arrow stream."""
    file, chat = io.BytesIO(), typed(chat)
    table = pa.table(
        {
            "author": pa.array(
                [{"id": 5, "name": entry.display} for entry in chat], pa.struct({"id": "i8", "name": "str"})
            ),
            "text": pa.array([entry.text for entry in chat], pa.large_string()),
            "time": pa.array([entry.when.timestamp() for entry in chat], pa.float64()),
        }
    )
    with new(file, table.schema) as output:
        output.write_table(table, max_chunksize=4)
    return file.getvalue()


def feather(chat):
    return arrow(chat, pa.ipc.new_file)


def object_lines(chat):
    def write(entry):
        return {"timestamp": stamp(entry, "123"), "username": entry.login, "message": entry.text}

    return lines(json.dumps(write(entry), ensure_ascii=False) for entry in typed(chat))


def object_array(chat):
    def write(entry):
        user = {"id": 5, "login": entry.login, "name": entry.display}
        return {"time": int(entry.when.timestamp()), "user": user, "channel": {"name": CHANNEL}, "content": entry.text}

    return json.dumps([write(entry) for entry in typed(chat)])


def discord_entries(chat):
    for number, entry in enumerate(chat):
        if entry.kind in ("message", "sub"):
            kind = ["Default", "Reply"][number % 2] if entry.kind == "message" else "GuildMemberJoin"
            yield number, entry, kind, entry.text if entry.kind == "message" else "Joined the server."


def discord_json(chat):
    def write(number, entry, kind, text):
        author = {"id": "1", "name": entry.login, "discriminator": "0000", "nickname": entry.display, "isBot": False}
        edited = {"timestampEdited": None, "callEndedTimestamp": None, "isPinned": False}
        local = entry.when.astimezone(BERLIN)
        when = f"{local:%Y-%m-%dT%H:%M:%S}.{number:03}+01:00"
        return {"id": f"{number}", "type": kind, "timestamp": when} | edited | {"content": text, "author": author}

    document = {
        "guild": {"id": "1", "name": "A Server"},
        "channel": {"id": "2", "type": "GuildTextChat", "category": "Text Channels", "name": CHANNEL, "topic": None},
        "messages": [write(*each) for each in discord_entries(chat)],
    }
    return json.dumps(document | {"messageCount": len(document["messages"])}, ensure_ascii=False)


def discord_csv(chat):
    file = io.StringIO()
    rows = csv.writer(file, quoting=csv.QUOTE_ALL)
    file.write("AuthorID,Author,Date,Content,Attachments,Reactions\r\n")
    for number, entry, _, text in discord_entries(chat):
        name = f"{entry.login}#1234" if number % 2 else entry.login
        rows.writerow(["1", name, f"{entry.when:%Y-%m-%dT%H:%M:%S}.1230000+00:00", text, "", ""])
    return file.getvalue()


def yt_dlp(chat):
    """Write two actions a line, with the offset inside as in replays, or beside as in recordings of live chat."""

    def write(entry):
        name = {"authorName": {"simpleText": entry.display}, "timestampUsec": f"{int(entry.when.timestamp())}123456"}
        if entry.kind != "message":
            item = {"liveChatMembershipItemRenderer": name | {"headerSubtext": {"simpleText": "Welcome"}}}
            return {"addChatItemAction": {"item": item}}
        first, _, second = entry.text.partition("👋🏽")
        runs = [{"text": first}] * bool(first)
        if "👋🏽" in entry.text:
            runs += [{"emoji": {"emojiId": "👋🏽", "shortcuts": [":wave:"]}}, *([{"text": second}] * bool(second))]
        return {"addChatItemAction": {"item": {"liveChatTextMessageRenderer": name | {"message": {"runs": runs}}}}}

    chat, written = [entry for entry in chat if entry.kind in ("message", "sub")], []
    for first in range(0, len(chat), 2):
        actions, offset = (
            [*map(write, chat[first : first + 2])],
            {"videoOffsetTimeMsec": str(chat[first].seconds * 1000)},
        )
        if first % 4:
            written.append({"replayChatItemAction": {"actions": actions}} | offset | {"isLive": True})
        else:
            written.append({"replayChatItemAction": {"actions": actions} | offset})
    return lines(json.dumps(each, ensure_ascii=False) for each in written)


def kick(chat):
    def write(entry):
        sender = {"id": 5, "slug": entry.login.replace("_", "-"), "username": entry.login, "identity": {"badges": []}}
        kind = "message" if entry.kind == "message" else "celebration"
        where = {"id": "a", "chat_id": 7, "created_at": f"{entry.when:%Y-%m-%dT%H:%M:%SZ}"}
        return where | {"content": entry.text, "type": kind, "metadata": None, "sender": sender}

    messages = [write(entry) for entry in chat if entry.kind in ("message", "sub")]
    return json.dumps({"status": {"error": False}, "data": {"messages": messages, "cursor": "1"}}, ensure_ascii=False)


def recent_messages(chat):
    received = "@historical=1;rm-received-ts=1709845509999;"
    messages = [raw_line(entry).replace("@", received, 1) for entry in chat]
    return json.dumps({"messages": messages, "error": None, "error_code": None}, ensure_ascii=False)


def irssi(chat):
    written, day = [], None
    for number, entry in enumerate(typed(chat)):
        local = entry.when.astimezone(BERLIN)
        if day is None:
            written.append(f"--- Log opened {local:%a %b %d %H:%M:%S %Y}")
            written.append(f"{local:%H:%M} -!- tiny_duck [tiny_duck@tiny_duck.tmi.twitch.tv] has joined #{CHANNEL}")
        elif day != local.date():
            written.append(f"--- Day changed {local:%a %b %d %Y}")
        day = local.date()
        written.append(f"{local:%H:%M} <{' @+'[number % 3]}{entry.login}> {entry.text}")
    return lines(written)


def weechat(chat):
    written = [
        f"{entry.when.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}\t{'@' * (number % 2)}{entry.login}\t{entry.text}"
        for number, entry in enumerate(typed(chat))
    ]
    joined = f"{START.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}\t-->\ttiny_duck (tiny_duck@tmi.twitch.tv) has joined"
    return lines([joined] * bool(chat) + written)


def bot_console(chat):
    return lines(
        f"[{CHANNEL}] - [{entry.when.astimezone(BERLIN):%I:%M:%S %p}] {entry.login}: {entry.text}"
        for entry in typed(chat)
        if entry.seconds < EVENING
    )


def tcd_with_milliseconds(chat):
    return "".join(f"{line.replace('] ', '.721] ', 1)}\n" for line in tcd(chat).split("\n")[:-1])


LOGIN, DISPLAY = attrgetter("login"), attrgetter("display")


def chatty_name(entry):
    return entry.display if entry.display.isascii() else entry.login


def login_with_sub(entry):
    return entry.login if entry.kind == "sub" else entry.display


def display_with_sub(entry):
    return entry.display if entry.kind == "sub" else entry.login


@dataclass(frozen=True)
class Writer:
    """What the file of a program says."""

    file: str  # its name, which may say more than its lines
    # the chat -> its content, as text or as bytes
    write: Callable
    format_name: str  # a key of LINE_FORMATS, JSON_FORMATS or TABLE_FORMATS, or what its reader reads
    when: str  # "UTC", "+0100" for the time of the writer, "offset" into the video, or "" for nothing
    name: Callable = LOGIN  # of the user of an entry
    channel: str = CHANNEL  # what it says of it
    subs: bool = False  # whether what users typed with a sub stands apart from the sub
    moderation: bool = False  # whether it has timeouts and bans
    within: int = 1 << 20  # the file ends so many seconds after START
    clock: str = "%H:%M:%S"

    def content(self, chat):
        """Return the bytes of the file."""
        written = self.write(chat)
        return written.encode() if isinstance(written, str) else written

    @property
    def is_binary(self):
        return isinstance(self.write([]), bytes)


WRITERS = {
    "justlog": Writer("log.txt", justlog_text, "justlog and rustlog", "UTC", moderation=True),
    "rustlog": Writer("log.txt", rustlog_text, "justlog and rustlog", "UTC", moderation=True),
    "raw IRC": Writer("log.txt", raw_irc, "raw IRC", "UTC", subs=True, moderation=True),
    "OverRustle": Writer("2024-03-07.txt", overrustle, "OverRustle", "UTC", display_with_sub, "", subs=True),
    "UTC": Writer("log.txt", downloader_utc, "TwitchDownloader (UTC)", "UTC", DISPLAY, ""),
    "relative": Writer(
        "[3-7-24] Some_Channel - title - Chat.txt",
        downloader_relative,
        "TwitchDownloader (relative)",
        "offset",
        DISPLAY,
    ),
    "tcd": Writer(f"{CHANNEL}-{START:%Y-%m-%dT%H%M%SZ}.tcd", tcd, "tcd", "UTC", DISPLAY),
    "Chatty": Writer(f"#{CHANNEL}.log", chatty, "Chatty", "UTC", chatty_name, subs=True, moderation=True),
    "ZNC": Writer("2024-03-07.log", znc, "ZNC", "+0100", channel="", within=EVENING),
    "tmi.js": Writer(
        "bot-2024-03-07.log", tmi_js, "tmi.js", "+0100", moderation=True, within=EVENING, clock="%H:%M:00"
    ),
    "chat-downloader": Writer("log.txt", chat_downloader_text, "chat-downloader", "offset", DISPLAY, ""),
    "Chatterino": Writer(f"{CHANNEL}-2024-03-07.log", chatterino, "Chatterino", "+0100", subs=True, moderation=True),
    "old Chatterino": Writer(
        f"{CHANNEL}-2024-03-07.log", chatterino_old, "Chatterino", "+0100", subs=True, moderation=True
    ),
    "bare": Writer("log.txt", bare, "bare", "", DISPLAY, ""),
    "TwitchDownloader 1.4.0": Writer("log.json", downloader_json, "TwitchDownloader JSON", "UTC"),
    "v5 array": Writer("log.json", v5_array, "TwitchDownloader JSON", "UTC", channel="77"),
    "twitch-dl": Writer(f"{CHANNEL}_2024-03-07.json", twitch_dl, "TwitchDownloader JSON", "UTC"),
    "justlog JSON": Writer("log.json", justlog_json, "justlog and rustlog JSON", "UTC", subs=True, moderation=True),
    "justlog JSON without raw": Writer(
        "log.json", justlog_json_without_raw, "justlog and rustlog JSON", "UTC", subs=True, moderation=True
    ),
    "rustlog NDJSON": Writer(
        "log.ndjson",
        rustlog_ndjson,
        "justlog and rustlog JSON",
        "UTC",
        login_with_sub,
        "77",
        subs=True,
        moderation=True,
    ),
    "chat-downloader JSON": Writer("log.json", chat_downloader_json, "chat-downloader JSON", "UTC", DISPLAY, ""),
    "chat-downloader lines": Writer(
        "log.jsonl",
        chat_downloader_lines,
        "chat-downloader JSON",
        "UTC",
        lambda entry: entry.display.lower(),
        "",
        subs=True,
        moderation=True,
    ),
    "tcd with milliseconds": Writer(
        f"{CHANNEL}-{START:%Y-%m-%dT%H%M%SZ}.tcd", tcd_with_milliseconds, "tcd", "UTC", DISPLAY
    ),
    "irssi": Writer(f"#{CHANNEL}.log", irssi, "irssi", "+0100", clock="%H:%M:00"),
    "WeeChat": Writer(f"irc.twitch.#{CHANNEL}.weechatlog", weechat, "WeeChat", "+0100"),
    "bots' consoles": Writer("bot-2024-03-07.log", bot_console, "bots' consoles", "+0100", within=EVENING),
    "DiscordChatExporter JSON": Writer("log.json", discord_json, "DiscordChatExporter JSON", "UTC"),
    "yt-dlp": Writer(f"{CHANNEL}-2024-03-07.json", yt_dlp, "yt-dlp's live_chat.json", "UTC", DISPLAY),
    "Kick": Writer(f"{CHANNEL}-2024-03-07.json", kick, "Kick JSON", "UTC"),
    "recent-messages": Writer("log.json", recent_messages, "recent-messages", "UTC", subs=True, moderation=True),
    "JSON lines": Writer("log.jsonl", object_lines, "JSON objects", "UTC", channel=""),
    "JSON array": Writer("log.json", object_array, "JSON objects", "UTC"),
    "DiscordChatExporter CSV": Writer("log.csv", discord_csv, "DiscordChatExporter CSV", "UTC", channel=""),
    "Parquet": Writer("log.parquet", parquet, "Parquet, Arrow and Feather", "UTC", channel=""),
    "Parquet with lists": Writer("log.parquet", streams, "Parquet, Arrow and Feather", "UTC"),
    "Arrow": Writer("log.arrow", arrow, "Parquet, Arrow and Feather", "UTC", DISPLAY, channel=""),
    "Feather": Writer("log.feather", feather, "Parquet, Arrow and Feather", "UTC", DISPLAY, channel=""),
    "CSV": Writer("log.csv", table, "CSV", "UTC", channel=""),
    "TSV": Writer("log.tsv", tsv, "CSV", "UTC", channel=""),
}


def expected_rows(writer, chat):
    """Return the rows that a file should become."""
    rows = []
    for entry in chat:
        is_typed = entry.kind == "message" or (entry.kind == "sub" and entry.text and writer.subs)
        if is_typed and entry.seconds < writer.within:
            local = entry.when.astimezone({"+0100": BERLIN}.get(writer.when, UTC))
            when = [f"{local:%Y-%m-%d}", f"{local:{writer.clock}}"] if writer.when else ["", ""]
            if writer.when == "offset":
                when = ["2024-03-07" if "3-7-24" in writer.file else "", f"{hours(entry):0>8}"]
            rows.append([*when, writer.channel, writer.name(entry), entry.text])
    return rows
