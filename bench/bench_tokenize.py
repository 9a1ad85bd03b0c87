"""tokenize_logs.py beside datasets.map and a call a row, its encoder beside tiktoken, and how its cost grows.

Takes GPT-2's vocabulary from ../shared/gpt2-tokenizer, or else gpt2-medium from the hub.

python bench/bench_tokenize.py
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import ROOT, compare, grow, growth_table, parse_args, run, sample_logs, save, table, take_turns

sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared"
# GPT-2's pre-tokenizer as OpenAI published it; splits the same way as the Hugging Face one
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


def model_in(folder: Path) -> str:
    """Save GPT-2's tokenizer in the form of the hub; return where."""
    if not (SHARED / "gpt2-tokenizer").is_dir():
        return "gpt2-medium"
    from transformers import GPT2TokenizerFast

    GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer").save_pretrained(folder)
    return str(folder)


def parsed(logs_dir: Path, raw_dir: Path) -> dict[str, float]:
    """Parse logs; return how much there is to tokenize."""
    run([sys.executable, "parse_logs.py", "--logs-dir", logs_dir, "--output-dir", raw_dir])
    texts = [path.read_bytes() for path in raw_dir.glob("*.csv")]
    return {"MB": sum(map(len, texts)) / 1e6, "messages": sum(text.count(b"\n") - 1 for text in texts)}


def encoders(model: str, raw_dir: Path, rounds: int) -> list[dict]:
    """Time the encoding alone, in turns: our encoder, tiktoken and the Hugging Face tokenizer, on all cores each."""
    import numpy as np
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    from tokenize_logs import clean, encode, load_encoder, load_tokenizer, read_messages

    tokenizer = load_tokenizer(model)
    with tempfile.TemporaryDirectory() as folder:
        merges, vocabulary = sorted(tokenizer.backend_tokenizer.model.save(folder))
        ranks = data_gym_to_mergeable_bpe_ranks(merges, vocabulary)
    openai = tiktoken.Encoding("gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    encoder = load_encoder(tokenizer)
    batches = [
        [text for text in map(clean, batch) if text]
        for path in sorted(raw_dir.glob("*.csv"))
        for batch in read_messages(path)
    ]
    pieces = [[f"{text}\n" for text in batch[i : i + 5000]] for batch in batches for i in range(0, len(batch), 5000)]
    size = sum(len(text.encode()) + 1 for batch in batches for text in batch) / 1e6
    pool = ThreadPoolExecutor(os.cpu_count())

    def with_tiktoken() -> np.ndarray:
        return np.concatenate([*pool.map(lambda lines: openai.encode_to_numpy("".join(lines)), pieces)])

    ways: dict[str, Callable[[], object]] = {
        "load_encoder (fastokens)": lambda: np.concatenate([encoder(batch) for batch in batches]),
        "tiktoken": with_tiktoken,
        "tokenizers": lambda: [encode(tokenizer, batch) for batch in batches],
    }
    assert np.array_equal(ways["tiktoken"](), ways["load_encoder (fastokens)"]())
    return take_turns(ways, {"MB of text": size}, rounds)


def main() -> None:
    args = parse_args(__doc__)
    num_messages = 50_000 if args.quick else 1_000_000
    figures = {}
    with tempfile.TemporaryDirectory() as scratch, sample_logs(num_messages) as logs:
        scratch = Path(scratch)
        os.environ["HF_HOME"] = str(scratch / "cache")  # where datasets keeps copies of what it reads
        model = model_in(scratch / "gpt2")
        tokenize = [sys.executable, "tokenize_logs.py", "--output-dir", scratch / "ours", "--model", model]
        for name, logs_dir in {"real": SHARED / "chat/justlog", "sample": logs}.items():
            if not logs_dir.is_dir():
                continue
            raw = scratch / name
            units = parsed(logs_dir, raw)
            run([*tokenize, "--input-dir", raw])
            card = (scratch / "ours/README.md").read_text()
            units["tokens"] = int(re.search(r"\| tokens \| ([0-9,]+) \|", card)[1].replace(",", ""))

            def peer(kind: str, raw: Path = raw) -> list:
                # The cache goes first: each run is somebody's first.
                command = f"{sys.executable} bench/peers/{kind}.py {raw} {scratch}/peer {model}"
                script = f"rm -rf {scratch}/cache {scratch}/peer; {command}"
                return ["sh", "-c", script]

            commands = {
                "tokenize_logs.py": [*tokenize, "--input-dir", raw],
                "datasets.map": peer("tokenize_datasets"),
            }
            if name == "real":
                commands["a call a row"] = peer("tokenize_pandas")
            rows = compare(commands, units, args.rounds)
            figures[name] = {"units": units, "rows": rows}
            print(f"{name}: {units['MB']:.0f} MB of CSV, {units['messages']:,} messages\n\n{table(rows)}\n")
            if name == "real":
                figures["encoders"] = {"rows": encoders(model, raw, args.rounds)}
                print(f"encoding alone:\n\n{table(figures['encoders']['rows'])}\n")

        whole = b"".join(path.read_bytes() for path in (scratch / "sample").glob("*.csv")).split(b"\n", 1)

        def tokenize_some(millions: float) -> list:
            (scratch / "some").mkdir(exist_ok=True)
            size = int(len(whole[1]) * millions * 1e6 / num_messages)
            with (scratch / "some/chat.csv").open("wb") as csv_file:
                csv_file.write(whole[0] + b"\n")
                while size > 0:
                    piece = whole[1] if size >= len(whole[1]) else whole[1][: whole[1].rfind(b"\n", 0, size) + 1]
                    csv_file.write(piece)
                    size -= len(whole[1])
            return [*tokenize, "--input-dir", scratch / "some"]

        figures["growth"] = grow(tokenize_some, [0.05, 0.1, 0.2] if args.quick else [1, 2, 4, 8, 16])
        print(growth_table("million messages", figures["growth"]))
    if not args.quick:
        save("tokenize", figures, args.machine)


if __name__ == "__main__":
    main()
