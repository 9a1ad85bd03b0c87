"""generate.py beside transformers' pipeline: a message from a cold process, many at once, and a stream.

The model has gpt2-medium's shape and random weights, saved as train.py saves them, in float32. A message has 20 tokens.

python bench/bench_generate.py
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import ROOT, compare, parse_args, save, table, take_turns

sys.path.insert(0, str(ROOT))
from generate import Engine, Sampling, encode_chat, generate, load
from tokenize_logs import load_tokenizer
from train import load_model

NUM_TOKENS = 20
PROMPT = "what game is this?"
SHAPES = {"gpt2-medium": (1024, 24, 16), "quick": (256, 4, 4)}  # width, layers, heads


def make_model(folder: Path, shape: str) -> None:
    """Save random weights of that shape, with models/tiny-gpt2's tokenizer filled up to GPT-2's size."""
    from tokenizers import Tokenizer
    from transformers import GPT2Config, PreTrainedTokenizerFast

    width, num_layers, num_heads = SHAPES[shape]
    small = load_tokenizer(str(ROOT / "models/tiny-gpt2"))
    parts = json.loads(small.backend_tokenizer.to_str())
    parts["model"]["vocab"] |= {f"filler{token}": token for token in range(len(small), 50_258)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        eos_token=small.eos_token,
        bos_token=small.eos_token,
        unk_token=small.eos_token,
        pad_token=small.pad_token,
    )
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=width, n_layer=num_layers, n_head=num_heads)
    config.save_pretrained(folder)  # without weights: load_model draws them, and says how a message ends
    load_model(str(folder), tokenizer, config.n_positions).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def stream(command: list, engine: Engine, lines: list[str], sampling: Sampling) -> dict:
    """Time each answer of a process that has started, and then a bare draw of as many tokens behind as many.

    The first line, which waits for the start, is left out.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:

        def ask(number: int) -> None:
            process.stdin.write(lines[number] + "\n")
            process.stdin.flush()
            process.stdout.readline()

        answers = [seconds_of(ask, number) for number in range(len(lines))]
        process.stdin.close()

    def draw(number: int) -> None:
        prompt = encode_chat(engine, lines[: number + 1], engine.positions)
        engine.draw(prompt + prompt[-1:] * (NUM_TOKENS + 1) * number, 1, sampling)  # in place of the answers in between

    draws = [seconds_of(draw, number) for number in range(len(lines))]
    times = statistics.median(answers[1:]) / statistics.median(draws[1:])
    return {"answers": answers[1:], "bare draws": draws[1:], "times as long": times}


def seconds_of(function: Callable[[int], None], number: int) -> float:
    started = time.perf_counter()
    function(number)
    return time.perf_counter() - started


def main() -> None:
    args = parse_args(__doc__)
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        make_model(model, "quick" if args.quick else "gpt2-medium")
        ours = [sys.executable, "generate.py", "--model", model, "--max-new-tokens", str(NUM_TOKENS)]
        pipeline = [sys.executable, "bench/peers/generate_pipeline.py", model, PROMPT, str(NUM_TOKENS)]
        engine = load(model, "cpu")  # makes the fast copy

        figures["cold process"] = compare(
            {
                "generate.py": [*ours, PROMPT],
                "generate.py --engine ctranslate2-int8": [*ours, PROMPT, "--engine", "ctranslate2-int8"],
                "generate.py --engine transformers": [*ours, PROMPT, "--engine", "transformers"],
                "transformers.pipeline": pipeline,
                "generate.py --help": [sys.executable, "generate.py", "--help"],
            },
            {"messages": 1},
            args.rounds,
        )
        print(f"A message from a cold process\n\n{table(figures['cold process'])}\n")

        sampling = Sampling(max_new_tokens=NUM_TOKENS)
        engines = {"ctranslate2": engine, "ctranslate2-int8": load(model, "cpu", "ctranslate2-int8")}
        ways = {}
        for name, each in engines.items():
            ways[f"{name}, -n 100"] = lambda each=each: generate(each, [PROMPT], num_messages=100, sampling=sampling)
            ways[f"{name}, 10 single ones"] = lambda each=each: [
                generate(each, [PROMPT], sampling=sampling) for _ in range(10)
            ]
        figures["many"] = take_turns(ways, {"messages": 1}, min(args.rounds, 3))
        for row in figures["many"]:
            row["messages/s"] *= 100 if "100" in row["name"] else 10
        print(f"Many messages in one process\n\n{table(figures['many'])}\n")
        speeds = {row["name"]: row["messages/s"] for row in figures["many"]}
        for name in engines:
            times = speeds[f"{name}, -n 100"] / speeds[f"{name}, 10 single ones"]
            print(f"{name}: -n 100 has {times:.1f} times the throughput of single ones")

        lines = [f"line {number} of a chat that goes on and on" for number in range(9)]
        figures["stream"] = stream([*ours, "--stream"], engine, lines, sampling)
        print(f"--stream: an answer takes {figures['stream']['times as long']:.2f} times a bare draw")
    if not args.quick:
        save("generate", figures, args.machine)


if __name__ == "__main__":
    main()
