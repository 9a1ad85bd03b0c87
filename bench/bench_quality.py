"""Compare a chatter with n-gram models: bits per byte of held-out chat, how many of its messages are copies, and how
well a classifier tells them from real ones.

On made-up chat, the chatter is a tiny model that starts from random weights. On real chat, it is SmolLM2-135M, trained
as by `make pretrained`. Its peers are Kneser-Ney n-grams of the same tokens, and a Markov chain of order 2 on words,
which is smoothed in the same way and spells words that it has never seen. All of them learn from the same blocks, and
predict the same messages, each after the messages before it in its block. The classifier needs scikit-learn, which is
installed in ~/.cache.

    python bench/bench_quality.py
    python bench/bench_quality.py --logs-dir ~/logs
    python bench/bench_quality.py --quick
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from harness import ROOT, find_chats, parse_args, run, save, table
from peers.kneser_ney import KneserNey
from quality_bits import bits_by_epoch, decode_blocks, measure_bits, message_bits, text_ids, token_bits
from quality_channels import compare_headers
from quality_judge import compare_with_chat
from quality_sampling import HELD_OUT, SAMPLINGS, compare_sampling, cut_blocks, sampling_name
from quality_splits import compare_splits
from quality_start import Start, start_pretrained, start_small

from chatter.generation.choose_engine import load_engine
from chatter.generation.engine import Sampling
from chatter.generation.transformers_engine import load_weights
from chatter.tokens.chat import newline_id
from chatter.tokens.dataset import load_blocks
from chatter.wording.training_messages import TrainingMessages, has_enough_words
from generate import generate

NUM_SAMPLES = 500
END = "\n"  # of a message, as a word
JUDGED = {  # name -> temperature
    "generate.py": Sampling.temperature,
    "generate.py --temperature 0.7": 0.7,
    "generate.py --temperature 1.0": 1.0,
}


def split_words(messages: list[str]) -> list[str]:
    """Return the words of messages, and END after each message."""
    return [word for message in messages for word in (*message.split(" "), END)]


def learn_words(blocks: list[list[str]]) -> KneserNey:
    """Return a Markov chain of order 2 on the words of blocks of messages.

    The probability of a word that it has never seen comes from 4-grams of the letters of all words.
    """
    words = [*map(split_words, blocks)]
    spelled = {word: [*word.encode(), END] for block in words for word in block}
    letters = KneserNey(spelled.values(), 4, lambda _: 1 / 257)
    return KneserNey(words, 3, lambda word: 2 ** -sum(letters.bits([*word.encode(), END])))


def first_messages(symbols: Sequence[Hashable], num_messages: int, end: Hashable) -> Sequence[Hashable]:
    """Return the symbols of the first messages of a block, including the `end` of each."""
    ends = [place for place, symbol in enumerate(symbols) if symbol == end]
    return symbols[: ends[num_messages - 1] + 1]


def share_of_copies(messages: list[str], train_messages: set[str]) -> dict[str, float]:
    """Return the share of messages that are in the training data, and of those that are long enough for --no-copies."""
    copied = [message for message in messages if message in train_messages]
    long = [message for message in copied if has_enough_words(message)]
    return {"copies": len(copied) / len(messages), "copies of 4 or more words": len(long) / len(messages)}


def compare_models(
    raw: Path, start: Start, scratch: Path, num_samples: int, samplings: Sequence[tuple[float, float]]
) -> dict:
    """Train the chatter and its peers on the CSVs in `raw`, and evaluate them on the test blocks.

    `samplings` are the temperatures and top-p to compare.
    """
    dataset, chatter = scratch / "dataset", scratch / "chatter"
    start.tokenize(raw, dataset)
    start.train(dataset, chatter)
    blocks, tokenizer = load_blocks(dataset)
    newline = newline_id(tokenizer)
    ids = {name: text_ids(split, tokenizer) for name, split in blocks.items()}
    messages = {split: decode_blocks(ids[split], tokenizer) for split in ids}
    test_messages = [message for block in messages["test"] for message in block]
    train_messages = {message for block in messages["train"] for message in block}
    rows = []

    def evaluate(
        model: str,
        compute_bits: Callable[[Sequence[Hashable]], list[float]],
        texts: list[Sequence[Hashable]],
        end: Hashable,
        sampled: Iterable[str],
    ) -> None:
        """Add a row. `texts` are the test blocks in the symbols of the model; the symbol `end` ends a message."""
        bits = np.concatenate([message_bits(text, compute_bits(text), end) for text in texts])
        rows.append(
            {
                "model": model,
                **measure_bits(bits, test_messages, train_messages),
                **share_of_copies([*sampled], train_messages),
            }
        )

    engine = load_engine(chatter, "cpu")
    engine.seed(0)
    compute_bits = partial(token_bits, load_weights(chatter, "cpu"), tokenizer.bos_token_id)
    chatter_name = f"train.py, {start.describe()}"
    for name, said in {chatter_name: (), "the same, --no-copies": TrainingMessages.open(chatter)}.items():
        sampled = (message.text for message in generate(engine, num_messages=num_samples, training_messages=said))
        evaluate(name, compute_bits, ids["test"], newline, sampled)

    rng = random.Random(0)
    # Name -> how to train it, the test blocks in its symbols, the symbol that ends a message, and symbols -> text
    peers = {
        f"Kneser-Ney, {order}-grams of tokens": (
            partial(KneserNey, ids["train"], order, lambda _: 1 / len(tokenizer)),
            ids["test"],
            newline,
            tokenizer.decode,
        )
        for order in (3, 5)
    }
    words = [*map(split_words, messages["test"])]
    cuts, answers = cut_blocks(messages["test"], num_samples), {}
    peers["Markov chain of order 2, words"] = partial(learn_words, messages["train"]), words, END, " ".join
    for name, (learn, texts, end, to_text) in peers.items():
        model = learn()
        sampled = [to_text(model.sample(end, rng)) for _ in range(num_samples)]
        evaluate(name, model.bits, texts, end, sampled)
        chats = [first_messages(texts[number], place, end) for number, place in cuts]
        answers[name] = [to_text(model.sample(end, rng, chat)) for chat in chats]

    num_known = sum(message in train_messages for message in test_messages)
    setting = (
        f"{sum(map(len, messages['train'])):,} training messages, {len(test_messages):,} test messages; "
        f"{num_known / len(test_messages):.0%} of the test messages also occur in the training data"
    )
    sampling, said = compare_sampling(engine, train_messages, messages["test"], num_samples, samplings)
    judged = {name: said[sampling_name(temperature, Sampling.top_p)] for name, temperature in JUDGED.items()} | answers
    return {
        "setting": setting,
        "rows": rows,
        "bits per byte by epoch": bits_by_epoch(chatter),
        "sampling": sampling,
        "judge": compare_with_chat(judged, said[HELD_OUT], test_messages, train_messages, raw, scratch),
    }


def main() -> None:
    args = parse_args(__doc__, rounds=None)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for chat, logs in find_chats(ROOT / "data/sample_logs", args).items():
            scratch, is_small = Path(folder, chat), chat == "sample"
            raw = scratch / "raw"
            run([sys.executable, "parse_logs.py", "--logs-dir", logs, "--output-dir", raw])
            start = start_small(raw, scratch / "tiny", args.quick) if is_small else start_pretrained(args.quick)
            num_samples = 50 if args.quick else NUM_SAMPLES
            few = [(temperature, Sampling.top_p) for temperature in JUDGED.values()]
            samplings = SAMPLINGS if is_small and not args.quick else few
            figures[chat] = compare_models(raw, start, scratch, num_samples, samplings)
            save("quality", figures, args)  # each part takes minutes
            figures[chat]["splits"] = compare_splits(raw, start, scratch)
            save("quality", figures, args)
            if is_small:  # three more chatters, which for the pretrained model would take half an hour
                figures[chat]["headers"] = compare_headers(raw, start, scratch, num_samples)
            print(f"{chat} chat: {figures[chat]['setting']}\n\n{table(figures[chat]['rows'])}\n")
            print(f"{table(figures[chat]['sampling'])}\n")
            for part in filter(figures[chat].get, ("judge", "headers", "splits")):
                print(f"{figures[chat][part]['setting']}\n\n{table(figures[chat][part]['rows'])}\n")
            save("quality", figures, args)


if __name__ == "__main__":
    main()
