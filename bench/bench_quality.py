"""Compare the chatter with what people use instead: bits a byte of held-out chat, and how often a message is a copy.

Beside a model of models/tiny-gpt2's shape, which train.py trains from random weights: Kneser-Ney n-grams of the same
tokens, and a Markov chain of order 2 on words, smoothed with Kneser-Ney as well, and with letters for words it never
saw. All read the same text and are judged on the same messages, each with the ones before it in its block.

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
from functools import partial
from pathlib import Path

import numpy as np
import torch
from harness import ROOT, parse_args, run, save, table
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

sys.path.insert(0, str(ROOT))
from generate import generate, load, load_weights
from tokenize_logs import newline_of
from train import load_dataset

CHAT = ROOT.parent / "shared/chat/justlog"  # real logs, where they are at hand
EPOCHS = {"sample": 3, "real": 16}  # through each chat; of real chat, more make it learn by heart
# Many small steps: the chat is small. DeepSpeed comes to the same weights, and takes three times as long for them.
STEPS = ["--batch-size", "8", "--learning-rate", "2e-3", "--no-deepspeed"]
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

    def bits(self, text: Sequence[Hashable]) -> list[float]:
        """Say how many bits each symbol of a text takes."""
        symbols = (*[BORDER] * (self.order - 1), *text)
        contexts = (symbols[place : place + self.order - 1] for place in range(len(text)))
        return [-math.log2(self.probability(*pair)) for pair in zip(contexts, text, strict=True)]

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


def messages_of(ids: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """Decode the tokens of blocks into their messages."""
    return [text.split("\n")[:-1] for text in tokenizer.batch_decode(ids)]


def word_model(train: list[list[str]]) -> KneserNey:
    """Learn words from blocks of messages; a word that was never seen is spelled, letter behind letter."""
    words = [*map(words_of, train)]
    spelled = {word: [*word.encode(), END] for block in words for word in block}
    letters = KneserNey(spelled.values(), 4, lambda _: 1 / 257)
    return KneserNey(words, 3, lambda word: 2 ** -sum(letters.bits([*word.encode(), END])))


def words_of(block: list[str]) -> list[str]:
    return [word for message in block for word in (*message.split(" "), END)]


def chatter_bits(network: PreTrainedModel, end: int, ids: list[int]) -> list[float]:
    """Say how many bits each token of a block takes."""
    with torch.inference_mode():
        logits = network(torch.tensor([[end, *ids]])).logits[0, :-1]  # (num_tokens, vocab_size)
        return (F.cross_entropy(logits, torch.tensor(ids), reduction="none") / math.log(2)).tolist()


def sum_by_message(symbols: Sequence[Hashable], bits: Iterable[float], end: Hashable) -> list[float]:
    """Add up the bits of the symbols of each message, `end` included."""
    sums = [0.0]
    for symbol, some in zip(symbols, bits, strict=True):
        sums[-1] += some
        if symbol == end:
            sums.append(0.0)
    return sums[:-1]


def compare(chat: str, raw: Path, epochs: int, scratch: Path) -> dict:
    """Train the models on the CSVs in `raw`, and judge them."""
    tiny, dataset, chatter = (scratch / f"{chat}-{part}" for part in ("tiny", "dataset", "chatter"))
    run([sys.executable, "models/make_tiny_gpt2.py", "--input-dir", raw, "--output-dir", tiny])
    tokenize = ["tokenize_logs.py", "--input-dir", raw, "--output-dir", dataset, "--block-size", "128"]
    run([sys.executable, *tokenize, "--model", tiny])
    train = ["train.py", "--dataset-dir", dataset, "--model", tiny, "--output-dir", chatter, "--epochs", str(epochs)]
    seconds = run([sys.executable, *train, *STEPS]).seconds
    blocks, tokenizer = load_dataset(dataset)
    pad, newline = tokenizer.pad_token_id, newline_of(tokenizer)
    ids = {split: [row["input_ids"][row["input_ids"] != pad][1:].tolist() for row in blocks[split]] for split in blocks}
    messages = {split: messages_of(ids[split], tokenizer) for split in ids}
    held_out = [message for block in messages["test"] for message in block]
    sizes = np.array([len(message.encode()) + 1 for message in held_out])
    known = {message for block in messages["train"] for message in block}
    is_new = np.array([message not in known for message in held_out])
    rows = []

    def judge(model: str, seconds: float, bits_of: Callable, texts: list, end: Hashable, drawn: Iterable[str]) -> None:
        bits = np.concatenate([sum_by_message(text, bits_of(text), end) for text in texts])
        drawn = [*drawn]
        rows.append(
            {
                "model": model,
                "bits a byte": bits.sum() / sizes.sum(),
                "of new messages": bits[is_new].sum() / sizes[is_new].sum(),
                "copies": sum(message in known for message in drawn) / len(drawn),
                "seconds to train": seconds,
            }
        )

    engine = load(chatter, "cpu")
    engine.seed(0)
    bits_of = partial(chatter_bits, load_weights(chatter, "cpu"), tokenizer.eos_token_id)
    said = (message.text for message in generate(engine, num_messages=NUM_DRAWS))
    judge(f"train.py, {epochs} epochs", seconds, bits_of, ids["test"], newline, said)
    rng = random.Random(0)
    words = [*map(words_of, messages["test"])]
    # What learns, the held-out text in its symbols, their end, and how to make text of them
    peers = {
        f"Kneser-Ney, {order}-grams of tokens": (
            partial(KneserNey, ids["train"], order, lambda _: 1 / len(tokenizer)),
            ids["test"],
            newline,
            tokenizer.decode,
        )
        for order in (3, 5)
    }
    peers["Markov chain of order 2, words"] = partial(word_model, messages["train"]), words, END, " ".join
    for name, (learn, texts, end, text_of) in peers.items():
        started = time.perf_counter()
        model = learn()
        seconds = time.perf_counter() - started
        judge(name, seconds, model.bits, texts, end, (text_of(model.draw(end, rng)) for _ in range(NUM_DRAWS)))

    history = json.loads((chatter / "metrics.json").read_text())["history"]
    to_bits = sum(map(len, ids["test"])) / sizes.sum() / math.log(2)
    by_epoch = [entry["eval_loss"] * to_bits for entry in history if "eval_loss" in entry]
    setting = (
        f"{sum(map(len, messages['train'])):,} messages to learn from, {len(held_out):,} held out; "
        f"{1 - is_new.mean():.0%} of those stand in the former as well"
    )
    return {"setting": setting, "rows": rows, "bits a byte by epoch": by_epoch}


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
            figures[chat] = compare(chat, some, 1 if args.quick else EPOCHS[chat], scratch)
            print(f"{chat}: {figures[chat]['setting']}\n\n{table(figures[chat]['rows'])}\n")
    if not args.quick:
        save("quality", figures, args.machine)


if __name__ == "__main__":
    main()
