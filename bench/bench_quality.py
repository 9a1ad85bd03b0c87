"""Compare the chatter with what people use instead: bits a byte of held-out chat, and how often a message is a copy.

Beside the tiny model, which train.py trains as `make demo` does: Kneser-Ney n-grams of the same tokens, and a Markov
chain of order 2 on words, smoothed with Kneser-Ney as well, and with letters for words it never saw. All read the same
text and are judged on the same messages, each with the ones before it in its block.

python bench/bench_quality.py
"""

import csv
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from harness import ROOT, parse_args, run, save, table

sys.path.insert(0, str(ROOT))
from generate import generate, load
from train import load_dataset

CHAT = ROOT.parent / "shared/chat/justlog"  # real logs, where they are at hand
MODEL = ROOT / "models/tiny-gpt2"
MAX_MESSAGES = 48_000  # of each chat, as many as the sample has
NUM_DRAWS = 500
END = "\n"  # of a message, as a word
BORDER = ()  # before the beginning of a text; equals no symbol


class KneserNey:
    """Interpolated Kneser-Ney n-grams, a discount an order (Chen and Goodman, 1998).

    Counts n-grams at the highest order, and below it the different symbols that an n-gram follows. `base` is the
    probability of a symbol that nothing else is known of.
    """

    def __init__(self, texts: Iterable[Sequence[Hashable]], order: int, base: Callable[[Hashable], float]) -> None:
        self.order, self.base = order, base
        counts = [Counter() for _ in range(order)]  # of n-grams of length 1, 2, ...
        for text in texts:
            symbols = (*[BORDER] * (order - 1), *text)
            counts[-1].update(zip(*(symbols[place:] for place in range(order)), strict=False))
        for longer, shorter in zip(counts[:0:-1], counts[-2::-1], strict=True):
            shorter.update(ngram[1:] for ngram in longer)
        self.next = [defaultdict(dict) for _ in counts]  # context -> symbol -> count
        for ngrams, of in zip(counts, self.next, strict=True):
            for ngram, count in ngrams.items():
                of[ngram[:-1]][ngram[-1]] = count
        self.totals = [{context: sum(of.values()) for context, of in each.items()} for each in self.next]
        ones_and_twos = [[sum(count == n for count in ngrams.values()) for n in (1, 2)] for ngrams in counts]
        self.discounts = [one / max(one + 2 * two, 1) for one, two in ones_and_twos]

    def probability(self, context: tuple, symbol: Hashable) -> float:
        p = self.base(symbol)
        for length, (followers, totals, discount) in enumerate(
            zip(self.next, self.totals, self.discounts, strict=True)
        ):
            known = followers.get(context[len(context) - length :])
            if known is None:
                break
            total = totals[context[len(context) - length :]]
            p = (max(known.get(symbol, 0) - discount, 0) + discount * len(known) * p) / total
        return p

    def bits(self, text: Sequence[Hashable]) -> float:
        symbols = (*[BORDER] * (self.order - 1), *text)
        contexts = (symbols[place : place + self.order - 1] for place in range(len(text)))
        return -sum(math.log2(self.probability(*pair)) for pair in zip(contexts, text, strict=True))

    def draw(self, end: Hashable, rng: random.Random) -> list[Hashable]:
        """Draw a text up to its end, each symbol from the longest context, shortened with the chance of back-off."""
        text = [BORDER] * (self.order - 1)
        while text[-1] != end:
            for length in range(self.order - 1, -1, -1):
                context = tuple(text[len(text) - length :])
                known = self.next[length].get(context)
                backs_off = (
                    known is None or rng.random() < self.discounts[length] * len(known) / self.totals[length][context]
                )
                if length == 0 or not backs_off:
                    known = known or self.next[0][()]
                    weights = [max(count - self.discounts[length], 1e-9) for count in known.values()]
                    text += rng.choices([*known], weights)
                    break
        return text[self.order - 1 : -1]


def messages_of(rows: Iterable[dict], tokenizer) -> list[list[str]]:
    """Decode blocks into their messages."""
    pad = tokenizer.pad_token_id
    texts = tokenizer.batch_decode([row["input_ids"][row["input_ids"] != pad][1:].tolist() for row in rows])
    return [text.split("\n")[:-1] for text in texts]


def word_model(train: list[list[str]]) -> KneserNey:
    """Learn words from blocks of messages; a word that was never seen is spelled, letter behind letter."""
    words = [[word for message in block for word in (*message.split(" "), END)] for block in train]
    spelled = {word: [*word.encode(), END] for block in words for word in block}
    letters = KneserNey(spelled.values(), 4, lambda _: 1 / 257)
    return KneserNey(words, 3, lambda word: 2 ** -letters.bits([*word.encode(), END]))


