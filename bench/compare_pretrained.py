"""Compare a chatter before and after training with Kneser-Ney 5-grams of the same training blocks, in bits per byte.

The bits per byte of the chatter are the ones that train.py measured, in its metrics.json. The n-grams predict the same
test blocks, token by token.

    python bench/compare_pretrained.py models/pretrained/twitch-chatter data/pretrained/tokenized_datasets
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import machine, table
from peers.kneser_ney import KneserNey

from chatter.cli import make_parser
from chatter.tokens.dataset import load_blocks
from chatter.training.outputs import METRICS

ORDER = 5


def measured(metrics: dict) -> tuple[float, float]:
    """Return the bits per byte of the test split before training, and of the saved model.

    train.py saves only the latter. The loss before training is converted with the same factor.
    """
    after = metrics["test"]["bits per byte"]
    first = next(entry["eval_loss"] for entry in metrics["history"] if "eval_loss" in entry)
    return after * first / metrics["test"]["loss"], after


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path, help="folder that train.py wrote")
    parser.add_argument("dataset", type=Path, help="dataset that it was trained on")
    args = parser.parse_args()
    metrics = json.loads((args.model / METRICS).read_text(encoding="utf-8"))
    before, after = measured(metrics)
    blocks, tokenizer = load_blocks(args.dataset)
    # Without the start and the padding, which train.py does not count either
    ids = {
        name: [row[1:][row[1:] != tokenizer.pad_token_id].tolist() for row in split["input_ids"]]
        for name, split in blocks.items()
    }
    num_tokens = {name: sum(map(len, split)) for name, split in ids.items()}
    print(f"training the {ORDER}-grams", file=sys.stderr)
    ngrams = KneserNey(ids["train"], ORDER, lambda _: 1 / len(tokenizer))
    bits = sum(sum(ngrams.bits(block)) for block in ids["test"])
    texts = tokenizer.backend_tokenizer.decode_batch(ids["test"], skip_special_tokens=False)
    num_bytes = sum(len(text.encode()) for text in texts)
    rows = {
        "the pretrained model": before,
        "after training": after,
        f"Kneser-Ney {ORDER}-grams of the same training tokens": bits / num_bytes,
    }
    shown = "--epochs", "--batch-size", "--learning-rate", "precision"
    options = ", ".join(f"{name.removeprefix('--')} {metrics['run'][name]}" for name in shown)
    about = machine()
    print(table([{"model": name, "bits per byte of the test split": f"{value:.3f}"} for name, value in rows.items()]))
    print(
        f"\n{num_tokens['train']:,} training tokens and {num_tokens['test']:,} test tokens; {options}\n"
        f"{about['cores']} cores, {about['cpu']}, {about['memory GB']} GB"
    )


if __name__ == "__main__":
    main()
