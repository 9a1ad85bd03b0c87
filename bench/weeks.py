"""Let a bot run for four weeks of chat, in minutes, while its model is trained on the chat so far and replaced.

A million lines of made-up chat go through `generate.py --stream --reload`. At the end of each of the first three weeks,
their logs are parsed, tokenized and trained on, into the folder of the model, while the next week goes on. Every line
must come back, in order; every answer must be the one that one of the four whole models gives; and the memory must stay
flat. The exit code is 1 otherwise.

    python bench/weeks.py
    python bench/weeks.py --quick   20,000 lines
"""

from __future__ import annotations

import heapq
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psutil
from harness import ROOT, parse_args, run, sample_logs, save, table

from chatter.cli import bounded
from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Engine, Sampling
from chatter.generation.forgetting import SeenChat
from chatter.generation.stream_lines import read_stream
from chatter.tokens.chat import clean
from generate import try_to_generate

NAME = "my_bot"
# Greedy, so that a model has one answer to a chat.
BOT = ["--stream", "--reload", "--json", "--greedy", "--name", NAME, "--chance", "0.002", "--cooldown", "30"]
LAST_LINES = 0.2  # of a week: they wait for the new model
MAX_GROWTH = 1.1  # of the memory, from the second week to the last


def split_weeks(logs: Path, folder: Path) -> list[list[str]]:
    """Move the logs to a folder for each day, which stands for a week; return the lines of each, by their time."""
    weeks = []
    for number, day in enumerate(sorted({log.stem.partition("-")[2] for log in logs.iterdir()})):
        (week := folder / str(number)).mkdir(parents=True)
        lines = []
        for log in sorted(logs.glob(f"*-{day}.txt")):
            lines.append(log.read_text(encoding="utf-8").splitlines())
            log.rename(week / log.name)
        weeks.append([*heapq.merge(*lines, key=lambda line: line.partition("]")[0])])
    return weeks


def own_memory(pid: int) -> int:
    """Return the memory that a process has allocated, in bytes, without what it has mapped from files of libraries."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


class Retraining:
    """Trains the model of the bot on more and more logs, and keeps a copy of each model."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.model, self.versions = scratch, scratch / "model", []

    def train(self, logs: Path, model: Path, *options: str) -> None:
        """Train `model` on all messages in `logs`, and replace the model of the bot."""
        raw, blocks = self.scratch / "raw", self.scratch / "blocks"
        of_model = ["--model", model, "--output-dir"]
        run([sys.executable, "parse_logs.py", "--logs-dir", logs, "--output-dir", raw])
        run([sys.executable, "tokenize_logs.py", "--input-dir", raw, *of_model, blocks, "--block-size", "128"])
        options = ["--learning-rate", "3e-3", "--no-deepspeed", "--device", "cpu", "--overwrite", *options]
        run([sys.executable, "train.py", "--dataset-dir", blocks, *of_model, self.model, *options])
        self.versions.append(self.scratch / f"version-{len(self.versions)}")
        shutil.copytree(self.model, self.versions[-1], ignore=shutil.ignore_patterns("ctranslate2"))

    def train_further(self, logs: Path) -> None:
        """Train adapters of the first model."""
        self.train(logs, self.versions[0], "--lora-rank", "8", "--max-steps", "40")

    def feed(self, weeks: list[list[str]], bot: psutil.Popen, seconds: float, memory: list[float]) -> None:
        """Write the lines to the bot in `seconds`, and train after each week but the last.

        Append the bot's peak memory in each week to `memory`, in MB.
        """
        pause = seconds / sum(map(len, weeks))
        for number, lines in enumerate(weeks):
            if number:
                shutil.copytree(self.scratch / f"weeks/{number - 1}", self.scratch / "logs", dirs_exist_ok=True)
                training = Thread(target=self.train_further, args=[self.scratch / "logs"])
                training.start()
            samples, last = [], int(len(lines) * (1 - LAST_LINES))
            for begin in range(0, len(lines), 500):
                if number and begin <= last < begin + 500:
                    training.join()
                bot.stdin.write("".join(f"{line}\n" for line in lines[begin : begin + 500]))
                bot.stdin.flush()
                samples.append(own_memory(bot.pid))
                time.sleep(500 * pause)
            memory.append(max(samples) / 1e6)
        bot.stdin.close()


