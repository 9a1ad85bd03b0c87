"""generate.py beside transformers' pipeline: a message from a cold process, many at once, and a stream.

The model has gpt2-medium's shape and random weights, saved as train.py saves them, in float32. A message has 20 tokens.

python bench/bench_generate.py
"""

import json
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from harness import ROOT, compare, parse_args, run, save, seconds_of, table, take_turns

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


def time_stream(command: list, lines: list[str]) -> list[float]:
    """Time each answer of a process that has started: the first line, which waits for the start, is left out."""
    pipe = subprocess.PIPE
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:

        def ask(number: int) -> None:
            process.stdin.write(lines[number] + "\n")
            process.stdin.flush()
            process.stdout.readline()

        seconds = [seconds_of(partial(ask, number)) for number in range(len(lines))]
        process.stdin.close()
    return seconds[1:]


def time_draws(engine: Engine, lines: list[str], sampling: Sampling) -> list[float]:
    """Time bare draws of as many tokens, behind as many, as the answers of a stream; the first is left out."""

    def draw(number: int) -> None:
        prompt = encode_chat(engine, lines[: number + 1], engine.positions)
        engine.draw(prompt + prompt[-1:] * (NUM_TOKENS + 1) * number, 1, sampling)  # in place of the answers in between

    return [seconds_of(partial(draw, number)) for number in range(len(lines))][1:]


def main() -> None:
    args = parse_args(__doc__)
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        make_model(model, "quick" if args.quick else "gpt2-medium")
        ours = [sys.executable, "generate.py", "--model", model, "--max-new-tokens", str(NUM_TOKENS)]
        pipeline = [sys.executable, "bench/peers/generate_pipeline.py", model, PROMPT, str(NUM_TOKENS)]

        run([*ours, PROMPT])  # makes the fast copy; no model is in this process yet, which would compete for memory
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
        print(f"A message from a cold process\n\n{table(rows)}\n")

        lines = [f"line {number} of a chat that goes on and on" for number in range(9)]
        answers = time_stream([*ours, "--stream"], lines)
        engine, sampling = load(model, "cpu"), Sampling(max_new_tokens=NUM_TOKENS)
        draws = time_draws(engine, lines, sampling)
        times = statistics.median(answers) / statistics.median(draws)
        figures["stream"] = {"answers": answers, "bare draws": draws, "times as long": times}
        print(f"--stream: an answer takes {times:.2f} times a bare draw\n")

        rows = take_turns(
            {
                "-n 100": lambda: generate(engine, [PROMPT], num_messages=100, sampling=sampling),
                "5 single ones": lambda: [generate(engine, [PROMPT], sampling=sampling) for _ in range(5)],
            },
            {"messages": 1},
            min(args.rounds, 2),
        )
        for row, num_messages in zip(rows, (100, 5), strict=True):
            row["messages/s"] *= num_messages
        figures["many"] = {"rows": rows}
        print(f"Many messages in one process\n\n{table(rows)}\n")
        print(f"-n 100 has {rows[0]['messages/s'] / rows[1]['messages/s']:.1f} times the throughput of single ones\n")
    if not args.quick:
        save("generate", figures, args.machine)


if __name__ == "__main__":
    main()
