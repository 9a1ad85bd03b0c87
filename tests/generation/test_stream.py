"""generate.py --stream with all its options, on replayed logs, as a bot runs it."""

import gc
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import weakref
from dataclasses import replace

import pytest
from conftest import ROOT, SHARED, error_of, needs_shared, run

import generate as script
from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Sampling
from chatter.generation.manners import Manners
from chatter.tokens.chat import FORMAT_FILE, ChatFormat
from chatter.wording.training_messages import HASHES, hash_messages, write_hashes
from generate import LoadedModel, answer, generate, parse_args

SHORT = Sampling(max_new_tokens=4)
QUIET = ["--max-new-tokens", 4, "--device", "cpu"]


@pytest.fixture
def chats(monkeypatch):
    """The chats that messages were generated for."""
    seen = []
    monkeypatch.setattr(
        script, "generate", lambda engine, chat, **options: seen.append([*chat]) or generate(engine, chat, **options)
    )
    return seen


NUMBER = re.compile(r"#(\d+)#$")
USER = {
    "justlog": (r"\[[^]]*\] #\S+ ([^\s:]+):", r"\[[^]]*\] #\S+ ([^\s:]+)(?:: \1)? has been (?:timed out|banned)"),
    "raw_irc": (r"\S+ :([^!\s]+)!\S+ PRIVMSG ", r".*? CLEARCHAT #\S+ :(\S+)"),
    "chatty": (r"\[[^]]*\] <\W*([^>]*\()?(\w+)\)?>", r"\[[^]]*\] BAN: (.*)"),
}


@needs_shared
@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("justlog/riotgames-2016-09-30.txt", 3000),
        pytest.param("rustlog/riotgames-2016-09-30.txt", 3000, marks=pytest.mark.thorough),
        ("chatty/riotgames-2016-09-30.log", 3000),
        ("raw_irc/xqcow-2019-09-15.txt", 3000),
    ],
)
def test_no_forgotten_line_is_in_a_prompt(name, limit, random_model, chats):
    """Real logs, most of which have hundreds of timeouts; who said what is found here without the package."""
    folder = name.split("/")[0].replace("rustlog", "justlog")
    said_by, gone_by = map(re.compile, USER[folder])
    engine = load_engine(random_model, "cpu", "ctranslate2")
    path = next(SHARED.joinpath("chat", name.split("/")[0]).glob(name.split("/")[1].split(".")[0] + "*"))
    lines, said, gone, num_events, num_forgotten = [], {}, set(), 0, 0
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines()[:limit]:
        removed = gone_by.match(text)
        lines.append(text if removed or not said_by.match(text) else f"{text} #{len(lines)}#")
    answers = answer(engine, lines, "", manners=Manners(0.5, seed=1), sampling=SHORT)
    for number, ((_, message, _), text) in enumerate(zip(answers, lines, strict=True)):
        if removed := gone_by.match(text):
            names = re.findall(r"(\w+)(?: \(\d+s\))?(?:, |$)", removed[1]) if folder == "chatty" else [removed[1]]
            for user in names:
                gone |= said.get(user.lower(), set())
            num_events += 1
        elif spoken := said_by.match(text):
            said.setdefault(spoken[spoken.lastindex].lower(), set()).add(number)
        if message:
            seen = {int(found[1]) for line in chats[-1] if (found := NUMBER.search(line))}
            assert not seen & gone
            num_forgotten += bool(gone)
    assert num_events > 5 and num_forgotten > 300