def say(engine: Engine, chat: list[str]) -> str | None:
    """Return the one message that a model generates without chance, if there is one."""
    message, *_ = try_to_generate(engine, chat, sampling=Sampling(greedy=True))
    return message and message.text


def whole_models(lines: list[str], said: list[dict], engines: list[Engine]) -> Iterator[int | None]:
    """Yield for each answer the number of the model that gives it, None if none does. Models follow each other."""
    seen, current = SeenChat(engines[0].format.block_size // 2, NAME), 0
    for line, each in zip(read_stream(lines), said, strict=True):
        for removal in line.removals:
            seen.forget(removal)
        if not clean(line.text) or not seen.add(line, line.channel):
            continue
        if each["message"] is not None:
            chat, wanted = seen.texts(line.channel), each["message"]
            later = enumerate(engines[current:], current)
            number = next((number for number, engine in later if say(engine, chat) == wanted), None)
            current = current if number is None else number
            yield number
            seen.add_answer(each["message"], line, line.channel)


def main() -> None:
    minutes = {"type": bounded(float, at_least=0), "default": 15, "help": "how long the chat goes on, if it can"}
    args = parse_args(__doc__, rounds=None, options={"--minutes": minutes})
    num_lines, seconds = (20_000, 0) if args.quick else (1_000_000, args.minutes * 60)
    with tempfile.TemporaryDirectory() as folder, sample_logs(num_lines) as logs:
        scratch = Path(folder)
        weeks = split_weeks(logs, scratch / "weeks")
        retraining = Retraining(scratch)
        retraining.train(ROOT / "data/sample_logs", ROOT / "models/tiny-gpt2", "--max-steps", "120")
        pipe, memory, errors = subprocess.PIPE, [], scratch / "stderr"
        command = [sys.executable, "generate.py", *BOT, "--model", retraining.model]
        with errors.open("w") as stderr:
            bot = psutil.Popen(
                [*map(str, command)], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=stderr, text=True, encoding="utf-8"
            )
            feeding = Thread(target=retraining.feed, args=[weeks, bot, seconds, memory])
            feeding.start()
            said = [*map(json.loads, bot.stdout)]
            feeding.join()
            code = bot.wait()
        lines = [line for week in weeks for line in week]
        engines = [load_engine(version, "cpu") for version in retraining.versions]
        of_models = [*whole_models(lines, said[: len(lines)], engines)]
        notes = errors.read_text(encoding="utf-8").splitlines()
    texts = [each.text for each in read_stream(lines)]
    lost = sum(text != each["prompt"] for text, each in zip(texts, said, strict=False)) + abs(len(texts) - len(said))
    ours = [number for number in of_models if number is not None]
    rows = [
        {"what": "lines of chat", "number": len(lines)},
        {"what": "lines lost", "number": lost},
        {"what": "models loaded while the chat went on", "number": sum("has changed" in note for note in notes)},
        *({"what": f"answers of model {number + 1}", "number": ours.count(number)} for number in range(len(engines))),
        {"what": "answers that no whole model gives", "number": len(of_models) - len(ours)},
        *({"what": f"most memory in week {week}, MB", "number": each} for week, each in enumerate(memory, 1)),
    ]
    print(table(rows))
    save("weeks", {"minutes": args.minutes, "rows": rows}, args)
    all_spoke = args.quick or {*ours} == {*range(len(engines))}
    is_whole = not lost and all_spoke and len(ours) == len(of_models)
    known = ("converting the weights of", "has changed: loading the new model", "no answer: no printable message")
    is_quiet = code == 0 and all(any(text in note for text in known) for note in notes)
    if not is_quiet:
        print(f"exit code {code}:", *notes, sep="\n", file=sys.stderr)
    sys.exit(not (is_whole and is_quiet and memory[-1] <= MAX_GROWTH * memory[1]))


if __name__ == "__main__":
    main()
