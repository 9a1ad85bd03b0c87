"""Time tokenize_logs.py next to datasets.map, its encoder next to tiktoken, and on growing input.

python bench/bench_tokenize.py
python bench/bench_tokenize.py --quick
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from harness import (
    Command,
    compare,
    find_chats,
    find_model,
    growth_table,
    parse_args,
    run,
    sample_logs,
    save,
    table,
    time_growth,
    time_in_turns,
)

from chatter.tokens.chat import clean, encode
from chatter.tokens.dataset import DATA_SUMMARY
from chatter.tokens.tables import read_columns
from chatter.tokens.tokenizer import load_tokenizer, save_encoder

# GPT-2's pre-tokenizer as OpenAI published it. It splits text like the Hugging Face one.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def parse_and_measure(logs_dir: Path, raw_dir: Path) -> dict[str, float]:
    """Parse logs, and return how much there is to tokenize."""
    run([sys.executable, "parse_logs.py", "--logs-dir", logs_dir, "--output-dir", raw_dir])
    texts = [path.read_bytes() for path in raw_dir.glob("*.csv")]
    return {"MB": sum(map(len, texts)) / 1e6, "messages": sum(text.count(b"\n") - 1 for text in texts)}


def time_encoders(model: str, raw_dir: Path, rounds: int) -> list[dict]:
    """Time the encoding alone, on all cores: our encoder, tiktoken, and the Hugging Face tokenizer."""
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    tokenizer = load_tokenizer(model)
    with tempfile.TemporaryDirectory() as folder:
        merges, vocabulary = sorted(tokenizer.backend_tokenizer.model.save(folder))
        ranks = data_gym_to_mergeable_bpe_ranks(merges, vocabulary)
        encoder = save_encoder(tokenizer, Path(folder, "tokenizer.json")).load()
    openai = tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    batches = [
        [text for text in map(clean, columns["message"].to_pylist()) if text]
        for path in sorted(raw_dir.glob("*.csv"))
        for columns in read_columns(path)
    ]
    pieces = [[f"{text}\n" for text in batch[i : i + 5000]] for batch in batches for i in range(0, len(batch), 5000)]
    size = sum(len(text.encode()) + 1 for batch in batches for text in batch) / 1e6
    pool = ThreadPoolExecutor(os.cpu_count())

    def encode_with_fastokens() -> np.ndarray:
        return np.concatenate([encoder(batch) for batch in batches])

    def encode_with_tiktoken() -> np.ndarray:
        return np.concatenate([*pool.map(lambda lines: openai.encode_to_numpy("".join(lines)), pieces)])

    def encode_with_tokenizers() -> list[list[list[int]]]:
        return [encode(tokenizer, batch) for batch in batches]

    assert np.array_equal(encode_with_tiktoken(), encode_with_fastokens())
    calls = {
        "the encoder of tokenize_logs.py (fastokens)": encode_with_fastokens,
        "tiktoken": encode_with_tiktoken,
        "tokenizers": encode_with_tokenizers,
    }
    return time_in_turns(calls, {"MB of text": size}, rounds)


def main() -> None:
    args = parse_args(__doc__)
    num_messages = 20_000 if args.quick else 2_000_000
    figures = {}
    with tempfile.TemporaryDirectory() as folder, sample_logs(num_messages) as logs:
        scratch = Path(folder)
        os.environ["HF_HOME"] = str(scratch / "cache")  # where datasets keeps copies of what it reads
        model = find_model(scratch / "gpt2")
        tokenize = [sys.executable, "tokenize_logs.py", "--output-dir", scratch / "ours", "--model", model]
        chats = find_chats(logs, args, scratch / "logs", 170_000_000)  # 2.5 million messages
        for name, logs_dir in chats.items():
            raw = scratch / name
            units = parse_and_measure(logs_dir, raw)
            run([*tokenize, "--input-dir", raw])
            units["tokens"] = json.loads((scratch / "ours" / DATA_SUMMARY).read_text())["tokens"]

            def peer(kind: str, raw: Path = raw) -> Command:
                # Without a cache, as in the first run of a user.
                command = f"{sys.executable} bench/peers/{kind}.py {raw} {scratch}/peer {model}"
                return ["sh", "-c", f"rm -rf {scratch}/cache {scratch}/peer; {command}"]

            commands = {
                "tokenize_logs.py": [*tokenize, "--input-dir", raw],
                "datasets.map": peer("tokenize_datasets"),
            }
            rows = compare(commands, units, args.rounds)
            figures[name] = {"units": units, "rows": rows}
            print(f"{name} chat: {units['MB']:.0f} MB of CSV, {units['messages']:,} messages\n\n{table(rows)}\n")
            if args.quick or name == "real":
                figures["encoders"] = {"rows": time_encoders(model, raw, args.rounds)}
                print(f"encoding alone:\n\n{table(figures['encoders']['rows'])}\n")

        csvs = b"".join(path.read_bytes() for path in (scratch / "sample").glob("*.csv"))
        header, rows = csvs.split(b"\n", 1)

        def tokenize_millions(millions: float) -> Command:
            """Write a CSV of this many messages, the sample over and over, and return the command that tokenizes it."""
            (scratch / "some").mkdir(exist_ok=True)
            size = int(len(rows) * millions * 1e6 / num_messages)
            with (scratch / "some/chat.csv").open("wb") as csv_file:
                csv_file.write(header + b"\n")
                while size > 0:
                    piece = rows if size >= len(rows) else rows[: rows.rfind(b"\n", 0, size) + 1]
                    csv_file.write(piece)
                    size -= len(rows)
            return [*tokenize, "--input-dir", scratch / "some"]

        figures["growth"] = time_growth(tokenize_millions, [0.02, 0.05, 0.1] if args.quick else [1, 4, 16])
        print(growth_table("million messages", figures["growth"]))
    save("tokenize", figures, args)


if __name__ == "__main__":
    main()