@needs_shared
def test_rates_and_cooldowns_of_a_replayed_log(random_model, tmp_path):
    """The whole command with all options, twice with the same result. Rates are within four standard deviations."""
    lines = (SHARED / "chat/justlog/riotgames-2016-09-30.txt").read_text(encoding="utf-8").splitlines()[:6000]
    (tmp_path / "bots.txt").write_text("nightbot\nmoobot\n")
    model = shutil.copytree(random_model, tmp_path / "model")
    options = ["--stream", "--json", "--seed", 3, "--model", model, *QUIET, "--reload"]
    manners = ["--chance", 0.1, "--cooldown", 7.5, "--after", 4, "--name", "my_bot", "--ignore", tmp_path / "bots.txt"]
    options += [*manners, "--trigger", "riot"]
    done = run("generate.py", *options, stdin="\n".join(lines))
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(lines) and done.stderr == ""
    assert run("generate.py", *options, stdin="\n".join(lines)).stdout == done.stdout

    reasons = [each.get("reason") for each in said]
    assert {reason for reason in reasons if reason and not reason.startswith("forgot")} <= {
        *("by chance", "cooldown", "too few lines of others", "ignored user", "not a message"),
    }
    drawn = [reason != "by chance" for each, reason in zip(said, reasons, strict=True) if drew(each, reason)]
    assert abs(sum(drawn) - 0.1 * len(drawn)) < 4 * math.sqrt(0.09 * len(drawn)) and len(drawn) > 2000
    answered = [place for place, each in enumerate(said) if each["message"]]
    seconds = [sum(int(part) * 60**power for power, part in enumerate(line[12:20].split(":")[::-1])) for line in
               (re.sub(r"^\[(\d+-\d+-)(\d)\b(?!\d)", r"[\g<1>0\2", line) for line in lines)]  # fmt: skip
    assert len(answered) > 20
    for before, after in itertools.pairwise(answered):
        assert seconds[after] - seconds[before] >= 7.5
        assert sum(bool(each["prompt"]) for each in said[before + 1 : after + 1]) >= 4
    assert sum("forgot" in (reason or "") for reason in reasons) > 100


def drew(said, reason):
    """Whether chance decided about a line: it is a message without the trigger, of nobody who is ignored."""
    is_message = reason not in ("not a message", "ignored user") and not (reason or "").startswith("forgot")
    return is_message and "riot" not in said["prompt"].casefold()


