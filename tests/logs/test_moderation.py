"""chatter.logs.moderation: the messages that led to a timeout or a ban, and no others."""

import csv
import json
import tempfile
from pathlib import Path

import pytest
from conftest import parse
from hypothesis import given
from hypothesis import strategies as st

from chatter.logs.filters import TIMEOUT_LINES
from chatter.logs.find_reader import find_reader
from chatter.logs.moderation import NO_ENTRIES, Events
from parse_logs import parse_logs

events = st.tuples(
    st.sampled_from(["2024-03-7", "2024-03-8"]),
    st.sampled_from("cd"),
    st.sampled_from("uvw"),
    st.sampled_from([": hi"] * 6 + [" has been timed out for 5 seconds", " has been banned", ": {} has been banned"]),
)


@given(st.lists(events, max_size=60), st.integers(1, 4), st.integers(50, 2000), st.integers(50, 2000))
def test_what_is_moderated_is_what_the_definition_says(events, timeout_lines, chunk_bytes, part_bytes):
    """Compared with a slow search backwards from each event; with few lines, small chunks and parts for borders."""
    texts = [text.format(user.upper()) for _, _, user, text in events]
    left_out = set()
    for last, (date, channel, user, _) in enumerate(events):
        if texts[last] == ": hi":
            continue
        before = [number for number in range(last) if events[number][1] == channel]
        if "timed out" in texts[last]:
            before = before[-timeout_lines:]
        else:
            before = [number for number in before if events[number][0] == date]
        left_out |= {number for number in before if texts[number] == ": hi" and events[number][2] == user}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatter.logs.whole_logs.TIMEOUT_LINES", timeout_lines)
        patch.setattr("chatter.logs.reading.CHUNK_BYTES", chunk_bytes)
        for module in ("chatter.logs.reading", "parse_logs"):
            patch.setattr(f"{module}.PART_BYTES", part_bytes)
        log, table = Path(folder, "log.txt"), Path(folder, "log.csv")
        log.write_text(
            "".join(
                f"[{date} 21:05:09] #{channel} {user}{text}\n"
                for (date, channel, user, _), text in zip(events, texts, strict=True)
            )
        )
        counts, _ = parse(log, table, {"drop_moderated": True})
        kept = [
            f"{events[number][0].replace('-03-', '-03-0')},21:05:09,{events[number][1]},{events[number][2]},hi"
            for number, text in enumerate(texts)
            if text == ": hi" and number not in left_out
        ]
        assert table.read_text().splitlines()[1:] == kept
        assert (counts["moderated"], counts["messages written"]) == (len(left_out), len(kept))


def test_events_are_found_with_the_lines_that_they_apply_to(tmp_path):
    log = tmp_path / "log.txt"
    others = "[2024-03-7 21:05:09] #c v: hi\n[2024-03-7 21:05:09] #d v: hi\n" * 150
    events = "[2024-03-7 21:05:09] #c U has been timed out for 5 seconds\n[2024-03-7 21:05:09] #d U has been banned\n"
    log.write_text(others + events)
    reader, found = find_reader(log), Events(TIMEOUT_LINES)
    for batch in reader.read(log, lambda num_bytes: None):
        found.add(batch)
    found = found.moderation(NO_ENTRIES)
    first = 300 - 2 * TIMEOUT_LINES  # every second line is the channel's
    assert found.timeouts.rows() == [(300, "c", "u", first)]
    assert found.last_bans.rows() == [("d", "u", "2024-03-07", 301)]


