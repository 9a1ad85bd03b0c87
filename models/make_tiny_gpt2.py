"""Write models/tiny-gpt2: a GPT-2 small enough to train on a CPU in a minute or two. It has no weights.

The byte-level BPE tokenizer is learned from the sample chat, as GPT-2's was from web pages (same pre-tokenizer, no
padding token, <|endoftext|> as the last id); train.py starts it from random weights.

    python models/make_tiny_gpt2.py
"""

import argparse
import csv
from pathlib import Path

VOCAB_SIZE = 1536  # or less, where the chat has no more to merge
# No dropout: a model this small never overfits the sample, and on a CPU dropout takes half of a step's time.
DROPOUT = dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
CONFIG = dict(n_positions=512, n_embd=128, n_layer=4, n_head=4, **DROPOUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input-dir", type=Path, default=Path("data/demo/raw"), help="CSVs to learn the tokenizer from"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("models/tiny-gpt2"), help="folder to write")
    args = parser.parse_args()

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import GPT2Config, GPT2Tokenizer

    messages = []
    for path in sorted(args.input_dir.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as rows:
            messages += [row["message"] for row in csv.DictReader(rows)]
    if not messages:
        parser.error(f"no messages in {args.input_dir}. Run make sample, or pass another --input-dir.")

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(messages, trainer)
    bpe.add_special_tokens(["<|endoftext|>"])
    tokenizer = GPT2Tokenizer(tokenizer_object=bpe, model_max_length=CONFIG["n_positions"])
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.save_pretrained(args.output_dir)
    GPT2Config(**CONFIG, vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end).save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