@pytest.mark.slow
def test_memory_stays_flat(random_model):
    """Over many lines, some removed, of many users, in a process of its own."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from chatter.generation.choose_engine import load_engine
from chatter.generation.manners import Manners
from generate import answer
def lines():
    for n in range(70_000):
        if n in (20_000, 69_999):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        what = " has been banned" if n % 50 == 0 else f": line {{n}}"
        yield f"[2024-03-07 21:05:{{n % 60:02}}] #c user{{n}}{{what}}"
peaks = []
engine = load_engine({str(random_model)!r}, "cpu", "ctranslate2")
for _ in answer(engine, lines(), "", manners=Manners(0, cooldown=5, after=2, name="bot", seed=1)): pass
print(peaks[1] - peaks[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000  # kB; the lines take 5 MB


class Bot:
    """A running stream, in which each line has an object."""

    def __init__(self, model, *options):
        command = [sys.executable, ROOT / "generate.py", "--stream", "--json", "--model", model, *QUIET, *options]
        pipes = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.PIPE)
        self.process = subprocess.Popen([*map(str, command)], **pipes, text=True, bufsize=1, encoding="utf-8")

    def hear(self, line):
        print(line, file=self.process.stdin)
        return json.loads(self.process.stdout.readline())

    def end(self):
        output, errors = self.process.communicate()
        assert self.process.returncode == 0 and output == ""
        return errors.splitlines()


def swap(folder, other):
    """Replace a folder as train.py does: by renaming."""
    new = shutil.copytree(other, folder.with_name("new"), ignore=shutil.ignore_patterns("ctranslate2"))
    folder.rename(folder.with_name("old"))
    new.rename(folder)
    shutil.rmtree(folder.with_name("old"))


def test_a_new_model_takes_effect_without_a_restart(parrot, random_model, tmp_path):
    """It sees the same chat. What cannot be loaded leaves the old one, and is tried once."""
    folder, learned = shutil.copytree(random_model, tmp_path / "model"), {"what is it", "ping"}
    bot = Bot(folder, "--reload", "--greedy")
    assert bot.hear("ping")["message"] not in learned
    swap(folder, parrot)
    assert bot.hear("ping")["message"] in learned
    assert (folder / "ctranslate2/model.bin").exists()
    tokenizer = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(b"{")
    assert {bot.hear("ping")["message"] for _ in range(2)} <= learned
    (folder / "tokenizer.json").write_bytes(tokenizer)
    assert bot.hear("ping")["message"] in learned
    errors = bot.end()
    assert sum("has changed: loading the new model" in line for line in errors) == 3
    assert sum(line.startswith("keeping the old model, as the new one cannot be loaded: ") for line in errors) == 1


def test_the_hashes_of_a_model_change_with_it(parrot, tmp_path):
    folder, options = shutil.copytree(parrot, tmp_path / "model"), ["--greedy", "--complete", "what is it what"]
    write_hashes(hash_messages(["another message than that"]), folder / HASHES)
    bot = Bot(folder, *options)
    first, second = (bot.hear("ping")["message"] for _ in range(2))
    assert bot.end() == []
    bot = Bot(folder, "--reload", "--no-copies", *options)
    assert bot.hear("ping")["message"] == first
    write_hashes(hash_messages([first, second]), tmp_path / HASHES)
    (tmp_path / HASHES).replace(folder / HASHES)
    assert bot.hear("ping")["reason"].startswith("no printable message without copies")
    (folder / HASHES).unlink()  # the new model is not complete
    assert bot.hear("ping")["reason"].startswith("no printable message without copies")
    assert any("has no said.u64" in line for line in bot.end())


def test_the_channels_of_a_model_change_with_it(parrot, tmp_path):
    """With --channel, a new model that does not know the channel is not loaded."""
    folder = shutil.copytree(parrot, tmp_path / "model")
    plain, line = ChatFormat.load(folder), "[2024-03-07 21:05:09] #beta ann: ping"

    def save(*channels):
        replace(plain, channels=channels).save(tmp_path)
        (tmp_path / FORMAT_FILE).replace(folder / FORMAT_FILE)

    save("alpha")
    bots = Bot(folder, "--reload", "--channel", "alpha"), Bot(folder, "--reload")
    assert all(bot.hear(line)["message"] for bot in bots)
    save("beta", "gamma")
    assert all(bot.hear(line)["message"] for bot in bots)
    wanted, heard = (bot.end() for bot in bots)
    assert any("does not know the channel 'alpha'. Pass one of beta, gamma." in line for line in wanted)
    assert heard == [f"{folder} has changed: loading the new model"]


@pytest.mark.parametrize("channels", [(), ("alpha", "beta")], ids=["without channels", "of other channels"])
def test_each_channel_has_a_chat_of_its_own(channels, parrot, chats):
    """Also if the model does not know the channel, so that no words of one channel get into another."""
    engine = load_engine(parrot, "cpu", "ctranslate2")
    lines = [f"[2024-03-07 21:05:09] #{channel} ann: from {channel}" for channel in ("one", "two", "one")]
    answers = answer(engine, lines, "", script.CurrentChannel(channels), Manners(cooldown=10), sampling=SHORT)
    reasons = [reason for _, _, reason in answers]
    assert reasons == ["", "", "cooldown"] and chats == [["from one"], ["from two"]]


def test_a_model_that_was_replaced_is_freed(parrot, chats):
    first, second = (load_engine(parrot, "cpu", "ctranslate2") for _ in range(2))
    freed = weakref.ref(first)
    new = iter([None, LoadedModel(second, script.CurrentChannel(), {})])
    answers = answer(first, iter(["ping"] * 9), "", load_if_changed=lambda: next(new, None), sampling=SHORT)
    next(answers)
    del first
    next(answers)
    gc.collect()
    assert freed() is None and len(chats[1]) == 3  # it still sees the chat


def test_without_reload_a_stream_keeps_its_model(parrot, random_model, tmp_path):
    folder = shutil.copytree(parrot, tmp_path / "model")
    bot = Bot(folder, "--greedy")
    assert bot.hear("ping")["message"] == "what is it"
    swap(folder, random_model)
    assert bot.hear("ping")["message"] == "what is it" and bot.end() == []


def test_a_removal_is_not_answered_and_its_lines_are_forgotten(parrot):
    bot = Bot(parrot, "--greedy", "--trigger", "ping", "--name", "@My_Bot")
    lines = [
        "ann: what is it",
        "bob: ping",
        "my_bot: ping",
        "ann has been banned",
        "bob has been timed out for 5 seconds",
    ]
    said = [bot.hear(f"[2024-03-07 21:05:09] #c {line}") for line in lines]
    assert [each.get("reason") for each in said] == [
        "no trigger",
        None,
        "own message",
        "forgot 1 line(s)",
        "forgot 2 line(s)",
    ]
    assert [each["prompt"] for each in said[3:]] == ["", ""] and bot.end() == []


@pytest.mark.thorough
def test_a_stream_compiled_says_the_same(parrot):
    """With the same seed, the same tokens: the model is compiled for this CPU, which takes half a minute."""
    options = ["--engine", "transformers", "--seed", "5", "--temperature", "2"]
    lines = ["ping", "what is it", "a longer line than that", "ping"]
    bots = Bot(parrot, *options), Bot(parrot, *options, "--compile")
    plain, compiled = ([bot.hear(line) for line in lines] for bot in bots)
    assert plain == compiled and len({each["message"] for each in plain}) > 2
    assert [bot.end() for bot in bots] == [[], ["compiling the model, which may take a minute"]]


def test_what_cannot_be_compiled(parrot):
    args = ["generate.py", "--stream", "--compile", "--engine", "ctranslate2", "--device", "cpu", "--model", parrot]
    assert "--compile works only with the engine transformers. Leave it out" in error_of(*args)


@pytest.mark.thorough
def test_it_cannot_be_compiled_without_a_compiler(parrot, tmp_path):
    args = ["generate.py", "--stream", "--compile", "--device", "cpu", "--model", parrot]
    no_compiler = {"CXX": str(tmp_path / "nowhere"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    error = error_of(*args, **no_compiler)  # auto takes the engine that can be compiled
    assert "the model cannot be compiled (" in error and error.endswith("Leave out --compile.")


def bot_of_the_manual():
    page = (ROOT / "docs/bot.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE) if "import queue" in block]
    return re.sub("^ {4}", "", code, flags=re.MULTILINE).strip() + "\n"


def test_the_bot_of_the_manual_runs_as_it_stands(parrot, tmp_path):
    """It answers a replayed log, and ends with it."""
    code = bot_of_the_manual()
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "bot.py").write_text(code, encoding="utf-8")
    names = [
        "ann: hello",
        "ann: my_bot ping",
        "my_bot: what is it",
        "bob: @My_Bot ping",
        "bob has been banned",
        "eve: 😂",
    ]
    log = "".join(f"[2024-03-07 21:05:09] #c {line}\n" for line in names * 20)
    command = [sys.executable, tmp_path / "bot.py", "--model", parrot, *QUIET, "--greedy"]
    log = b"[2024-03-07 21:05:09] #c ann: my_bot \xff\n" + log.encode()
    done = subprocess.run([*map(str, command)], cwd=ROOT, input=log, capture_output=True, timeout=300)
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout.splitlines()) == 41


def test_ctrl_c_ends_the_bot_of_the_manual(parrot, tmp_path):
    """While its standard input stays open. The terminal sends SIGINT to all processes of the group."""
    (tmp_path / "bot.py").write_text(bot_of_the_manual(), encoding="utf-8")
    command = [sys.executable, tmp_path / "bot.py", "--model", parrot, *QUIET, "--greedy"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*map(str, command)], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as bot:
        bot.stdin.write("[2024-03-07 21:05:09] #c ann: my_bot ping\n")
        bot.stdin.flush()
        assert bot.stdout.readline()
        os.killpg(bot.pid, signal.SIGINT)
        assert bot.wait(60) == 0 and bot.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--chance", "0.5"], "--chance says which lines of --stream are answered: pass both"),
        (["--ignore", "nightbot"], "--ignore says which lines of --stream are answered: pass both"),
        (["--reload"], "--reload is for --stream: pass both"),
        (["--compile", "-n", "100"], "--compile is for --stream: pass both"),
        (["--stream", "--chance", "1.5"], "argument --chance: must be at most 1"),
        (["--stream", "--cooldown", "-1"], "argument --cooldown: must be at least 0"),
        (["--stream", "--trigger", ""], "argument --trigger: must not be empty: every line contains an empty text"),
        (
            ["--stream", "--trigger", "\u200b"],
            "argument --trigger: must not be empty: every line contains an empty text",
        ),
        (["--stream", "--after", "2.5"], "argument --after: must be a whole number, not '2.5'"),
    ],
    ids=" ".join,
)
def test_wrong_usage(options, error, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["generate.py", *options])
    with pytest.raises(SystemExit, match="2"):
        parse_args()
    assert capsys.readouterr().err.splitlines()[-1] == f"generate.py: error: {error}"