@pytest.mark.parametrize("chunk_bytes", [50, 500, 50_000])
def test_a_timeout_reaches_back_over_chunks(chunk_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr("chatter.logs.reading.CHUNK_BYTES", chunk_bytes)
    lines = [f"[2024-03-7 21:05:09] #c u: {number}\n" for number in range(250)]
    lines.insert(200, "[2024-03-7 21:05:09] #c u has been timed out for 5 seconds\n")
    (tmp_path / "log.txt").write_text("".join(lines))
    parse(tmp_path / "log.txt", tmp_path / "log.csv", {"drop_moderated": True})
    kept = [int(row.rsplit(",", 1)[1]) for row in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert kept == [*range(200 - TIMEOUT_LINES), *range(200, 250)]


@pytest.mark.parametrize(
    "event",
    [
        "[2024-03-07 21:05:09] #c u: u has been timed out for 600 seconds",
        "@ban-duration=600;tmi-sent-ts=1709845509000 :tmi.twitch.tv CLEARCHAT #c :u",
        "@tmi-sent-ts=1709845509000 :tmi.twitch.tv CLEARCHAT #c :u",
    ],
)
def test_events_in_each_format(event, tmp_path):
    """The message before the event is left out, the one after it is not, nor is another user's."""
    text = "@tmi-sent-ts=1709845509000 :{}!u@u PRIVMSG #c :{}\n"
    (tmp_path / "log.txt").write_text(f"{text.format('u', 1)}{text.format('v', 2)}{event}\n{text.format('u', 3)}")
    counts, _ = parse(tmp_path / "log.txt", tmp_path / "log.csv", {"drop_moderated": True})
    assert [row[-1] for row in (tmp_path / "log.csv").read_text().splitlines()[1:]] == ["2", "3"]
    assert counts["moderated"] == 1


def test_a_deletion_that_does_not_tell_its_message_is_noted(tmp_path):
    items = [
        {"message_type": "text_message", "message_id": "m1", "author": {"name": "u"}, "message": "1", "timestamp": 1},
        {"message_type": "delete_message", "target_message_id": "m1", "timestamp": 2},
    ]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/live.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    results, *_ = parse_logs(tmp_path / "logs", tmp_path / "raw", 1, {"drop_moderated": True})
    [result] = results.values()
    assert "--drop-moderated leaves deleted messages in where the log does not tell which they are" in result.notes


def test_a_file_that_begins_in_a_format_without_bans_may_have_some(tmp_path):
    """Stand-alone formats may be mixed. Without a ban, the note says that the option has no effect."""
    other = "[2024-03-07 21:05:09 UTC] u: 1\n"
    ban = "[2024-03-7 21:05:10] #c u: 2\n[2024-03-7 21:05:11] #c u has been banned\n"
    (tmp_path / "logs").mkdir()
    for text, messages in ((other, 1), (other + ban, 1)):
        (tmp_path / "logs/c.txt").write_text(text)
        results, *_ = parse_logs(tmp_path / "logs", tmp_path / "raw", 1, {"drop_moderated": True})
        [result] = results.values()
        assert result.counts["messages written"] == messages
        assert any("has no effect" in note for note in result.notes) == (text == other)


def test_lines_that_only_tell_the_time_are_no_events(tmp_path):
    """Of the program, between messages: they do not count among the lines before a timeout."""
    lines = ["[21:05] info: [#c] <u>: mine", *["[21:05] info: Joined #c"] * 200]
    log = tmp_path / "c-2024-03-07.log"
    log.write_text("".join(f"{line}\n" for line in lines))
    batches = [*find_reader(log).read(log, lambda num_bytes: None)]
    assert sum(len(batch.messages) for batch in batches) == 1 and not any(batch.events for batch in batches)


EVENTS = {
    "chatty.log": "# Log started: 2024-03-07 21:00:00\n[21:05:09] <u> 1\n[21:05:09] <v> 2\n[21:05:09] BAN: u (5s), w\n"
    "[21:05:09] <u> 3\n",
    "chatterino.log": "# Start logging at 2024-03-07 21:00:00 CET\n[21:05:09] u: 1\n[21:05:09] v: 2\n"
    "[21:05:09] u has been permanently banned. \n[21:05:09] u: 3\n",
    "justlog.json": json.dumps(
        {
            "messages": [
                {"channel": "c", "timestamp": f"2024-03-07T21:05:0{number}Z", "tags": {}}
                | {"text": text, "username": user, "type": kind}
                for number, (text, user, kind) in enumerate([("1", "u", 1), ("2", "v", 1), ("", "u", 2), ("3", "u", 1)])
            ]
        }
    ),
    "live.jsonl": "".join(
        json.dumps({"timestamp": 1709845509000000, "message_type": "text_message"} | entry) + "\n"
        for entry in [
            {"author": {"name": "u"}, "message": "1"},
            {"author": {"name": "v"}, "message": "2"},
            {"message_type": "ban_user", "banned_user": "u", "ban_duration": 5},
            {"author": {"name": "u"}, "message": "3"},
        ]
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_in_each_format_that_has_them(name, tmp_path):
    """The message before the event is left out, the one after it is not, nor is another user's."""
    (tmp_path / name).write_text(EVENTS[name])
    counts, _ = parse(tmp_path / name, tmp_path / "log.csv", {"drop_moderated": True})
    assert [row[-1] for row in (tmp_path / "log.csv").read_text().splitlines()[1:]] == ["2", "3"]
    assert counts["moderated"] == 1


TIMED = "tmi-sent-ts=1709845509000"
IRC = "@id={};" + TIMED + " :{}!u@u PRIVMSG #c :{}\n"
DELETION = "@login=u;target-msg-id={};" + TIMED + " :tmi.twitch.tv CLEARMSG #c :{}\n"
LONG = "a very long message, of which Chatterino shows only the first fifty characters"
DELETIONS = {  # log -> the messages that are kept
    "irc.txt": (
        IRC.format("a-1", "u", "same") + IRC.format("a-2", "u", "same") + IRC.format("a-3", "v", "same")
        + DELETION.format("a-1", "same") + IRC.format("a-4", "u", "\1ACTION waves\1")
        + DELETION.format("a-4", "\1ACTION waves\1") + DELETION.format("nowhere", "same"),
        ["same", "same"],
    ),
    "chatty.log": (
        "# Log started: 2024-03-07 21:00:00\n[21:05:09] <U> same\n[21:05:09] <U> other\n[21:05:10] <@%U> same\n"
        "[21:05:11] <v> same\n[21:05:12] DELETED: u (same)\n[21:05:13] <u> same\n",
        ["same", "other", "same", "same"],
    ),
    "chatterino.log": (
        f"# Start logging at 2024-03-07 21:00:00 CET\n[21:05:09] u: {LONG}\n[21:05:10] u: hi \U000e0000\n"
        f"[21:05:11] v: {LONG}\n[21:05:12] A message from u was deleted: {LONG[:50]}…\n"
        "[21:05:13] A message from U was deleted: hi\n[21:05:14] A message from w was deleted: hi\n[21:05:15] u: hi\n",
        [LONG, "hi"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DELETIONS)
@pytest.mark.parametrize("chunk_bytes", [50, 500_000])
def test_the_message_that_a_deletion_took_out_is_left_out(name, chunk_bytes, tmp_path, monkeypatch):
    """By its id or, where programs show the deleted text, the last message of the user with this text."""
    monkeypatch.setattr("chatter.logs.reading.CHUNK_BYTES", chunk_bytes)
    log, expected = DELETIONS[name]
    (tmp_path / name).write_text(log)
    counts, _ = parse(tmp_path / name, tmp_path / "log.csv", {"drop_moderated": True})
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as rows:
        assert [row[-1] for row in csv.reader(rows)][1:] == expected
    assert counts["moderated"] == counts["messages"] - len(expected) > 0


def test_which_of_two_same_messages_was_deleted(tmp_path):
    log = IRC.format("a-1", "u", "first") + IRC.format("a-2", "u", "second") + DELETION.format("a-1", "")
    (tmp_path / "log.txt").write_text(log)
    parse(tmp_path / "log.txt", tmp_path / "log.csv", {"drop_moderated": True})
    assert [row.split(",")[-1] for row in (tmp_path / "log.csv").read_text().splitlines()[1:]] == ["second"]
