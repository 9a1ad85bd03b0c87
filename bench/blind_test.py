"""Let people judge a chatter: which of two messages is real, and which one is generated?

Reads   --model, the folder that train.py wrote; --dataset-dir, the dataset of tokenize_logs.py whose test split has
        real chat; and answers, 1 or 2, on stdin.
Writes  on stderr, pairs of messages that come after the same chat, in random order. On stdout, at the end, or after
        Ctrl-C or the end of input, the share of right answers.

    python bench/blind_test.py
    python bench/blind_test.py -n 50 --temperature 0.7 --seed 1
    python bench/blind_test.py --model models/demo/gpt2-twitch-chatter --dataset-dir data/demo/tokenized_datasets
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from intervals import wilson_interval

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chatter.cli import InputError, bounded, make_parser, plain_errors, positive_int
from chatter.generation.chat_input import CurrentChannel
from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Engine, Sampling, add_sampling_options, read_sampling
from chatter.wording.lookalikes import MAX_CHARACTERS, fold, visible
from generate import NoMessage, generate

NUM_LINES = 5  # of the chat before a pair that are shown


class Pair(NamedTuple):
    """What comes after a chat, really and as generated."""

    chat: list[str]
    real: str
    generated: str


def read_test_chats(dataset_dir: Path, rng: random.Random) -> Iterator[tuple[str, list[str], str]]:
    """Yield the channel ("" if unknown), the chat and the next message at a random place of each test block, shuffled.

    Raises InputError if the dataset is not complete.
    """
    from chatter.tokens.dataset import load_blocks, read_data_summary

    blocks, tokenizer = load_blocks(dataset_dir)
    has_headers = bool(read_data_summary(dataset_dir).get("channels"))
    for number in rng.sample(range(len(blocks["test"])), len(blocks["test"])):
        ids = blocks["test"][number]["input_ids"]
        lines = tokenizer.decode(ids[ids != tokenizer.pad_token_id][1:]).split("\n")[:-1]
        channel = lines.pop(0) if has_headers and lines else ""
        lines = [visible(line)[:MAX_CHARACTERS] for line in lines]  # as generated messages are
        places = [place for place, line in enumerate(lines) if place and line]
        if places:
            place = rng.choice(places)
            yield channel, lines[:place], lines[place]


def make_pairs(engine: Engine, dataset_dir: Path, sampling: Sampling, rng: random.Random) -> Iterator[Pair]:
    """Yield a pair for each test block, unless the generated message looks like the real one."""
    channel = CurrentChannel(engine.format.channels)
    for name, chat, real in read_test_chats(dataset_dir, rng):
        channel.hear(name)
        with contextlib.suppress(NoMessage):
            [message] = generate(engine, chat, sampling=sampling, header=channel.header())
            if fold(message.text) != fold(real):
                yield Pair(chat, real, message.text)


def ask(pair: Pair, title: str, rng: random.Random) -> bool:
    """Show a pair, and return whether the answer is right. Raises EOFError at the end of input."""
    shown = rng.sample([pair.real, pair.generated], 2)
    lines = ["", f"{title}, after this chat:", *(f"    {line}" for line in pair.chat[-NUM_LINES:])]
    print("\n".join([*lines, *(f"{number}:  {text}" for number, text in enumerate(shown, 1))]), file=sys.stderr)
    while True:
        print("Which one is real, 1 or 2? ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
        if not answer:
            raise EOFError
        if answer.strip() in ("1", "2"):
            return shown[int(answer) - 1] == pair.real


def describe(right: int, total: int) -> str:
    """Return the share of right answers, and what it means."""
    if not total:
        return "no answers"
    low, high = wilson_interval(right, total)
    share = f"{right} of {total} right: {right / total:.0%} (95% interval: {low:.0%} to {high:.0%}; guessing: 50%)."
    if low > 0.5:
        return f"{share} You can tell generated messages from real ones."
    if high < 0.5:
        return f"{share} Generated messages look more real to you than real ones."
    return f"{share} This may be guessing. With more pairs, the interval would be narrower."


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--model", default="models/gpt2-twitch-chatter", help="folder of the model")
    add("--dataset-dir", type=Path, default=Path("data/tokenized_datasets"), help="dataset with real chat")
    add("-n", "--num-pairs", type=positive_int, default=20, help="number of pairs; at most one for each test block")
    add("--seed", type=bounded(int, at_least=0, below=2**63), help="random seed, for the same pairs each time")
    add("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help="auto is a GPU if there is one")
    add_sampling_options(parser)
    return parser.parse_args()


def main() -> None:
    with plain_errors():
        args = parse_args()
        seed = int.from_bytes(os.urandom(4)) if args.seed is None else args.seed
        rng, answers = random.Random(seed), []
        with contextlib.redirect_stdout(sys.stderr):  # libraries log to stdout
            engine = load_engine(args.model, args.device)
        engine.seed(seed)
        pairs = make_pairs(engine, args.dataset_dir, read_sampling(args), rng)
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            for number, pair in zip(range(1, args.num_pairs + 1), pairs, strict=False):
                answers.append(ask(pair, f"Pair {number} of {args.num_pairs}", rng))
            if not answers:
                raise InputError(
                    f"the test split of {args.dataset_dir} has no pairs: its blocks contain single messages, or all "
                    "generated messages are like the real ones. Pass another --dataset-dir, or a higher --temperature."
                )
            if len(answers) < args.num_pairs:
                print(f"\nThe test split has no more than {len(answers)} pairs.", file=sys.stderr)
        print(file=sys.stderr)
        print(describe(sum(answers), len(answers)))


if __name__ == "__main__":
    main()
