"""Time generate.py next to transformers' pipeline: one message from a cold start, many at once, and a stream.

The model has gpt2-medium's shape and random weights, in float32. A message has 20 tokens.

    python bench/bench_generate.py
    python bench/bench_generate.py --quick
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import ROOT, Command, compare, parse_args, run, save, table, time_call
from random_models import make_model

from chatter.devices import hide_gpus
from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Engine, Sampling
from chatter.tokens.chat import encode_chat

NUM_TOKENS = 20
PROMPT = "what game is this?"
TIMING = """
import sys, time
from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Sampling
from generate import generate
model, num, prompt, num_tokens = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
engine, sampling = load_engine(model, "cpu", at_once=num), Sampling(max_new_tokens=num_tokens)
for _ in range(3):
    started = time.perf_counter()
    generate(engine, [prompt], num_messages=num, sampling=sampling)
    print(time.perf_counter() - started)
"""


def time_stream(command: Command, lines: list[str]) -> tuple[list[float], list[str]]:
    """Time the answer to each line of a --stream; return the times, and the chat including the answers.

    The first answer is left out, because its time includes the start.
    """
    chat, pipe = [], subprocess.PIPE
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:

        def ask(line: str) -> None:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise EOFError("the stream has ended")
            chat.extend([line, answer.rstrip("\n")])

        seconds = [time_call(partial(ask, line)) for line in lines]
        process.stdin.close()
    return seconds[1:], chat


def time_sampling(engine: Engine, chat: list[str], sampling: Sampling) -> list[float]:
    """Time a bare loop that samples as many tokens as each answer in the chat of `time_stream`, without the first."""
    prompts = [
        encode_chat(engine.tokenizer, engine.format, chat[: number + 1], engine.format.block_size - NUM_TOKENS)
        for number in range(0, len(chat), 2)
    ]
    return [time_call(partial(engine.sample, prompt, 1, sampling)) for prompt in prompts][1:]


def time_messages(model: Path, num_messages: int) -> float:
    """Return the median of three times that a process of its own takes for messages, without its start."""
    command = [sys.executable, "-c", TIMING, model, str(num_messages), PROMPT, str(NUM_TOKENS)]
    return statistics.median(map(float, run(command).output.split()[-3:]))


def main() -> None:
    args = parse_args(__doc__)
    hide_gpus()  # make gpu measures them
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        make_model(model, "small" if args.quick else "gpt2-medium")
        ours = [sys.executable, "generate.py", "--model", model, "--max-new-tokens", str(NUM_TOKENS)]
        pipeline = [sys.executable, "bench/peers/generate_pipeline.py", model, PROMPT, str(NUM_TOKENS)]

        run([*ours, PROMPT])  # makes the copy for CTranslate2, while this process has not loaded a model yet
        rows = compare(
            {
                "generate.py": [*ours, PROMPT],
                "generate.py --engine transformers": [*ours, PROMPT, "--engine", "transformers"],
                "transformers.pipeline": pipeline,
                "generate.py --help": [sys.executable, "generate.py", "--help"],
            },
            {"messages": 1},
            args.rounds,
        )
        figures["cold process"] = {"rows": rows}
        print(f"one message from a cold start\n\n{table(rows)}\n")

        lines = [f"line {number} of a chat that goes on and on" for number in range(9)]
        answers, chat = time_stream([*ours, "--stream"], lines)
        engine, sampling = load_engine(model, "cpu"), Sampling(max_new_tokens=NUM_TOKENS)
        samples = time_sampling(engine, chat, sampling)
        relative = statistics.median(answers) / statistics.median(samples)
        figures["stream"] = {"answers": answers, "sampling alone": samples, "relative time": relative}
        print(f"an answer of --stream takes {relative:.2f} times as long as sampling its tokens\n")

        seconds = {num: time_messages(model, num) / num for num in (100, 1)}  # of a message
        rows = [
            {
                "name": f"generate.py{f' -n {num}' if num > 1 else ', one message at a time'}",
                "relative time": taken / seconds[100],
                "messages/s": 1 / taken,
            }
            for num, taken in seconds.items()
        ]
        figures["many"] = {"rows": rows}
        print(f"many messages at once, and one at a time\n\n{table(rows)}\n")
        print(f"-n 100 has {rows[0]['messages/s'] / rows[1]['messages/s']:.1f} times the throughput of single messages")
    save("generate", figures, args)


if __name__ == "__main__":
    main()