def compare(name: str, raw: Path, scratch: Path) -> list[dict]:
    """Train the three on the CSVs in `raw`, and judge them."""
    dataset, chatter = scratch / f"{name}-dataset", scratch / f"{name}-chatter"
    tokenize = [
        "tokenize_logs.py",
        "--input-dir",
        raw,
        "--output-dir",
        dataset,
        "--model",
        MODEL,
        "--block-size",
        "128",
    ]
    run([sys.executable, *tokenize])
    train = ["train.py", "--dataset-dir", dataset, "--model", MODEL, "--output-dir", chatter]
    seconds = run([sys.executable, *train, "--micro-batch-size", "24", "--learning-rate", "3e-3"]).seconds
    blocks, tokenizer = load_dataset(dataset)
    pad, newline = tokenizer.pad_token_id, tokenizer.encode("\n")[0]
    ids = {split: [row["input_ids"][row["input_ids"] != pad][1:].tolist() for row in blocks[split]] for split in blocks}
    messages = {split: messages_of(blocks[split], tokenizer) for split in blocks}
    size = sum(len(message.encode()) + 1 for block in messages["test"] for message in block)
    known = {message for block in messages["train"] for message in block}

    def copies(drawn: Iterable[str]) -> float:
        drawn = list(drawn)
        return sum(message in known for message in drawn) / len(drawn)

    history = json.loads((chatter / "metrics.json").read_text())["history"]
    loss = [entry["eval_loss"] for entry in history if "eval_loss" in entry][-1]
    engine = load(chatter, "cpu")
    engine.seed(0)
    rows = [
        {
            "model": "train.py, models/tiny-gpt2",
            "bits a byte": loss / math.log(2) * sum(map(len, ids["test"])) / size,
            "copies": copies(message.text for message in generate(engine, num_messages=NUM_DRAWS)),
            "seconds to train": seconds,
        }
    ]
    rng = random.Random(0)
    for order in (3, 5):
        started = time.perf_counter()
        ngrams = KneserNey(ids["train"], order, lambda _: 1 / len(tokenizer))
        seconds = time.perf_counter() - started
        rows.append(
            {
                "model": f"Kneser-Ney, {order}-grams of tokens",
                "bits a byte": sum(map(ngrams.bits, ids["test"])) / size,
                "copies": copies(tokenizer.decode(ngrams.draw(newline, rng)) for _ in range(NUM_DRAWS)),
                "seconds to train": seconds,
            }
        )
    started = time.perf_counter()
    words = word_model(messages["train"])
    seconds = time.perf_counter() - started
    texts = [[word for message in block for word in (*message.split(" "), END)] for block in messages["test"]]
    rows.append(
        {
            "model": "Markov chain of order 2, words",
            "bits a byte": sum(map(words.bits, texts)) / size,
            "copies": copies(" ".join(words.draw(END, rng)) for _ in range(NUM_DRAWS)),
            "seconds to train": seconds,
        }
    )
    real = [message for block in messages["test"] for message in block]
    rows.append({"model": "the held-out messages themselves", "bits a byte": "", "copies": copies(real)})
    rows[-1]["seconds to train"] = ""
    num_messages = sum(map(len, messages["train"]))
    print(f"{name}: {num_messages:,} messages to learn from, {len(real):,} held out, {size:,} bytes\n\n{table(rows)}\n")
    return rows


def first_messages(raw: Path, num_messages: int, output: Path) -> None:
    """Take as many messages from each CSV as make up `num_messages`, in the order of the chat."""
    output.mkdir()
    csv_paths = sorted(raw.glob("*.csv"))
    for csv_path in csv_paths:
        with (
            csv_path.open(encoding="utf-8", newline="") as file,
            (output / csv_path.name).open("w", newline="") as copy,
        ):
            writer = csv.writer(copy)
            for number, row in enumerate(csv.reader(file)):
                if number <= num_messages // len(csv_paths):
                    writer.writerow(row)


def main() -> None:
    args = parse_args(__doc__)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for chat, logs in {"sample": ROOT / "data/sample_logs", "real": CHAT}.items():
            if not logs.is_dir():
                continue
            run([sys.executable, "parse_logs.py", "--logs-dir", logs, "--output-dir", scratch / f"{chat}-raw"])
            some = scratch / f"{chat}-some"
            first_messages(scratch / f"{chat}-raw", 4_000 if args.quick else MAX_MESSAGES, some)
            figures[chat] = {"rows": compare(chat, some, scratch)}
    if not args.quick:
        save("quality", figures, args.machine)


if __name__ == "__main__":
    main()
