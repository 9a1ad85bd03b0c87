"""Compare a chatter before and after training with Kneser-Ney 5-grams of the same training blocks, in bits per byte.

The bits per byte of the chatter are the ones that train.py measured, in its metrics.json. The n-grams predict the same
test blocks, token by token.

    python bench/compare_pretrained.py models/pretrained/gpt2-twitch-chatter data/pretrained/tokenized_datasets
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import machine, save, table
from peers.kneser_ney import KneserNey
from quality_bits import bits_by_epoch, text_ids

from chatter.cli import make_parser
from chatter.tokens.dataset import load_blocks
from chatter.tokens.text_size import count_text
from chatter.training.outputs import METRICS

ORDER = 5


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("model", type=Path, help="folder that train.py wrote")
    parser.add_argument("dataset", type=Path, help="dataset that it was trained on")
    parser.add_argument("--machine", help="save the figures, under this name, for bench/README.md")
    parser.set_defaults(quick=False)
    args = parser.parse_args()
    metrics = json.loads((args.model / METRICS).read_text(encoding="utf-8"))
    blocks, tokenizer = load_blocks(args.dataset)
    ids = {name: text_ids(split, tokenizer) for name, split in blocks.items()}
    num_tokens = {name: sum(map(len, split)) for name, split in ids.items()}
    print(f"training the {ORDER}-grams", file=sys.stderr)
    ngrams = KneserNey(ids["train"], ORDER, lambda _: 1 / len(tokenizer))
    bits = sum(sum(ngrams.bits(block)) for block in ids["test"])
    num_bytes = count_text(blocks["test"], tokenizer).total.bytes
    rows = {
        "the pretrained model": bits_by_epoch(args.model)[0],
        "after training": metrics["test"]["bits per byte"],
        f"Kneser-Ney {ORDER}-grams of the same training tokens": bits / num_bytes,
    }
    shown = "--epochs", "--batch-size", "--learning-rate", "precision"
    options = ", ".join(f"{name.removeprefix('--')} {metrics['run'][name]}" for name in shown)
    setting = f"{num_tokens['train']:,} training tokens and {num_tokens['test']:,} test tokens; {options}"
    about = machine()
    rows = [{"model": name, "bits per byte of the test split": f"{value:.3f}"} for name, value in rows.items()]
    print(table(rows))
    print(f"\n{setting}\n{about['cores']} cores, {about['cpu']}, {about['memory GB']} GB")
    if args.machine:
        save("pretrained", {"rows": rows, "setting": setting}, args)


if __name__ == "__main__":
    main()
